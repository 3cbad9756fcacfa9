"""How much around a hole the network must see: `INPAINT_DATA=... python -m benchmarks.surroundings optical`.

Shipped weights, one view, on the held-out tiles of their training config; gain over the base fill in dB, mean over
cases, and the pixels that are looked at as a share of the tile's.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import torch

from benchmarks.mirrored import asked_for, held_out
from pipeline.models._unet import ResidualUNet
from pipeline.numerics import parts
from pipeline.training.data import HOLE, SCALE, TARGET, Sample
from pipeline.training.validation import INPUT

AROUND = {2: (4, 8, 12, 16, 32), 3: (4, 8, 12)}


@torch.inference_mode()
def gains(network: ResidualUNet, case: Sample) -> dict[str, tuple[float, float]]:
    """Return gain and share of the tile that is looked at, for the whole tile and each width around holes."""
    planes = case.planes()
    whole = tuple(slice(n - n % network.multiple) for n in planes.shape[1:])
    tile = torch.from_numpy(planes[(slice(None), *whole)].astype(np.float32))
    asked = tile[HOLE].numpy() > 0
    weight = tile[SCALE] * tile[HOLE]
    before = float(((tile[TARGET] * weight) ** 2).sum())

    def gain(said: torch.Tensor) -> float:
        return 10 * np.log10(before / float((((tile[TARGET] - said) * weight) ** 2).sum()))

    result = {}
    for around in AROUND[asked.ndim]:
        said, looked = torch.zeros_like(tile[TARGET]), 0
        with mock.patch.dict(parts.AROUND, {asked.ndim: around}):
            for part in parts.parts_of(asked):
                own = torch.from_numpy(part.own)
                said[part.box][own] = network(tile[None, INPUT][:, :, *part.box])[0, 0][own]
                looked += part.own.size
        result[f"{around} px"] = gain(said), looked / asked.size
    result["whole tile"] = gain(network(tile[None, INPUT])[0, 0]), 1.0
    return result


def main() -> None:
    """Print one line for each width."""
    name, config, path, network = asked_for(__doc__)
    found: dict[str, list[dict[str, tuple[float, float]]]] = {}
    for case in held_out(config, path):
        found.setdefault(case.family, []).append(gains(network, case))
    families = sorted(found)
    print(f"| {name} | {' | '.join(families)} | mean |\n|{'---|' * (len(families) + 2)}")
    for width in next(iter(found.values()))[0]:
        means = np.array([np.mean([some[width] for some in found[family]], axis=0) for family in families])
        cells = [f"{gain:+.2f} ({share:.0%})" for gain, share in means]
        print(f"| {width} | {' | '.join(cells)} | {means[:, 0].mean():+.3f} ({means[:, 1].mean():.0%}) |")


if __name__ == "__main__":
    main()
