"""How to open image, guides and model again, anywhere: what a plan holds of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.models.base import Opening


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRef:
    """How to open an image again, anywhere.

    Attributes:
        kind: format module.
        paths: absolute paths or URLs.
        bands: selection, 1-based indices or names; None = all.
        nodata: override of the file's own, None = the file's.
        staged: folder with the staged (cheap to read) copy, or empty.
        resample: read onto the grid of the image to restore.
        repeat: the bands have several pixel sizes; those of the coarser ones are repeated on the grid of the finest.
        region: first pixel and the one after the last, on each axis in memory order, if only that part is restored.
    """

    kind: str
    paths: tuple[str, ...]
    bands: tuple[int | str, ...] | None = None
    nodata: int | float | None = None
    staged: str = ""
    resample: bool = False
    repeat: bool = False
    region: tuple[tuple[int, ...], tuple[int, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideRef:
    """A reference or auxiliary image of the plan.

    Attributes:
        source: the image.
        masks: its own mask entries, as in the config (JSON objects).
        base: folder that relative mask paths start from.
        role: `reference` or `auxiliary`.
        label: name for tables.
        shift: of each channel, what is added to stored values so that they mean what those of the image mean; one
            number holds for all channels, empty = nothing.
    """

    source: SourceRef
    masks: tuple[dict[str, Any], ...] = ()
    base: str = "."
    role: str = "reference"
    label: str = ""
    shift: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """The model of the plan: module, weights file, hash and options."""

    kind: str
    weights: str | None
    sha256: str
    options: dict[str, Any]
    device: str = "cpu"

    def opening(self, ndim: int) -> Opening:
        """Return how it is opened for images of `ndim` dimensions."""
        named = {name: getattr(self, name) for name in ("kind", "weights", "sha256", "options", "device")}
        return Opening(**named, ndim=ndim)
