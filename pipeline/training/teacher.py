"""What a larger network says of the training holes, to be learnt from beside the truth (knowledge distillation).

The truth of a hole is one of many that what is seen around it allows; a trained network answers with their mean. A
small network learns that in far fewer steps (Hinton, Vinyals and Dean 2015, Distilling the knowledge in a neural
network, arXiv:1503.02531).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.models._unet import ResidualUNet
from pipeline.models.autoencoder import load_network
from pipeline.models.base import Card, read_card, verified
from pipeline.system.bfloat16 import has_bfloat16
from pipeline.system.files import replacing
from pipeline.system.signals import NEVER, Stop
from pipeline.training.config import TrainingConfig
from pipeline.training.data import DEPTH, Sample, samples
from pipeline.training.log import Pace
from pipeline.training.workers import mapped

log = logging.getLogger(__name__)


def taught_samples(config: TrainingConfig, config_path: Path, stop: Stop = NEVER) -> tuple[list[Sample], list[Sample]]:
    """Return training samples, with what the teacher says of them if the config names one, and validation samples.

    Answers that are not in the cache are computed: the mean of the tile as it is and mirrored on all axes.

    Raises:
        ConfigError: as `samples`; the teacher is of another number of dimensions, or corrects another base fill.
        Interrupted: a stop was requested.
        ClusterGone: a process that fills holes or asks the teacher died.
    """
    if config.teacher is None:
        return samples(config, config_path, stop)
    weights = Path(config.teacher)
    card = read_card(weights)
    _require_same_task(card, config)
    name = verified(weights, card)[:12]
    training, cases = samples(config, config_path, stop)
    missing = [path for path in dict.fromkeys(s.path for s in training) if not _of(path, name).is_file()]
    pace = Pace()
    for number, _ in enumerate(mapped(partial(_ask, weights=weights, name=name), missing, config.processes, stop), 1):
        if pace.due():
            log.info("%s: asked about %d of %d tiles", card.name, number, len(missing))
    return [replace(sample, taught=_of(sample.path, name)) for sample in training], cases


def _require_same_task(card: Card, config: TrainingConfig) -> None:
    if card.ndim != config.ndim:
        raise ConfigError(f"teacher '{card.name}': is for {card.ndim}-D images, the config says ndim: {config.ndim}")
    corrects, fills = card.base_fill.get("kind"), config.base_fill.get("kind")
    if corrects != fills:
        raise ConfigError(
            f"teacher '{card.name}': corrects {corrects}, the config fills holes by {fills}; take the same base_fill"
        )


def _of(path: Path, name: str) -> Path:
    return path.with_suffix(f".{name}.npy")


def _ask(path: Path, weights: Path, name: str) -> None:
    """Write what the network says of each sample of a file, float16 `(n, *tile)`, in local standard deviations."""
    torch.set_num_threads(1)
    network = load_network(weights, read_card(weights)).eval().requires_grad_(False)
    if has_bfloat16():
        network = network.lowered()
    stack: NDArray[np.float16] = np.load(path, mmap_mode="r")
    answers = np.stack([_answer(network, planes[: DEPTH + 1]) for planes in stack])
    with replacing(_of(path, name), shared=True) as fresh, fresh.open("wb") as file:
        np.save(file, answers)


@torch.inference_mode()
def _answer(network: ResidualUNet, planes: NDArray[np.float16]) -> NDArray[np.float16]:
    x = torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32))[None]
    spatial = x.shape[2:]
    margin = [m for n in reversed(spatial) for m in (0, -n % network.multiple)]
    x = functional.pad(x, margin, mode="replicate")
    axes = tuple(range(1, x.ndim - 1))
    views = network(x)[:, 0] + network(x.flip([a + 1 for a in axes]))[:, 0].flip(axes)
    half = (views / 2)[0][tuple(slice(n) for n in spatial)]
    answer: NDArray[np.float16] = half.numpy().astype(np.float16)
    return answer
