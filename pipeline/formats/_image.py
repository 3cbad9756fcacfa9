"""What every opened image has in common, as one frozen value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.formats.base import Layer, Pull, Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space

_MAX_PIXELS = 10**12
"""Up to here the survey's windows and cells do not grow with the image."""
_MAX_CHANNELS = 1 << 20
_FAR = 1e100
"""No coordinate of this world, and its square is still a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The facts of an opened image; formats add `read` and `never`. See `base.Source` for the meaning."""

    kind: str
    paths: tuple[str, ...]
    space: Space
    n_channels: int
    dtype: np.dtype[Any]
    channel_names: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scale_offset: tuple[tuple[float, float], ...]
    native_chunk: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fixed_channels: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()
    """What the user should know of the header."""

    def stage(self, directory: Path) -> Self:  # noqa: ARG002
        """Return this image: its windows are cheap to read as they are."""
        return self

    def close(self) -> None:
        """Release nothing; formats that hold handles do more."""

    def space_of(self, box: Box) -> Space:
        """Return the grid of a part of the image, in numbers that its format can hold."""
        return self.space.part(box)

    def require_inside(self, box: Box) -> None:
        """Check a window.

        Raises:
            ValueError: the box reaches out of the image.
        """
        whole = Box.whole(self.space.shape)
        if box.ndim != whole.ndim or (box & whole) != box:
            raise ValueError(f"{self.paths[0]}: window {box} is not inside the image of shape {whole.stop}")


def require_plausible(image: Image) -> None:
    """Check the size and the place that a header claims.

    Raises:
        SourceError: no pixel, more pixels than one run can survey, or a pixel without an extent in the world.
    """
    path, space = image.paths[0], image.space
    if min(space.shape, default=0) < 1 or image.n_channels < 1:
        raise SourceError(f"{path}: an image of shape {space.shape} has no pixel; the header is damaged")
    if math.prod(space.shape) > _MAX_PIXELS:
        raise SourceError(
            f"{path}: the header says {' x '.join(map(str, space.shape))} pixels, more than {_MAX_PIXELS:.0e}; "
            "cut it into parts (gdal_translate -srcwin), or make it again if that is wrong"
        )
    require_place(path, space)


def require_channels(path: str, count: int) -> int:
    """Return the number of channels that a header claims, checked before anything is made for each of them.

    Raises:
        SourceError: more than any series or sensor has.
    """
    if count > _MAX_CHANNELS:
        raise SourceError(f"{path}: the header says {count} channels or volumes, more than {_MAX_CHANNELS}; repair it")
    return count


def require_once(path: str, bands: Sequence[int | str], chosen: Sequence[int]) -> None:
    """Check that bands were chosen once each.

    Raises:
        ConfigError: one stands twice, perhaps by number and by name.
    """
    twice = [band for band, at in zip(bands, chosen, strict=True) if list(chosen).count(at) > 1]
    if twice:
        raise ConfigError(f"{path}: {', '.join(map(str, twice))} name one band; keep one of them")


def require_place(path: str, space: Space) -> None:
    """Check that an affine gives every pixel a place.

    Raises:
        SourceError: a coordinate is no number or out of this world, or a pixel has no extent.
    """
    # the comparison holds for no not-a-number either
    if not all(abs(v) < _FAR for v in space.affine) or min(space.spacing) <= 0:
        raise SourceError(
            f"{path}: the affine {space.affine} is not finite or gives a pixel no extent; repair the georeference "
            "(NIfTI: sform and qform)"
        )


def knows_sides(source: Source) -> bool:
    """Return False for a volume whose file does not say where right, front and head are; RAS+ is then assumed."""
    codes = [source.attributes.get(name) for name in ("qform_code", "sform_code")]
    return bool(source.attributes.get("sides_stated", codes != [0, 0]))


def representable(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """Return `nodata` if a pixel of `dtype` can hold it, else None (e.g. -9999 declared for uint8)."""
    if nodata is None or np.issubdtype(dtype, np.floating):
        return nodata
    # a whole number stays one: as a float it would be another value of 64 bits
    if not math.isfinite(nodata) or nodata != int(nodata):
        return None
    info = np.iinfo(dtype)
    return nodata if info.min <= nodata <= info.max else None


def unobserved(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Return True where `values` hold `nodata` (NaN included) or a float is not finite; same shape."""
    result: NDArray[np.bool_]
    if np.issubdtype(values.dtype, np.floating):
        result = ~np.isfinite(values)
    else:
        result = np.zeros(values.shape, dtype=np.bool_)
    if nodata is not None and math.isfinite(nodata):
        # a file declares nodata in double precision, its pixels may be coarser: compare as they are stored;
        # what overflows becomes infinity, which was never observed anyway
        with np.errstate(over="ignore"):
            result |= values == np.asarray(nodata).astype(values.dtype)
    return result


def pulled(pull: Pull, layer: Layer, box: Box) -> NDArray[Any]:
    """Pull one box for a writer and check it, so that no writer stores shifted or converted pixels.

    Raises:
        ValueError: shape or dtype is not the layer's.
    """
    values = np.asarray(pull(box))
    expected = (layer.n_channels, *box.shape)
    if values.shape != expected or values.dtype != layer.dtype:
        raise ValueError(f"{layer.role}, {box}: pulled {values.dtype}{values.shape}, expected {layer.dtype}{expected}")
    return values


def windows(shape: tuple[int, ...], tile: tuple[int, ...], pixel_bytes: int, memory_bytes: int) -> Iterator[Box]:
    """Cut an image into boxes of whole tiles, in file order, each within half the memory bound.

    Boxes grow along the last axis first; a box is never smaller than one tile.
    """
    budget = max(1, memory_bytes // 2 // (pixel_bytes * math.prod(tile)))
    size = list(tile)
    for axis in reversed(range(len(shape))):
        across = -(-shape[axis] // tile[axis])
        count = min(budget, across)
        size[axis] *= count
        if count < across:
            break
        budget //= count
    yield from Box.whole(shape).tiles(size)
