"""The training loop: seeded, step-limited, resumable; the best averaged weights are exported as it goes."""

from __future__ import annotations

import copy
import csv
import io
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline import __version__
from pipeline.errors import ConfigError, Interrupted
from pipeline.models._unet import ResidualUNet
from pipeline.system.files import replacing
from pipeline.system.room import explain_full_disk
from pipeline.system.signals import NEVER, Stop
from pipeline.training.batches import batches
from pipeline.training.beside import CURVE, alone, read_checkpoint, require_nothing_unfinished
from pipeline.training.config import TrainingConfig, read_config
from pipeline.training.data import HOLE, TARGET, TAUGHT, Sample
from pipeline.training.device import autocast, layout, mixed, placed
from pipeline.training.export import export
from pipeline.training.log import Pace, logged
from pipeline.training.losses import losses
from pipeline.training.teacher import taught_samples
from pipeline.training.validation import INPUT, Gains, validate
from pipeline.training.verdict import verdict_text
from pipeline.training.workers import loaders_watched

log = logging.getLogger(__name__)

_UNIT_SHRINK_3D = 0.3
_RECENT = 50
_FREE = {
    "output",
    "cache",
    "threads",
    "loaders",
    "device",
    "checkpoint_every",
    "patience",
    "summary",
    "suits",
    "notes",
    "search",
    "searched",
}
"""Keys that may change between a checkpoint and its continuation: they do not move the weights."""


@dataclass(slots=True, kw_only=True)
class _State:
    """What changes while training; all of it is in the checkpoint.

    `errors` are those of the steps since the last validation: logarithms of the batch's error over its fill's.
    `bests` are the metrics of every validation that was better than all before it.
    """

    network: ResidualUNet
    average: ResidualUNet
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    step: int = 0
    stale: int = 0
    errors: list[float] = field(default_factory=list)
    bests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> float:
        """Return the best score so far."""
        return float(self.bests[-1]["score"]) if self.bests else float("-inf")

    def result(self, until: int) -> dict[str, Any]:
        """Return the metrics of the best validation of the first `until` steps; a checkpoint may be further."""
        return next((dict(metrics) for metrics in reversed(self.bests) if metrics["step"] <= until), {})


def train(config_path: str | Path, *, resume: bool = False, quiet: bool = True) -> dict[str, Any]:
    """Train as the config says and write weights, card, curve, log and checkpoint.

    Args:
        config_path: YAML file, see `TrainingConfig`.
        resume: continue from the checkpoint beside the output if there is one.
        quiet: say nothing but warnings on stderr; the log says all.

    Returns:
        `weights` (path), `step`, `gain_db` by hole family (`mean` included) over the base fill on held-out
        scenes, `cases_worse` (share of cases more than 0.05 dB below it) and `seconds`; `gain_db_at_start` if
        training started from weights; `verdict`, which says in words whether it helped and what to try if not.

    Raises:
        ConfigError: the config is wrong, its images have no clean tile, or what was learnt is no number.
        SourceError: an image cannot be read.
        PlanRefused: the device is not there.
        OutputConflict: the output cannot be written, another training writes it, or one that was stopped would be lost.
        ClusterGone: a process that fills holes or cuts batches died.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP.
    """
    path = Path(config_path)
    config = placed(read_config(path))
    output = Path(config.output)
    with Stop() as stop, alone(output):
        if not resume:
            require_nothing_unfinished(output, config.steps, config.patience)
        with logged(output.with_suffix(".log"), append=resume, quiet=quiet), explain_full_disk(output.parent):
            return fit(config, taught_samples(config, path, stop), resume=resume, stop=stop)


