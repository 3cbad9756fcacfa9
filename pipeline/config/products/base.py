"""What a product is: bands in files of their own, with names, sizes of a pixel and meanings of the numbers."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from pipeline.errors import ConfigError, SourceError
from pipeline.masks.base import MaskOptions, mask_options

_MOST_NAMES = 20_000
"""Files of a product that are looked at; a Sentinel-2 product has about a hundred."""
_MOST_BYTES = 32 * 2**20
"""Of a file with metadata."""
RIM = "60 m"
"""How far the mask of a product is widened: clouds have soft rims."""


class InputError(ConfigError):
    """A key of the config asks for what a file does not have.

    Attributes:
        text: what is wrong.
        key: `bands` or `grid`, in front of it in the message.
    """

    def __init__(self, text: str, key: str = "") -> None:
        super().__init__(text)
        self.text, self.key = text, key

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductBand:
    """One band in one file; a band that is delivered in several sizes of a pixel is several of these."""

    name: str
    """As the agency writes it: B04, B8A; B4 of Landsat."""
    path: str
    """File or address."""
    common: tuple[str, ...] = ()
    """Names of the spectral range as STAC has them (red, nir08); the first is the one that is shown."""
    metres: float | None = None
    """Edge of a pixel; None if the product does not say it."""
    offset: float | None = None
    """physical = (stored + offset) * scale; None if the product does not say it."""
    scale: float | None = None
    aside: bool = False
    """Taken only when it is named: another quantity (temperature), another sharpness, no ground (cirrus)."""

    def answers(self, word: str) -> bool:
        """Return True if a user who writes `word` means this band: B04, B4, SR_B4, red."""
        return plain_band(word) == plain_band(self.name) or word.lower() in self.common

    @property
    def shown(self) -> str:
        """Its name with that of the spectral range."""
        return f"{self.name} ({self.common[0]})" if self.common and self.common[0] != self.name else self.name


@dataclass(frozen=True, kw_only=True)
class Product:
    """A delivered scene."""

    name: str
    """As the agency calls it; names the folder of the results."""
    path: str
    """Folder, archive, metadata file or address, as given."""
    what: str
    """For people: `Sentinel-2 L2A, processing baseline 04.00`."""
    family: str
    """Products of one family have bands of the same names: `sentinel-2`, `landsat-oli`, `landsat-tm`."""
    bands: tuple[ProductBand, ...]
    files: tuple[str, ...] = ()
    """What says all this: metadata, and the archive if it is one."""
    mask: tuple[MaskOptions, ...] = ()
    date: str | None = None
    nodata: float | None = None
    """Stored value that means nothing was observed; None = as the files say."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the bands, each once, in their order."""
        return tuple(dict.fromkeys(band.name for band in self.bands))

    @cached_property
    def listed(self) -> str:
        """Names and sizes of all bands, for messages."""
        shown: dict[str, list[str]] = {}
        for band in self.bands:
            shown.setdefault(band.shown, []).append(metres_text(band.metres))
        return ", ".join(f"{name} {'/'.join(filter(None, sizes))}".strip() for name, sizes in shown.items())


def plain_band(name: str) -> str:
    """Return the name of a band without what spellings differ in.

    >>> plain_band("SR_B4"), plain_band("b04"), plain_band("B8A")
    ('B4', 'B4', 'B8A')
    """
    text = re.sub(r"^(SR|ST|TOA)_(?=B)", "", name.upper())
    return re.sub(r"^B0+(?=\d)", "B", text)


def metres_text(metres: float | None) -> str:
    """Return the size of a pixel for people, empty if it is not known."""
    return "" if metres is None else f"{metres:g}m"


def cloud_mask(kind: str, path: str) -> tuple[MaskOptions, ...]:
    """Return the mask entry that reads a product's own classes."""
    return (mask_options({"kind": kind, "path": path, "buffer": RIM}),)


@dataclass(frozen=True, kw_only=True)
class Container:
    """The files of a folder or a zip archive, named from its top with `/`."""

    path: str

    @cached_property
    def is_archive(self) -> bool:
        """True for a zip file."""
        return not Path(self.path).is_dir()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All files, sorted.

        Raises:
            SourceError: a damaged archive.
        """
        return tuple(sorted(islice(self._names(), _MOST_NAMES)))

    def _names(self) -> Iterator[str]:
        if self.is_archive:
            with self._archive() as archive:
                yield from (name for name in archive.namelist() if not name.endswith("/"))
            return
        for root, _, names in os.walk(self.path):
            yield from (Path(root, name).relative_to(self.path).as_posix() for name in names)

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise SourceError(f"{self.path}: no readable zip archive ({error}); copy it again, or unpack it") from None

    def full(self, name: str) -> str:
        """Return the path of a file as GDAL opens it."""
        return f"/vsizip/{Path(self.path).resolve()}/{name}" if self.is_archive else str(Path(self.path, name))

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            SourceError: it cannot be read, or is too large for metadata.
        """
        try:
            if self.is_archive:
                with self._archive() as archive, archive.open(name) as file:
                    content = file.read(_MOST_BYTES + 1)
            else:
                with Path(self.path, name).open("rb") as file:
                    content = file.read(_MOST_BYTES + 1)
        except (OSError, RuntimeError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise SourceError(f"{self.path}: {name} cannot be read ({error}); copy the product again") from None
        if len(content) > _MOST_BYTES:
            raise SourceError(f"{self.path}: {name} has more than {_MOST_BYTES} bytes, too many for metadata")
        return content


def require_bands(path: str, what: str, bands: Sequence[ProductBand]) -> tuple[ProductBand, ...]:
    """Return the bands of a product if there is any.

    Raises:
        SourceError: there is none.
    """
    if not bands:
        raise SourceError(f"{path}: {what}, but no file of a band is in it; fetch the product again, whole")
    return tuple(bands)
