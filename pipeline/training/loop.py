"""The training loop: seeded, step-limited, resumable; the best averaged weights are exported as it goes."""

from __future__ import annotations

import copy
import csv
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.models._unet import ResidualUNet
from pipeline.training.config import TrainingConfig, read_config
from pipeline.training.data import DEPTH, HOLE, SCALE, TARGET, Sample, samples
from pipeline.training.export import export
from pipeline.training.losses import losses

log = logging.getLogger(__name__)

_INPUT = slice(0, DEPTH + 1)
_VALIDATION_CASES = 96
_UNIT_SHRINK_3D = 0.3


@dataclass(slots=True, kw_only=True)
class _State:
    """What changes while training; all of it is in the checkpoint."""

    network: ResidualUNet
    average: ResidualUNet
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    step: int = 0
    best: float = float("-inf")
    result: dict[str, Any] = field(default_factory=dict)


def train(config_path: str | Path, *, resume: bool = False) -> dict[str, Any]:
    """Train as the config says and write weights, card, curve and checkpoint.

    Args:
        config_path: YAML file, see `TrainingConfig`.
        resume: continue from the checkpoint beside the output if there is one.

    Returns:
        `weights` (path), `step`, `gain_db` by hole family (`mean` included) over the base fill on held-out
        scenes, `cases_worse` (share of cases more than 0.05 dB below it) and `seconds`.

    Raises:
        ConfigError: the config is wrong or its images have no clean tile.
        SourceError: an image cannot be read.
    """
    started = time.monotonic()
    path = Path(config_path)
    config = read_config(path)
    torch.set_num_threads(config.threads)
    training, validation = samples(config, path)
    log.info("%d training and %d validation samples", len(training), len(validation))
    state = _start(config)
    checkpoint = Path(config.output).with_suffix(".checkpoint.pt")
    curve = Path(config.output).with_suffix(".curve.csv")
    curve.parent.mkdir(parents=True, exist_ok=True)
    if resume and checkpoint.is_file():
        _load(state, checkpoint, config)
    else:
        curve.unlink(missing_ok=True)
    cases = _spread(validation)
    running: list[float] = []
    while state.step < config.steps:
        running.append(_one_step(state, training, config))
        state.step += 1
        last = state.step == config.steps
        if last or state.step % config.validate_every == 0:
            gains = _validate(state, cases, config)
            _append(curve, state.step, float(np.exp(np.mean(running))), gains)
            running = []
        if last or state.step % config.checkpoint_every == 0:
            _save(state, checkpoint)
    return state.result | {"seconds": time.monotonic() - started}


def _start(config: TrainingConfig) -> _State:
    torch.manual_seed(config.seed)
    network = ResidualUNet(config.ndim, config.network.widths, config.network.bottom_units)
    if config.ndim == 3:
        # At full strength the deep residual path drowns the zero head's first gradients in 3-D.
        network.shrink_units(_UNIT_SHRINK_3D)
    if config.start_from is not None:
        from safetensors.torch import load_file

        from pipeline.models.base import find_weights

        network.load_state_dict(load_file(find_weights(config.start_from)))
    network = network.to(memory_format=_layout(config.ndim))  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=config.learning_rate, total_steps=_cycle(config), pct_start=0.1
    )
    average = copy.deepcopy(network).requires_grad_(False)
    return _State(network=network, average=average, optimiser=optimiser, schedule=schedule)


def _cycle(config: TrainingConfig) -> int:
    """Return the steps of the learning-rate cycle; too short a cycle has no rising part."""
    return max(config.steps + 1, 32)


def _layout(ndim: int) -> torch.memory_format:
    return torch.channels_last if ndim == 2 else torch.channels_last_3d


