"""One image to restore, as the config asks for it; the plan is made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.formats.base import Source
from pipeline.masks.base import Mask
from pipeline.models._choice import ModelChoice
from pipeline.plan.refs import GuideRef, SourceRef
from pipeline.plan.workdir import WorkFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One image to restore, as the config asks for it.

    Every field but `work`, `memory_bytes`, `threads` and `display` may change the result or how it is cut into blocks.
    """

    work: WorkFolder
    """Where the survey puts its arrays."""
    source: SourceRef
    """The image."""
    open_mask: Callable[[Source], Mask]
    """Makes the mask from the (staged) source."""
    guides: tuple[GuideRef, ...] = ()
    """References, then auxiliaries."""
    model: ModelChoice = field(default_factory=ModelChoice)
    """Network or fill that was asked for."""
    patch: tuple[int, ...] | None = None
    """Extent of a patch on each axis; None = the default."""
    overlap: tuple[int, ...] | None = None
    """Patch minus stride on each axis; None = the default: a quarter of a patch that is given."""
    block: tuple[int, ...] | None = None
    """Extent of a block on each axis; None = chosen by memory."""
    batch: int = 1
    """Patches of a block that are prepared together before the network sees them."""
    memory_bytes: int = 4 * 2**30
    """Bound of one worker."""
    threads: int = 1
    """Threads of the survey."""
    refuse_above: float | None = None
    """See `Plan`."""
    display: bool = False
    """Also make the display product; the restored image does not depend on it."""
    fill_doubted: bool = False
    """Make holes of observed pixels that look like thin cloud or shadow."""
    seed: int = 0
    """Of every random draw."""
    notices: tuple[str, ...] = ()
    """What was found on the way from the config to the files, for the user and the record."""
    config: dict[str, Any] = field(default_factory=dict)
    """Part of the resolved config, and hashes of the inputs, that the result depends on."""
