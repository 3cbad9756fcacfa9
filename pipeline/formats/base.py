"""What a format promises, and the values that cross its border.

A format module (its file name is the `kind`) offers::

    SUFFIXES: tuple[str, ...]                       lower case, longest first, e.g. (".nii.gz", ".nii")
    SPACE_KINDS: tuple[str, ...]                    what it can hold: "raster", "volume"
    def sniff(path: str) -> bool                    cheap: looks at the first bytes, never decodes pixels
    def open_source(paths: Sequence[str], *, bands: Sequence[int | str] | None = None,
                    nodata: float | None = None) -> Source
    def write(layer: Layer, path: Path, like: Source, pull: Pull, options: WriteOptions) -> None

`like` of a writer may be a part of an image: `_view.whole_of(like)` is the image, with the header of its file, and
`_view.box_of(like)` says which part.

Arrays are channels first: `(c, y, x)` for rasters, `(c, z, y, x)` for volumes where `c` counts the time
points of a 4-D file. Values are always in the *stored* dtype: scale/offset are metadata, never applied on
reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.geometry.space import Space

Role = Literal["restored", "uncertainty", "source", "doubt", "display", "mask"]

FOR_LOOKING_AT = "for looking at, not for measuring"
"""What files of the role `display` say of themselves."""


class Source(Protocol):
    """An image that can be read window by window.

    Opening reads headers only. Instances are picklable (they reopen their file on the worker) and `read` may
    be called from several threads at once. After `close` the results are undefined.
    """

    @property
    def kind(self) -> str:
        """Name of the format module that opened it."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Files as given by the user; staging does not change them."""
        ...

    @property
    def space(self) -> Space:
        """Grid shared by all channels."""
        ...

    @property
    def n_channels(self) -> int:
        """Bands or time points."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype, in native byte order."""
        ...

    @property
    def channel_names(self) -> tuple[str, ...]:
        """One name a channel; made up (`band_1`, `volume_1`) where the file has none."""
        ...

    @property
    def nodata(self) -> tuple[float | None, ...]:
        """Per channel; the value stored where nothing was observed (may be NaN), None if there is none."""
        ...

    @property
    def scale_offset(self) -> tuple[tuple[float, float], ...]:
        """Per channel `(scale, offset)`: physical = stored * scale + offset. (1, 0) if the file has none."""
        ...

    @property
    def native_chunk(self) -> tuple[int, ...]:
        """Spatial extent of the file's own tile, strip or slab: reads aligned to it are cheapest."""
        ...

    @property
    def attributes(self) -> Mapping[str, Any]:
        """JSON-able header facts for the record (driver, compression, tags, codes, units, ...)."""
        ...

    @property
    def fixed_channels(self) -> tuple[int, ...]:
        """Channels that are copied and never restored, such as alpha."""
        ...

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return stored values in `box` (inside the image), shape `(c, *box.shape)`, dtype `self.dtype`.

        Raises:
            SourceError: the file is damaged; names the file and the window.
        """
        ...

    def never(self, box: Box) -> NDArray[np.bool_]:
        """Return True where nothing can be known: nodata, internal mask 0, alpha 0, non-finite outside holes.

        Shape `(1, *box.shape)` if it is the same for all channels, else `(c, *box.shape)`.
        """
        ...

    def stage(self, directory: Path) -> Source:
        """Return a source with the same content and cheap windows (e.g. gzip inflated once).

        Returns itself if nothing is to be gained. Idempotent and crash-safe: a complete staged file is
        reused.
        """
        ...

    def close(self) -> None:
        """Release file handles."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file to be written beside the others of a run.

    Attributes:
        role: `restored` and `display` keep every header field of the input, but for the note in a NIfTI header that
            `display` is not for measurement; `uncertainty` (float32), `source`, `doubt` and `mask` (uint8) keep the
            grid only.
        n_channels: channels to write.
        dtype: stored dtype.
        nodata: value that means nothing is known, None if there is none.
        channel_names: description of each channel.
        tags: provenance tags, default domain, short strings.
        categories: names of the values of a layer of codes, for formats that hold such names.
        filled: gives True where a pixel was restored, bool `(1 or c, *box.shape)`: a format whose files say apart from
            the values which pixels are valid says so of these; None = of no pixel.
    """

    role: Role
    n_channels: int
    dtype: np.dtype[Any]
    nodata: float | None = None
    channel_names: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[int, str] = field(default_factory=dict)
    filled: Callable[[Box], NDArray[np.bool_]] | None = None

    @property
    def is_image(self) -> bool:
        """True for a layer that takes the place of the input, with its header."""
        return self.role in ("restored", "display")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Options of the writer.

    Attributes:
        scratch: folder on the same file system for temporary files.
        memory_bytes: bound on the bytes held at once.
    """

    scratch: Path
    memory_bytes: int = 256 * 2**20


Pull = Callable[[Box], NDArray[Any]]
"""`pull(box)` returns finished values `(c, *box.shape)` in the layer's dtype; writers choose the order."""
