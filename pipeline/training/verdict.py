"""What a training brought, in words: for the end of the command and for the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NOTICEABLE_DB = 0.05
"""Gain that somebody would notice in an image."""

_TRY = (
    "try more images or bands of the same kind, `masks` of the one kind of hole that you have, or twice the `steps`; "
    "if they resemble what the weights have seen, nothing is to be gained: use the weights as they came"
)


def verdict_text(metrics: Mapping[str, Any]) -> str:
    """Return whether a training helped on the held-out pixels, by how much, and if not, what to try.

    Args:
        metrics: `step`, `gain_db` (with `mean`) of the best validation; `gain_db_at_start` if it began with weights.
    """
    gain = float(metrics["gain_db"]["mean"])
    now = f"{gain:+.2f} dB over the base fill on held-out pixels"
    if "gain_db_at_start" not in metrics:
        if gain >= _NOTICEABLE_DB:
            return f"the weights help: {now}"
        return f"the weights do not help yet: {now}; train longer (`steps`), or on more images"
    before = float(metrics["gain_db_at_start"]["mean"])
    if metrics["step"] == 0:
        return (
            f"the training did not help: {now} before it and never more after it, so the weights are those it began "
            f"with; {_TRY}"
        )
    if gain - before < _NOTICEABLE_DB:
        return f"the training hardly helped: {now}, {before:+.2f} dB before; nobody would see the difference; {_TRY}"
    return f"the training helped: {now}, {before:+.2f} dB before"
