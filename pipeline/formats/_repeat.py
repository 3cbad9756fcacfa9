"""Read bands of several pixel sizes on the grid of the finest: every pixel of a coarser band is repeated.

No value is computed, so what was observed at the coarse size is found again at every pixel that it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.formats._band_names import band_stems
from pipeline.formats._image import Image
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space, same_crs

_NEAR = 1e-3
"""Of a pixel: how far grids that fit may lie apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated(Image):
    """Images on one another's grids as one image; see `base.Source`."""

    parts: tuple[Source, ...]
    factors: tuple[tuple[int, int], ...]
    """Of each part, how often its pixels are repeated along rows and columns."""

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return stored values, shape `(c, *box.shape)`.

        Raises:
            SourceError: a file is damaged; names the file and the window.
            ValueError: the box reaches out of the image.
        """
        self.require_inside(box)
        wanted = range(self.n_channels)[channels]
        planes, first = [], 0
        for part, factor in zip(self.parts, self.factors, strict=True):
            own = range(max(first, wanted.start), min(first + part.n_channels, wanted.stop))
            if own:
                values = part.read(_coarse(box, factor), slice(own.start - first, own.stop - first))
                planes.append(_fine(values, box, factor))
            first += part.n_channels
        return np.concatenate(planes)

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True where nothing was observed, `(c, *box.shape)`."""
        self.require_inside(box)
        masks = []
        for part, factor in zip(self.parts, self.factors, strict=True):
            mask = _fine(part.never(_coarse(box, factor)), box, factor)
            masks.append(np.broadcast_to(mask, (part.n_channels, *box.shape)))
        return np.concatenate(masks)

    def close(self) -> None:
        """Release file handles."""
        for part in self.parts:
            part.close()


def repeated(parts: Sequence[Source]) -> Source:
    """Return rasters of one place as one image on the grid of the finest.

    Raises:
        SourceError: types differ, or a grid is not that of the finest with a whole number of its pixels in each.
    """
    target = min((part.space for part in parts), key=lambda space: space.spacing)
    dtypes = {part.dtype for part in parts}
    if len(dtypes) > 1:
        raise SourceError(
            f"{parts[0].paths[0]}: bands of different types ({', '.join(sorted(map(str, dtypes)))}); name those of one"
        )
    first = parts[0]
    return Repeated(
        kind=first.kind,
        paths=tuple(path for part in parts for path in part.paths),
        space=target,
        n_channels=sum(part.n_channels for part in parts),
        dtype=first.dtype,
        channel_names=_names(parts),
        nodata=tuple(value for part in parts for value in part.nodata),
        scale_offset=tuple(pair for part in parts for pair in part.scale_offset),
        native_chunk=next(part.native_chunk for part in parts if part.space is target),
        attributes={"driver": first.attributes.get("driver", "")},
        notices=tuple(dict.fromkeys(note for part in parts for note in getattr(part, "notices", ()))),
        parts=tuple(parts),
        factors=tuple(_factor(part, target) for part in parts),
    )


def _names(parts: Sequence[Source]) -> tuple[str, ...]:
    names = tuple(name for part in parts for name in part.channel_names)
    if len(set(names)) < len(names) == len(parts):
        return tuple(band_stems([part.paths[0] for part in parts]))
    return names


def _factor(part: Source, target: Space) -> tuple[int, int]:
    rows, cols = (max(1, round(own / fine)) for own, fine in zip(part.space.spacing, target.spacing, strict=True))
    a, b, c, d, e, f = part.space.affine
    fitted = Space(
        kind="raster",
        shape=(part.space.shape[0] * rows, part.space.shape[1] * cols),
        affine=(a / cols, b / rows, c, d / cols, e / rows, f),
        crs=part.space.crs,
        units=part.space.units,
    )
    # the last coarse pixel may reach beyond the finest image
    beyond = [n - m for n, m in zip(fitted.shape, target.shape, strict=True)]
    aligned = np.allclose(fitted.affine, target.affine, rtol=0, atol=_NEAR * min(target.spacing))
    if (
        not aligned
        or not all(0 <= n < k for n, k in zip(beyond, (rows, cols), strict=True))
        or not same_crs(part.space.crs, target.crs)
    ):
        raise SourceError(
            f"{part.paths[0]}: its grid is not that of the finer bands with whole numbers of their pixels in its own "
            f"({part.space.describe()} / {target.describe()}); restore it by itself"
        )
    return rows, cols


def _coarse(box: Box, factor: tuple[int, int]) -> Box:
    return Box(
        tuple(a // n for a, n in zip(box.start, factor, strict=True)),
        tuple(-(-b // n) for b, n in zip(box.stop, factor, strict=True)),
    )


def _fine(values: NDArray[Any], box: Box, factor: tuple[int, int]) -> NDArray[Any]:
    for axis, n in enumerate(factor, start=1):
        if n > 1:
            values = np.repeat(values, n, axis=axis)
    starts = (a - a // n * n for a, n in zip(box.start, factor, strict=True))
    at = tuple(slice(start, start + size) for start, size in zip(starts, box.shape, strict=True))
    return values[(slice(None), *at)]
