"""Open an image or a guide anywhere, and bring stored values into float32 without losing their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.formats._image import knows_sides
from pipeline.formats._nifti_header import on_other_matrix, sides_unknown
from pipeline.formats._repeat import repeated
from pipeline.formats._resample import reprojection, resampled
from pipeline.formats._view import View, box_of, cropped, turned, whole_of
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import ROUNDED, Space, same_crs
from pipeline.masks.base import KEEP, ComposedMask, Mask, open_masks
from pipeline.numerics.column import column
from pipeline.numerics.replicated import pixel_size
from pipeline.plan.refs import GuideRef, SourceRef
from pipeline.plan.workdir import fetched_from
from pipeline.registry import load
from pipeline.restore.task import Guide
from pipeline.system.redact import is_redacted

_CENTRE_REACH = 16
_AT, _EDGE = (0.25, 0.5, 0.75), 64
"""Where on the diagonal pieces of an image lie, and how large they are along each axis, pixels."""


def open_source(ref: SourceRef, space: Space | None = None) -> Source:
    """Open an image, staged as its `SourceRef` says; of it the part that it names, if it names one.

    On a `space` it is turned, if its pixels are those of it along other axes; or resampled, if its `SourceRef` says so.

    Raises:
        SourceError: it cannot be opened, its address was published without what opens it, or its copy is gone.
    """
    for path in ref.paths:
        if is_redacted(path):
            raise SourceError(
                f"{path}: user, password and query of an address are not kept with the results, so this image cannot "
                "be opened again; run the config anew"
            )
        if (address := fetched_from(path)) and not Path(path).exists():
            raise SourceError(
                f"{address}: copies from object storage are not kept with the results; run the config anew"
            )
    module = load("formats", ref.kind)
    source: Source
    if ref.repeat:
        source = repeated([module.open_source((path,), nodata=ref.nodata) for path in ref.paths])
    else:
        source = module.open_source(ref.paths, bands=ref.bands, nodata=ref.nodata)
    if ref.staged:
        source = source.stage(Path(ref.staged))
    if space is not None:
        source = turned(source, space)
    if ref.resample and space is not None:
        source = resampled(source, space)
    return cropped(source, Box(*ref.region)) if ref.region else source


@dataclass(frozen=True, kw_only=True)
class OpenGuide:
    """A reference or auxiliary that is open.

    Attributes:
        source: the image, on the grid of the image to restore.
        mask: its own mask.
        centre: subtracted per channel before float32 arithmetic; 0 where float32 is exact.
        shift: added per channel to stored values, so that they mean what those of the image mean; empty = nothing.
    """

    source: Source
    mask: ComposedMask
    centre: tuple[float, ...]
    shift: tuple[float, ...] = ()

    def read(self, box: Box) -> Guide:
        """Read `box` as float32 with its validity; 0 where not valid."""
        stored = self.source.read(box)
        valid = np.asarray(self.mask.read(box) == KEEP) & computable(stored)
        # both are small whole numbers, of which float32 holds the sum
        moved = tuple(c - s for c, s in zip(self.centre, self.shift, strict=True)) if self.shift else self.centre
        return Guide(values=centred(stored, moved, valid), valid=valid)


def pixel_sizes(source: Source) -> tuple[tuple[float, ...], ...]:
    """Return how large the pixels of each channel are along each axis, in pixels of the grid; 1 for volumes."""
    if source.space.ndim != 2:
        return ((1.0,) * source.space.ndim,) * source.n_channels
    sizes = [[pixel_size(band) for band in piece] for piece in pieces(source)]
    return tuple(map(tuple, np.median(sizes, axis=0).tolist()))


def open_guide(guide: GuideRef, target: Source) -> OpenGuide:
    """Open a reference or auxiliary of the image `target`, with its own masks (without any, its nodata is all known).

    Raises:
        ConfigError: it lies on another grid and is not to be resampled; names both grids. Or it has no band but alpha.
    """
    part = box_of(target)
    image = whole_of(target)
    source = _without_alpha(open_source(guide.source, image.space), guide, image.space)
    difference = image.space.mismatch(source.space, tolerance=ROUNDED)
    if difference:
        raise ConfigError(
            f"{guide.role} {source.paths[0]} lies on another grid than {image.paths[0]}: {difference}\n"
            f"  image:     {image.space.describe()}\n  {guide.role}: {source.space.describe()}\n"
            + (_on_other_matrix(image, source, guide.role) or _remedy(image, source))
        )
    if isinstance(source, View) and not (knows_sides(image) and knows_sides(source)):
        bare = image if not knows_sides(image) else source
        raise ConfigError(
            f"{guide.role} {source.paths[0]}: its voxel axes run other ways than those of {image.paths[0]} "
            f"({source.whole.space.axis_codes} against {image.space.axis_codes}), and {sides_unknown(bare.paths[0])}"
        )
    source = cropped(source, part) if part else source
    options = [load("masks", entry["kind"]).Options.model_validate(entry) for entry in guide.masks]
    mask = open_masks(options, source, lambda path: str(Path(guide.base, path)))
    shift = guide.shift * source.n_channels if len(guide.shift) == 1 else guide.shift
    return OpenGuide(source=source, mask=mask, centre=_guide_centre(source, mask), shift=shift)


def _without_alpha(source: Source, guide: GuideRef, space: Space) -> Source:
    """Return a guide without bands that say how opaque it is: they hide pixels, and tell nothing of the ground.

    Raises:
        ConfigError: there is no other band.
    """
    ref, fixed = guide.source, source.fixed_channels
    if not fixed or ref.repeat:
        return source
    asked = ref.bands or tuple(range(1, source.n_channels + 1))
    bands = tuple(band for c, band in enumerate(asked) if c not in fixed)
    source.close()
    if not bands:
        raise ConfigError(f"{guide.role} {source.paths[0]}: no band but alpha; choose others (`bands`)")
    return open_source(replace(ref, bands=bands), space)


def _on_other_matrix(image: Source, guide: Source, role: str) -> str:
    named = (("the image", image), (f"the {role}", guide))
    return on_other_matrix([(name, getattr(one, "other", None), one.space) for name, one in named])


def _remedy(image: Source, guide: Source) -> str:
    ours, theirs = image.space.crs, guide.space.crs
    if ours and theirs and not same_crs(ours, theirs):
        return reprojection(guide.paths[0], image.paths[0])
    return "Bring it onto the image's grid, or set `resample: true` on this entry"


def _guide_centre(source: Source, mask: Mask) -> tuple[float, ...]:
    """Median of the middle of the image: near enough to the values for float32 to keep their differences."""
    if float32_holds(source.dtype):
        return (0.0,) * source.n_channels
    middle = tuple(n // 2 for n in source.space.shape)
    box = Box(middle, tuple(m + 1 for m in middle)).grow(_CENTRE_REACH) & Box.whole(source.space.shape)
    stored = source.read(box)
    valid = np.broadcast_to(mask.read(box) == KEEP, stored.shape) & computable(stored)
    return tuple(
        float(np.median(c[v].astype(np.float64))) if v.any() else 0.0 for c, v in zip(stored, valid, strict=True)
    )


LARGEST = 2e19
"""What float32 can square, and above every integer type; larger values are fill values that nobody declared."""


def computable(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where values, of any shape, are finite and not beyond `LARGEST`."""
    if values.dtype.kind != "f":
        return np.ones(values.shape, dtype=np.bool_)
    if float(np.finfo(values.dtype).max) < LARGEST:
        return np.asarray(np.isfinite(values))
    return np.asarray(np.abs(values) <= LARGEST)


