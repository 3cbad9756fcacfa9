"""Images and masks in memory, as small as a test wants them, and how to compare what came back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from pipeline.formats._image import unobserved
from pipeline.formats.base import Layer, Source
from pipeline.geometry.box import Box
from pipeline.geometry.space import Space

UTM33 = rasterio.crs.CRS.from_epsg(32633).to_wkt()
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def raster_space(shape: tuple[int, int], step: float = 10.0, crs: str = "", units: str = "m") -> Space:
    """Return a north-up grid with its corner at (500000, 5100000)."""
    affine = (step, 0.0, 500000.0, 0.0, -step, 5100000.0)
    return Space(kind="raster", shape=shape, affine=affine, crs=crs, units=units)


def volume_space(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Space:
    """Return an axis-aligned volume; `spacing_mm` in memory order (z, y, x)."""
    z, y, x = spacing_mm
    affine = (x, 0.0, 0.0, 0.0, 0.0, y, 0.0, 0.0, 0.0, 0.0, z, 0.0)
    return Space(kind="volume", shape=shape, affine=affine, crs="RAS+", units="mm")


def space_of(shape: tuple[int, ...]) -> Space:
    """Return a UTM grid for two axes, an oblique RAS+ grid for three; all numbers are exact in float32."""
    if len(shape) == 2:
        return Space(kind="raster", shape=shape, affine=(10, 0, 5e5, 0, -10, 5e6), crs=UTM33, units="m")
    affine = (1.0, 0.25, 0.0, -90.0, -0.25, 1.0, 0.0, -126.0, 0.0, 0.0, 2.5, -72.0)
    return Space(kind="volume", shape=shape, affine=affine, crs="RAS+", units="mm")


@dataclass(frozen=True, kw_only=True)
class ArraySource:
    """A `Source` over an array: an image for masks, and the oracle of readers and writers."""

    values: NDArray[Any] = field(repr=False, compare=False)
    """Stored values `(c, *spatial)`, of any dtype."""
    space: Space
    """Grid of all channels."""
    no_value: float | None = None
    """What every channel stores where nothing was observed; None = it has no such value."""
    kind: str = "array"
    """Name of a format."""
    paths: tuple[str, ...] = ("image.tif",)
    """What messages call the image; nothing is there."""
    channel_names: tuple[str, ...] = ()
    """One name a channel; none = B01, B02 and so on."""
    scale_offset: tuple[tuple[float, float], ...] = ()
    """Per channel; none = (1, 0)."""
    native_chunk: tuple[int, ...] = (64, 64)
    """Extent of a tile."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Header facts."""
    fixed_channels: tuple[int, ...] = ()
    """Channels that are never restored."""

    def __post_init__(self) -> None:
        """Give every channel a name and a scale."""
        names = self.channel_names or tuple(f"B{n + 1:02d}" for n in range(self.n_channels))
        object.__setattr__(self, "channel_names", names)
        object.__setattr__(self, "scale_offset", self.scale_offset or ((1.0, 0.0),) * self.n_channels)

    @property
    def n_channels(self) -> int:
        """Return the length of the first axis."""
        return len(self.values)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the array."""
        return self.values.dtype

    @property
    def nodata(self) -> tuple[float | None, ...]:
        """Return `no_value` for each channel."""
        return (self.no_value,) * self.n_channels

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return a copy of the window, `(c, *box.shape)`."""
        return self.values[(channels, *box.slices)].copy()

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True at `no_value` and where a float is not finite, `(c, *box.shape)`."""
        return np.stack([unobserved(v, n) for v, n in zip(self.read(box), self.nodata, strict=True)])

    def stage(self, directory: Path) -> Source:  # noqa: ARG002
        """Return itself."""
        return self

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayMask:
    """A `Mask` over an array of states."""

    states: NDArray[np.uint8]
    """KEEP, FILL or NEVER, `(1 or c, *spatial)`."""
    notices: tuple[str, ...] = ()
    """What the mask has to say."""

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return a window, `(1 or c, *box.shape)`."""
        return self.states[(slice(None), *box.slices)]


def random_values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    """Return values over the whole range of `dtype`, with NaN, -0.0, infinity and extremes."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    raw = rng.integers(0, 256, size=int(np.prod(shape)) * kind.itemsize, dtype=np.uint8)
    values = raw.view(kind).reshape(shape).copy()
    if kind.kind == "f":
        # arbitrary bits hold NaNs with payloads, which must travel untouched
        keep = rng.random(shape) < 0.05
        values = np.where(keep, values, rng.normal(size=shape).astype(kind))
        awkward = np.array([np.nan, -0.0, np.inf, -np.inf, np.finfo(kind).max], dtype=kind)
        values.flat[: min(5, values.size)] = awkward[: min(5, values.size)]
    return values


def random_image(shape: tuple[int, ...], dtype: str, *, channels: int = 1, seed: int = 0) -> ArraySource:
    """Return a random image on a plausible grid; rasters declare nodata and a scale, volumes a slope."""
    raster = len(shape) == 2
    bands, volumes = (tuple(f"{word}{i + 1}" for i in range(channels)) for word in ("B", "volume_"))
    return ArraySource(
        values=random_values((channels, *shape), dtype, seed),
        space=space_of(shape),
        no_value=(float("nan") if np.dtype(dtype).kind == "f" else 0.0) if raster else None,
        channel_names=bands if raster else volumes if channels > 1 else ("volume",),
        scale_offset=((0.5, -1.0),) * channels,
        native_chunk=shape,
    )


def layer_of(source: Any, role: str = "restored", **changes: Any) -> Layer:
    """Return the layer that keeps everything of `source`, but for `changes`."""
    fields = {
        "role": role,
        "n_channels": source.n_channels,
        "dtype": source.dtype,
        "nodata": source.nodata[0],
        "channel_names": source.channel_names,
    }
    return Layer(**{**fields, **changes})


def whole(source: Any) -> Box:
    """Return the box of the whole image."""
    return Box.whole(source.space.shape)


def same_bytes(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return True if shape, dtype and every bit agree (NaN payloads and the sign of zero included)."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def digest(path: Path) -> str:
    """Return one hash over a file, or over names and bytes of all files in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        total.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()
