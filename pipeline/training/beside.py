"""What lies beside the weights that a training writes, and what of it may be replaced."""

from __future__ import annotations

import filecmp
import pickle
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ConfigError, OutputConflict
from pipeline.models.base import read_card
from pipeline.system.lock import NoLocks, locked
from pipeline.training.log import is_log

CURVE = ("step", "relative_fit")
"""The first columns of a curve, by which it is known."""


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Keep other trainings from an output and the files beside it; where there are no locks, nobody is kept out.

    Raises:
        OutputConflict: another training writes it, or its folder cannot be written.
    """
    path = output.with_name(f".{output.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputConflict(f"{output}: cannot be written ({error.strerror}); set another output") from error
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path, what=str(output)))
        except NoLocks:
            path.unlink(missing_ok=True)
        yield


def require_replaceable(weights: Path, config: Path) -> None:
    """Refuse an output that, or whose card, curve or log, would take the place of a file that no training wrote.

    Raises:
        ConfigError: names the file.
    """
    card, curve, log = (weights.with_suffix(suffix) for suffix in (".yaml", ".curve.csv", ".log"))
    if weights.suffix != ".safetensors":
        raise ConfigError(f"{config}: output: must end in .safetensors, found {weights.name}; call the weights so")
    if card == config.resolve():
        raise ConfigError(
            f"{config}: output: the card of {weights.name} would be written over this file ({card.name}); "
            "choose another name for one of them"
        )
    for path, ours in ((card, _is_card(card)), (curve, _starts(curve, ",".join(CURVE))), (log, is_log(log))):
        if path.exists() and not ours:
            raise ConfigError(
                f"{config}: output: {path} was not written by a training, and would be replaced; choose another name, "
                "or move it away"
            )


def require_search_replaceable(weights: Path, config: Path, steps: int, patience: int | None) -> None:
    """Refuse a search that would take the place of what no search wrote: files, or the checkpoint of a training.

    Args:
        weights: the output, beside which the files of the search lie.
        config: the config.
        steps: of a whole training, and
        patience: as in `require_nothing_unfinished`.

    Raises:
        ConfigError: names a file that no search wrote.
        OutputConflict: names the checkpoint of a training that was stopped.
    """
    table, log, best = search_files(weights, config)
    for path, ours in ((table, _starts(table, "rung,")), (log, is_log(log)), (best, _has(best, b"\nsearched:"))):
        if path.exists() and not ours:
            raise ConfigError(
                f"{path}: was not written by a search, and would be replaced; choose another output or name of the "
                "config, or move it away"
            )
    checkpoint = weights.with_suffix(".checkpoint.pt")
    trials = table.with_suffix("").glob(f"*/{checkpoint.name}")
    # an earlier search has put that of its best trial there
    if checkpoint.is_file() and not any(filecmp.cmp(checkpoint, trial, shallow=False) for trial in trials):
        require_nothing_unfinished(weights, steps, patience)


def search_files(weights: Path, config: Path) -> tuple[Path, Path, Path]:
    """Return the table and the log of a search, and the config that it writes; the trials lie beside the table."""
    table, log = weights.with_suffix(".search.csv"), weights.with_suffix(".search.log")
    return table, log, config.with_name(f"{config.stem}.best.yaml")


def require_nothing_unfinished(weights: Path, steps: int, patience: int | None) -> None:
    """Refuse to begin anew over a training that was stopped: its checkpoint may hold hours of work.

    Args:
        weights: the output.
        steps: of the whole training.
        patience: validations in a row without a better score that end it before; None = never.

    Raises:
        OutputConflict: names the checkpoint.
    """
    path = weights.with_suffix(".checkpoint.pt")
    try:
        saved = read_checkpoint(path, "cpu") if path.is_file() else {}
    except ConfigError:
        # of a damaged one nothing is lost
        return
    ended = patience is not None and saved.get("stale", 0) >= patience
    if "bests" in saved and saved["step"] < steps and not ended:
        raise OutputConflict(
            f"{path}: a training was stopped here at step {saved['step']} of {steps}; --resume goes on with it; "
            "to begin anew, delete this file"
        )


def read_checkpoint(path: Path, device: str) -> dict[str, Any]:
    """Read a checkpoint onto a device; nothing in it is executed.

    Raises:
        ConfigError: it is damaged, or none.
    """
    try:
        with warnings.catch_warnings():
            # torch asks to be told of programs that it refuses to run
            warnings.simplefilter("ignore")
            saved = torch.load(path, weights_only=True, map_location=device)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
        raise ConfigError(f"{path}: is no checkpoint, or damaged; delete it and train again") from None
    if not isinstance(saved, dict):
        raise ConfigError(f"{path}: is no checkpoint of a training; move it away and train again")
    return saved


def _is_card(path: Path) -> bool:
    try:
        return path.exists() and bool(read_card(path.with_suffix(".safetensors")))
    except ConfigError:
        return False


def _has(path: Path, text: bytes) -> bool:
    try:
        return text in path.read_bytes()
    except OSError:
        return False


def _starts(path: Path, text: str) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(text)) in (text.encode(), b"")
    except OSError:
        return False