def float32_holds(dtype: np.dtype[Any]) -> bool:
    """Return True if float32 represents every value of the dtype."""
    return (dtype.kind in "iub" and dtype.itemsize <= 2) or (dtype.kind == "f" and dtype.itemsize <= 4)


_LARGEST = 3e38
"""Just inside the range of float32."""


def centred(stored: NDArray[Any], centre: Sequence[float], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return stored values `(c, *spatial)` as float32 relative to `centre` `(c,)`, 0 where not `valid`.

    The centre is 0 for every dtype that float32 holds exactly; for wide integers and float64 it keeps precision.
    """
    middle = column(centre, stored.ndim - 1, np.float64)
    safe = np.where(valid, stored, 0)
    if not middle.any() and stored.dtype != np.float64:
        return safe.astype(np.float32)
    # float64 data may hold undeclared fill values such as -1.8e308
    relative = np.clip(np.where(valid, safe.astype(np.float64) - middle, 0.0), -_LARGEST, _LARGEST)
    return relative.astype(np.float32)


def pieces(source: Source) -> list[NDArray[Any]]:
    """Return stored values of three pieces on the diagonal of an image, each `(c, *spatial)`; smaller at its edges."""
    shape, read = source.space.shape, []
    for share in _AT:
        start = tuple(max(0, int(share * n) - _EDGE // 2) for n in shape)
        read.append(source.read(Box(start, tuple(a + _EDGE for a in start)) & Box.whole(shape)))
    return read