def _one_step(state: _State, training: Sequence[Sample], config: TrainingConfig) -> float:
    rng = np.random.default_rng([config.seed, state.step, 13])
    chosen = [training[i] for i in rng.integers(0, len(training), config.batch)]
    planes = torch.from_numpy(np.stack([crop(s.planes(), config.patch, rng) for s in chosen]))
    state.network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bfloat16):
        output = state.network(planes[:, _INPUT].contiguous(memory_format=_layout(config.ndim)))
    terms = losses(output, planes[:, TARGET], planes[:, HOLE])
    loss = terms.fit + config.loss.scale * terms.likelihood
    if config.ndim == 2:
        loss = loss + config.loss.gradient * terms.gradient
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimiser.step()
    state.schedule.step()
    decay = min(config.ema, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for kept, new in zip(state.average.parameters(), state.network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
    return float(terms.fit.detach())


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


def _spread(validation: Sequence[Sample]) -> list[Sample]:
    """Return a fixed, even choice of validation samples."""
    keep = np.linspace(0, len(validation) - 1, min(_VALIDATION_CASES, len(validation))).astype(int)
    return [validation[i] for i in np.unique(keep)]


@torch.inference_mode()
def _validate(state: _State, cases: Sequence[Sample], config: TrainingConfig) -> dict[str, float]:
    """Measure the averaged weights, export them if they are the best so far, return gains by family."""
    gains: dict[str, list[float]] = {}
    for case in cases:
        gains.setdefault(case.family, []).append(_gain_db(state.average, case, config))
    every = [g for family in gains.values() for g in family]
    by_family = {family: round(float(np.mean(g)), 4) for family, g in sorted(gains.items())}
    mean = round(float(np.mean(list(by_family.values()))), 4)
    metrics = {
        "step": state.step,
        "gain_db": by_family | {"mean": mean},
        "cases_worse": round(float(np.mean(np.array(every) < -0.05)), 4),
    }
    log.info("step %d: %s", state.step, metrics["gain_db"])
    if mean > state.best:
        state.best = mean
        weights = export(state.average, config, metrics)
        state.result = {"weights": str(weights), **metrics}
    return by_family | {"mean": mean}


def _gain_db(network: ResidualUNet, case: Sample, config: TrainingConfig) -> float:
    """Return how much smaller the network's squared error in the hole is than the base fill's."""
    planes = case.planes()
    whole = tuple(slice(n - n % network.multiple) for n in planes.shape[1:])
    tile = torch.from_numpy(planes[(slice(None), *whole)].astype(np.float32))
    x: Tensor = tile[None, _INPUT].contiguous(memory_format=_layout(config.ndim))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bfloat16):
        residual = network(x)[0, 0]
    weight = tile[SCALE] * tile[HOLE]
    before = float(((tile[TARGET] * weight) ** 2).sum())
    after = float((((tile[TARGET] - residual) * weight) ** 2).sum())
    return 10.0 * float(np.log10((before + 1e-12) / (after + 1e-12)))


def _append(curve: Path, step: int, fit: float, gains: Mapping[str, float]) -> None:
    fresh = not curve.exists()
    with curve.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "relative_fit", *gains])
        writer.writerow([step, f"{fit:.5f}", *gains.values()])


def _save(state: _State, path: Path) -> None:
    partial = path.with_name(f".{path.name}.part")
    torch.save(
        {
            "network": state.network.state_dict(),
            "average": state.average.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "schedule": state.schedule.state_dict(),
            "step": state.step,
            "best": state.best,
            "result": state.result,
        },
        partial,
    )
    partial.replace(path)


def _load(state: _State, path: Path, config: TrainingConfig) -> None:
    saved = torch.load(path, weights_only=True)
    if saved["schedule"]["total_steps"] != _cycle(config):
        raise ConfigError(
            f"{path}: was made for {saved['schedule']['total_steps'] - 1} steps, the config says "
            f"{config.steps}; delete it, or set start_from to the weights to train on from there"
        )
    try:
        state.network.load_state_dict(saved["network"])
        state.average.load_state_dict(saved["average"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state.schedule.load_state_dict(saved["schedule"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{path}: this checkpoint is of another network ({str(error).splitlines()[0]}); "
            f"delete it or restore the config of '{config.name}'"
        ) from None
    state.step, state.best, state.result = saved["step"], saved["best"], saved["result"]