def fit(
    config: TrainingConfig,
    data: tuple[list[Sample], list[Sample]],
    *,
    resume: bool = False,
    until: int | None = None,
    stop: Stop = NEVER,
) -> dict[str, Any]:
    """Train on samples that are cut already; see `train`.

    Args:
        config: all that decides the run, its device included.
        data: training and validation samples.
        resume: continue from the checkpoint beside the output if there is one.
        until: stop at this step with a checkpoint, as if interrupted; the learning rate follows `config.steps`.
        stop: ends it between two steps with a checkpoint.
    """
    started = time.monotonic()
    training, cases = data
    torch.set_num_threads(config.threads)
    log.info(
        "%s, seed %d: %d training samples, %d validation cases, %d steps of %d",
        *(config.name, config.seed, len(training), len(cases), config.steps, config.batch),
    )
    log.info("%s, inpaint-pipeline %s, torch %s", _arithmetic(config), __version__, torch.__version__)
    state = _begun(config, cases, resume=resume)
    end = min(until or config.steps, config.steps)
    # closed at once: as long as an error is told, its traceback would keep the processes that cut batches
    with loaders_watched(stop), closing(batches(training, config, state.step, end)) as stream:
        _run(state, stream, cases, config, end, stop)
    result = state.result(end)
    if not result and until is None:
        raise ConfigError(
            f"{config.name}: no validation gave a number, so there are no weights: training left all bounds; lower "
            f"learning_rate, which is {config.learning_rate:g}"
        )
    said = {"verdict": verdict_text(result)} if result else {}
    if said:
        log.info("%s", said["verdict"])
    return {"weights": config.output} | result | {"seconds": time.monotonic() - started} | said


def _run(
    state: _State, stream: Iterator[Tensor], cases: Sequence[Sample], config: TrainingConfig, until: int, stop: Stop
) -> None:
    checkpoint, curve = _files(config)
    pace = Pace(state.step)
    while state.step < until and not _exhausted(state, config):
        if stop.requested():
            _save(state, checkpoint, config)
            raise Interrupted(f"{config.name}: stopped at step {state.step}; --resume continues from there")
        state.errors.append(_one_step(state, next(stream), config))
        state.step += 1
        last = state.step == until
        if last or state.step % config.validate_every == 0:
            _judge(state, cases, config, curve, float(np.exp(np.mean(state.errors))))
            state.errors = []
        elif pace.due():
            error = float(np.exp(np.mean(state.errors[-_RECENT:])))
            log.info("step %d: error %.3f of the fill's, %s", state.step, error, pace.left(state.step, until))
        if last or _exhausted(state, config) or state.step % config.checkpoint_every == 0:
            _save(state, checkpoint, config)


def _exhausted(state: _State, config: TrainingConfig) -> bool:
    return config.patience is not None and state.stale >= config.patience


def _files(config: TrainingConfig) -> tuple[Path, Path]:
    """Return checkpoint and curve of a training."""
    output = Path(config.output)
    return output.with_suffix(".checkpoint.pt"), output.with_suffix(".curve.csv")


def _begun(config: TrainingConfig, cases: Sequence[Sample], *, resume: bool) -> _State:
    """Return the state to train on from: that of the checkpoint if wanted, else a new one without files of an old."""
    state = _initial(config)
    checkpoint, curve = _files(config)
    curve.parent.mkdir(parents=True, exist_ok=True)
    if resume and checkpoint.is_file():
        _load(state, checkpoint, config)
        _shorten(curve, state.step)
        log.info("continued from step %d", state.step)
        return state
    for old in (curve, checkpoint):
        old.unlink(missing_ok=True)
    if config.start is not None:
        _judge(state, cases, config, curve, float("nan"))
    return state


def _initial(config: TrainingConfig) -> _State:
    torch.manual_seed(config.seed)
    network = ResidualUNet(config.ndim, **config.network.model_dump())
    if config.ndim == 3:
        # At full strength the deep residual path drowns the zero head's first gradients in 3-D.
        network.shrink_units(_UNIT_SHRINK_3D)
    if config.start is not None:
        try:
            network.load_state_dict(load_file(config.start))
        except (RuntimeError, KeyError) as error:
            raise ConfigError(
                f"{config.start}: is no network of {config.ndim} dimensions and widths {list(config.network.widths)} "
                f"({str(error).splitlines()[0]}); leave out ndim and network to take those of its card"
            ) from None
    network = network.to(config.device).to(memory_format=layout(config.ndim))  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=config.learning_rate, total_steps=_cycle(config), pct_start=0.1
    )
    average = copy.deepcopy(network).requires_grad_(False)
    return _State(network=network, average=average, optimiser=optimiser, schedule=schedule)


def _cycle(config: TrainingConfig) -> int:
    """Return the steps of the learning-rate cycle; too short a cycle has no rising part."""
    return max(config.steps + 1, 32)


