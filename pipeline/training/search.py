"""Choose hyper-parameters by successive halving: many short trainings, the better third goes on.

Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016. Trials
share samples, seed and learning-rate cycle, so the winner's weights are those that `train` makes of its config.
"""

from __future__ import annotations

import csv
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from pipeline.errors import ConfigError
from pipeline.models._unet import ResidualUNet
from pipeline.system.files import replacing
from pipeline.system.room import explain_full_disk
from pipeline.system.signals import Stop
from pipeline.training.beside import alone, require_search_replaceable, search_files
from pipeline.training.config import TrainingConfig, read_config
from pipeline.training.data import Sample
from pipeline.training.device import placed
from pipeline.training.log import logged
from pipeline.training.loop import fit
from pipeline.training.teacher import taught_samples

log = logging.getLogger(__name__)

_PARTS = (".safetensors", ".yaml", ".curve.csv", ".checkpoint.pt")


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A choice of values under its number, and how it did so far."""

    number: int
    choice: Mapping[str, Any]
    config: TrainingConfig
    result: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def row(self, rung: int) -> dict[str, Any]:
        """Return its line of the results table; everything but `seconds` follows from config and data."""
        c, network = self.config, self.config.network
        size = sum(p.numel() for p in ResidualUNet(c.ndim, **network.model_dump()).parameters())
        return {
            "rung": rung,
            "trial": self.number,
            "widths": "-".join(map(str, network.widths)),
            "bottom_units": network.bottom_units,
            "learning_rate": c.learning_rate,
            "weight_decay": c.weight_decay,
            "gradient": c.loss.gradient,
            "scale": c.loss.scale,
            "parameters": size,
            "score": round(float(self.result["score"]), 4),
            **{f"gain_{family}": gain for family, gain in self.result["gain_db"].items()},
            "seconds": round(self.seconds, 1),
        }


def search(config_path: str | Path, n: int, *, resume: bool = False, quiet: bool = True) -> dict[str, Any]:
    """Try `n` configs, write the results table and the best config, and leave its training ready to be continued.

    The first trial is the config itself. Values of the others are drawn from its `search` section with its seed.
    Beside the output lie `NAME.search.csv` and the trials; beside the config the best one, `CONFIG.best.yaml`.

    Args:
        config_path: YAML file, see `TrainingConfig`.
        n: number of trials, at least 2.
        resume: use what an interrupted search has left.
        quiet: say nothing but warnings on stderr; `NAME.search.log` says all.

    Returns:
        `trials` (rows of the table), `best` (config file), `next` (the command that trains it to the end).

    Raises:
        ConfigError: `n` is below 2, a file that no search wrote would be replaced, or as `train`.
        OutputConflict: the checkpoint of a training would be lost, or as `train`.
    """
    if n < 2:
        raise ConfigError(f"--search {n}: needs at least 2 configs to compare")
    path = Path(config_path)
    config = placed(read_config(path))
    output = Path(config.output)
    table_path, log_path, _ = search_files(output, path)
    with Stop() as stop, alone(output):
        require_search_replaceable(output, path, config.steps, config.patience)
        with logged(log_path, append=resume, quiet=quiet), explain_full_disk(output.parent):
            alive, table = _halved(config, n, taught_samples(config, path, stop), stop, resume=resume)
            _write_table(table_path, table)
            best = _publish(path, config, alive[0], table)
    return {"trials": table, "best": str(best), "next": f"inpaint-pipeline train {best} --resume"}


def _halved(
    config: TrainingConfig, n: int, data: tuple[list[Sample], list[Sample]], stop: Stop, *, resume: bool
) -> tuple[list[_Trial], list[dict[str, Any]]]:
    """Return the trials left over, best first, and the rows of the table."""
    alive = _trials(config, n)
    table: list[dict[str, Any]] = []
    for rung, steps in enumerate(_rungs(config), 1):
        for trial in alive:
            _advance(trial, data, steps, stop, resume=resume or rung > 1)
            table.append(trial.row(rung))
            log.info("%s", table[-1])
        alive.sort(key=lambda t: (-float(t.result["score"]), t.number))
        alive = alive[: max(1, math.ceil(len(alive) * config.search.keep))]
    return alive, table


def _trials(config: TrainingConfig, n: int) -> list[_Trial]:
    """Return the config itself and `n - 1` draws; trial `k` is the same whatever `n`."""
    output = Path(config.output)
    trials = []
    for number in range(n):
        choice = _drawn(config, np.random.default_rng([config.seed, number, 17])) if number else {}
        place = output.parent / f"{output.stem}.search" / f"{number:03d}" / output.name
        updated = config.model_dump() | _nested(choice) | {"output": str(place)}
        trials.append(_Trial(number=number, choice=choice, config=TrainingConfig.model_validate(updated)))
    return trials


def _drawn(config: TrainingConfig, rng: np.random.Generator) -> dict[str, Any]:
    space = config.search
    choice: dict[str, Any] = {}
    widths, depths = _networks(config), space.bottom_units
    if config.start is None:
        choice["widths"] = list(widths[int(rng.integers(len(widths)))])
        choice["bottom_units"] = int(depths[int(rng.integers(len(depths)))])
        choice["unshuffle"] = config.network.unshuffle
    for name in ("learning_rate", "weight_decay", "gradient", "scale"):
        low, high = np.log(getattr(space, name))
        choice[name] = float(f"{np.exp(rng.uniform(low, high)):.3g}")
    if config.ndim == 3:
        del choice["gradient"]
    return choice


def _networks(config: TrainingConfig) -> list[tuple[int, ...]]:
    """Return the widths to choose from: those named, else narrower, wider, shallower and deeper than the config's."""
    if config.search.widths:
        return list(config.search.widths)
    own = config.network.widths
    near = [
        own,
        tuple(max(4, 2 * w // 3) for w in own),
        tuple(4 * w // 3 for w in own),
        own[:-1],
        (*own, own[-1]),
    ]
    return [w for w in near if len(w) >= 2 and config.patch % (config.network.unshuffle * 2 ** (len(w) - 1)) == 0]


def _nested(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Put the values of a choice where the config has them."""
    result = {key: choice[key] for key in ("learning_rate", "weight_decay") if key in choice}
    network = {key: choice[key] for key in ("widths", "bottom_units", "unshuffle") if key in choice}
    loss = {key: choice[key] for key in ("gradient", "scale") if key in choice}
    return result | ({"network": network} if network else {}) | ({"loss": loss} if loss else {})


def _rungs(config: TrainingConfig) -> list[int]:
    """Return the steps at which trials are compared: whole validations, rising."""
    every = config.validate_every
    return sorted(
        {min(config.steps, max(1, round(share * config.steps / every)) * every) for share in config.search.rungs}
    )


def _advance(trial: _Trial, data: tuple[list[Sample], list[Sample]], steps: int, stop: Stop, *, resume: bool) -> None:
    result = fit(trial.config, data, resume=resume, until=steps, stop=stop)
    trial.seconds += float(result.pop("seconds"))
    trial.result = result


def _write_table(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def _publish(path: Path, config: TrainingConfig, best: _Trial, table: Sequence[Mapping[str, Any]]) -> Path:
    """Write the best config beside the given one, comments kept, and put its training where `train` looks."""
    yaml = YAML()
    yaml.width = 120
    document = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in _nested(best.choice).items():
        document[key] = (dict(document.get(key) or {}) | value) if isinstance(value, dict) else value
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in table]
    document["searched"] = rows
    *_, result = search_files(Path(config.output), path)
    with replacing(result) as partial, partial.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    output, source = Path(config.output), Path(best.config.output)
    for suffix in _PARTS:
        shutil.copyfile(source.with_suffix(suffix), output.with_suffix(suffix))
    with output.with_suffix(".yaml").open("a", encoding="utf-8") as file:
        yaml.dump({"search": rows}, file)
    return result
