"""One image to restore, as the config asks for it; the plan is made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.formats.base import Source
from pipeline.masks.base import Mask
from pipeline.plan.refs import GuideRef, SourceRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One image to restore, as the config asks for it.

    Attributes:
        workdir: folder for the survey's arrays.
        source: the image.
        open_mask: makes the mask from the (staged) source.
        guides: references and auxiliaries.
        model: kind, weights file, options and device; None = find shipped weights, then decide by self-test.
        patch, overlap: per axis, or None for the default.
        block: per axis, or None to choose by memory.
        batch: patches a forward pass.
        memory_bytes: bound of one worker.
        refuse_above: see `Plan`.
        seed: of every random draw.
        config: hash-relevant part of the config.
    """

    workdir: Path
    source: SourceRef
    open_mask: Callable[[Source], Mask]
    guides: tuple[GuideRef, ...] = ()
    model_kind: str | None = None
    model_weights: str = "auto"
    model_options: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    patch: tuple[int, ...] | None = None
    overlap: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    batch: int = 1
    memory_bytes: int = 4 * 2**30
    refuse_above: float | None = None
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)