def _one_step(state: _State, batch: Tensor, config: TrainingConfig) -> float:
    planes = batch.to(config.device).float()
    state.network.train()
    with autocast(config):
        output = state.network(planes[:, INPUT].contiguous(memory_format=layout(config.ndim)))
    answers = planes[:, TAUGHT] if config.teacher else None
    terms = losses(output, planes[:, TARGET], planes[:, HOLE], answers)
    loss = terms.fit + config.loss.scale * terms.likelihood + config.loss.taught * terms.taught
    if config.ndim == 2:
        loss = loss + config.loss.gradient * terms.gradient
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
    state.optimiser.step()
    state.schedule.step()
    decay = min(config.ema, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for kept, new in zip(state.average.parameters(), state.network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
    return float(terms.fit.detach())


def _judge(state: _State, cases: Sequence[Sample], config: TrainingConfig, curve: Path, fit_so_far: float) -> None:
    """Validate the averaged weights, note the result, export them if they are the best so far."""
    gains = validate(state.average, cases, config)
    _append(curve, state.step, fit_so_far, gains)
    state.stale += 1
    better = gains.score > state.best
    families = ", ".join(f"{family} {gain:+.2f}" for family, gain in gains.families.items())
    log.info(
        "step %d: gain over the fill in dB: %s; score %.3f%s",
        *(state.step, families, gains.score, ", the best so far" if better else f", best {state.best:.3f}"),
    )
    if better:
        state.stale = 0
        metrics = {
            "step": state.step,
            "score": gains.score,
            "gain_db": dict(gains.families),
            "cases_worse": gains.worse,
        }
        first = state.bests[0] if state.bests else metrics
        if first["step"] == 0:
            metrics["gain_db_at_start"] = first["gain_db"]
        export(state.average, config, metrics)
        state.bests.append(metrics)


def _append(curve: Path, step: int, fit: float, gains: Gains) -> None:
    fresh = not curve.exists()
    with curve.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow([*CURVE, *gains.families, "score", "cases_worse"])
        writer.writerow([step, f"{fit:.5f}", *gains.families.values(), f"{gains.score:.4f}", gains.worse])


def _shorten(curve: Path, step: int) -> None:
    """Drop the rows after a checkpoint: they are about to be made again."""
    if curve.is_file():
        head, *rows = curve.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [row for row in rows if int(row.split(",", 1)[0]) <= step]
        curve.write_text("".join([head, *kept]), encoding="utf-8", newline="")


def _arithmetic(config: TrainingConfig) -> str:
    return f"{'bfloat16' if mixed(config) else 'float32'} on {torch.device(config.device).type}"


def _decisive(config: TrainingConfig) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(config.model_dump_json(exclude=_FREE))
    return facts


def _save(state: _State, path: Path, config: TrainingConfig) -> None:
    # torch writes a file by itself, and says of a full disk that a position is unexpected
    content = io.BytesIO()
    torch.save(
        {
            "network": state.network.state_dict(),
            "average": state.average.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "schedule": state.schedule.state_dict(),
            "step": state.step,
            "stale": state.stale,
            "errors": state.errors,
            "bests": state.bests,
            "config": _decisive(config),
            "arithmetic": _arithmetic(config),
        },
        content,
    )
    with replacing(path) as partial:
        partial.write_bytes(content.getbuffer())


def _load(state: _State, path: Path, config: TrainingConfig) -> None:
    saved = read_checkpoint(path, config.device)
    if "bests" not in saved:
        raise ConfigError(f"{path}: an older version made this checkpoint; delete it, or set start to its weights")
    now, then = _decisive(config), saved.get("config", {})
    changed = sorted(key for key in now if now[key] != then.get(key))
    if changed:
        raise ConfigError(
            f"{path}: this checkpoint was made with another {', '.join(changed)} than the config of '{config.name}' "
            "says; delete it, restore the config, or set start to the weights to train on from there"
        )
    if saved.get("arithmetic", _arithmetic(config)) != _arithmetic(config):
        log.warning(
            "%s was made with %s, training continues with %s: the card names the latter only",
            *(path, saved["arithmetic"], _arithmetic(config)),
        )
    state.network.load_state_dict(saved["network"])
    state.average.load_state_dict(saved["average"])
    state.optimiser.load_state_dict(saved["optimiser"])
    state.schedule.load_state_dict(saved["schedule"])
    for name in ("step", "stale", "errors", "bests"):
        setattr(state, name, saved[name])
