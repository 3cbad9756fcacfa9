"""Batches of random crops, cut by processes ahead of the network; batch `n` depends on the seed and `n` alone."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.training.config import TrainingConfig
from pipeline.training.data import HOLE, NORMALISED, TARGET, TAUGHT, Sample
from pipeline.training.workers import Forked, begin

_AHEAD = 2
"""Batches a process keeps ready."""


class _Batches(Dataset[NDArray[np.float16]]):
    """The batch of every step, by its number."""

    def __init__(self, training: Sequence[Sample], config: TrainingConfig) -> None:
        self._training, self._config = training, config

    def __getitem__(self, step: int) -> NDArray[np.float16]:
        return batch(self._training, self._config, step)


def batches(
    training: Sequence[Sample], config: TrainingConfig, first: int, until: int
) -> Generator[Tensor, None, None]:
    """Yield the batches `(batch, 6 or 7, *patch)`, float16, of steps `first` to `until - 1`.

    Processes, not threads: beside a GPU, Python's lock would make the network wait for its batches. They come
    through pipes, not through shared memory: containers have little of it, and torch then waits forever.
    """
    loader = DataLoader(
        _Batches(training, config),
        sampler=range(first, until),
        batch_size=None,
        num_workers=config.processes,
        prefetch_factor=_AHEAD,
        collate_fn=_untouched,
        worker_init_fn=begin,
        multiprocessing_context=Forked() if config.processes else None,
    )
    yield from map(torch.from_numpy, loader)


def _untouched(cut: Any) -> Any:
    return cut


def batch(training: Sequence[Sample], config: TrainingConfig, step: int) -> NDArray[np.float16]:
    """Cut the batch of one step."""
    rng = np.random.default_rng([config.seed, step, 13])
    chosen = [training[i] for i in rng.integers(0, len(training), config.batch)]
    return np.stack([crop(s.planes(), config.patch, rng) for s in chosen])


def crop(planes: NDArray[np.float16], size: int, rng: np.random.Generator) -> NDArray[np.float16]:
    """Cut a patch around a random hole pixel, then flip, transpose and negate it at random.

    Args:
        planes: `(6 or 7, *tile)`, see `pipeline.training.data`.
        size: extent of the patch.
        rng: source of randomness.
    """
    spatial = planes.shape[1:]
    inside = np.flatnonzero(planes[HOLE])
    centre = np.unravel_index(int(rng.choice(inside)), spatial)
    starts = [int(np.clip(c - rng.integers(0, size), 0, n - size)) for c, n in zip(centre, spatial, strict=True)]
    patch = planes[(slice(None), *(slice(s, s + size) for s in starts))].copy()
    patch = patch.transpose(0, *(1 + rng.permutation(len(spatial))))
    flipped = tuple(axis + 1 for axis in range(len(spatial)) if rng.random() < 0.5)
    patch = np.ascontiguousarray(np.flip(patch, flipped))
    if rng.random() < 0.5:
        patch[[NORMALISED, TARGET]] *= -1
        patch[TAUGHT:] *= -1
    return np.asarray(patch)
