"""What showing the network mirrored patches brings: `INPAINT_DATA=... python -m benchmarks.mirrored optical`.

Shipped weights on the held-out tiles of their training config; gain over the base fill in dB, mean over cases.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pipeline.models._unet import ResidualUNet
from pipeline.models.base import find_weights
from pipeline.training.config import Synthetic, TrainingConfig, read_config
from pipeline.training.data import HOLE, SCALE, TARGET, Sample, samples
from pipeline.training.validation import INPUT

ROOT = Path(__file__).resolve().parents[1]
ONE_SCENE = {2: Synthetic(synthetic="optical", count=1, tiles=1), 3: Synthetic(synthetic="brain", count=1, tiles=1)}
"""Training data in place of the config's: held-out cases do not depend on it."""
Axes = tuple[int, ...]


def views(ndim: int) -> dict[str, list[Axes]]:
    """Return sets of mirror images, as axes of `(n, c, *spatial)`."""
    every = [tuple(2 + a for a in range(ndim) if turned[a]) for turned in product((False, True), repeat=ndim)]
    turned_twice = [axes for axes in every if len(axes) % 2 == 0]
    sets = {"as it is": every[:1], "and mirrored on all axes": [every[0], every[-1]]}
    return sets | ({"four": every} if ndim == 2 else {"four": turned_twice, "all eight": every})


@torch.inference_mode()
def gains(network: ResidualUNet, case: Sample, sets: dict[str, list[Axes]]) -> dict[str, float]:
    """Return the gain of each set of views on a case."""
    planes = case.planes()
    whole = tuple(slice(n - n % network.multiple) for n in planes.shape[1:])
    tile = torch.from_numpy(planes[(slice(None), *whole)].astype(np.float32))
    said = {axes: network(tile[None, INPUT].flip(axes)).flip(axes)[0, 0] for s in sets.values() for axes in s}
    weight = tile[SCALE] * tile[HOLE]
    before = float(((tile[TARGET] * weight) ** 2).sum())
    result = {}
    for name, chosen in sets.items():
        mean = torch.stack([said[axes] for axes in chosen]).mean(dim=0)
        result[name] = 10 * np.log10(before / float((((tile[TARGET] - mean) * weight) ** 2).sum()))
    return result


def held_out(config: TrainingConfig, path: Path) -> list[Sample]:
    """Return the cases that validated the training."""
    return samples(config.model_copy(update={"train": (ONE_SCENE[config.ndim],)}), path)[1]


def asked_for(description: str | None) -> tuple[str, TrainingConfig, Path, ResidualUNet]:
    """Return the shipped weights that the command line names: name, training config, its file, network."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("weights", choices=("optical", "optical_small", "t1", "ct"))
    name = parser.parse_args().weights
    torch.set_num_threads(1)
    path = ROOT / f"configs/train_{name}.yaml"
    config = read_config(path)
    network = ResidualUNet(config.ndim, **config.network.model_dump())
    network.load_state_dict(load_file(find_weights(name)))
    return name, config, path, network.eval()


def main() -> None:
    """Print one line a set of views."""
    name, config, path, network = asked_for(__doc__)
    sets = views(config.ndim)
    found: dict[str, list[dict[str, float]]] = {}
    for case in held_out(config, path):
        found.setdefault(case.family, []).append(gains(network, case, sets))
    families = sorted(found)
    print(f"| {name} | {' | '.join(families)} | mean |\n|{'---|' * (len(families) + 2)}")
    for views_of in sets:
        means = [float(np.mean([gain[views_of] for gain in found[family]])) for family in families]
        print(f"| {views_of} | {' | '.join(f'{m:+.2f}' for m in means)} | {np.mean(means):+.3f} |")


if __name__ == "__main__":
    main()
