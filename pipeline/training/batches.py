"""Batches of random crops, cut by threads ahead of the network; batch `n` depends on the seed and `n` alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pipeline.training.config import TrainingConfig
from pipeline.training.data import HOLE, TARGET, Sample


def batches(training: Sequence[Sample], config: TrainingConfig, first: int) -> Generator[NDArray[np.float32]]:
    """Yield the batches `(batch, 6, *patch)` of steps `first`, `first + 1`, ... without end."""
    with ThreadPoolExecutor(config.loaders) as pool:
        ahead: deque[Future[NDArray[np.float32]]] = deque()
        step = first
        try:
            while True:
                while len(ahead) < 2 * config.loaders:
                    ahead.append(pool.submit(batch, training, config, step))
                    step += 1
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


def batch(training: Sequence[Sample], config: TrainingConfig, step: int) -> NDArray[np.float32]:
    """Cut the batch of one step."""
    rng = np.random.default_rng([config.seed, step, 13])
    chosen = [training[i] for i in rng.integers(0, len(training), config.batch)]
    return np.stack([crop(s.planes(), config.patch, rng) for s in chosen])


def crop(planes: NDArray[np.float16], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut a patch around a random hole pixel, then flip, transpose and negate it at random.

    Args:
        planes: `(6, *tile)`, see `pipeline.training.data`.
        size: extent of the patch.
        rng: source of randomness.
    """
    spatial = planes.shape[1:]
    inside = np.flatnonzero(planes[HOLE])
    centre = np.unravel_index(int(rng.choice(inside)), spatial)
    starts = [int(np.clip(c - rng.integers(0, size), 0, n - size)) for c, n in zip(centre, spatial, strict=True)]
    patch = planes[(slice(None), *(slice(s, s + size) for s in starts))].astype(np.float32)
    patch = patch.transpose(0, *(1 + rng.permutation(len(spatial))))
    flipped = tuple(axis + 1 for axis in range(len(spatial)) if rng.random() < 0.5)
    patch = np.ascontiguousarray(np.flip(patch, flipped))
    if rng.random() < 0.5:
        patch[[0, TARGET]] *= -1
    return np.asarray(patch)
