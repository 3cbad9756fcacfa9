"""Choose bands of a product by name or spectral range, all with one size of a pixel.

Observed pixels come back bit for bit, so nothing is interpolated: bands of one size are an image; on a finer grid that
a user asks for, every pixel of a coarser band is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.config.products.base import InputError, Product, ProductBand, metres_text
from pipeline.errors import ConfigError
from pipeline.system.redact import redacted
from pipeline.system.yaml_files import nearest

_MAIN = "red"
"""Spectral range whose finest pixels are those of a product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Bands of a product that are one image."""

    product: Product
    bands: tuple[ProductBand, ...]
    metres: float | None
    """Edge of a pixel of the image."""
    apart: bool = False
    """It is one of several images that the product's bands make."""
    left_out: tuple[str, ...] = ()
    """Bands that have no pixels of this size or coarser ones."""

    @property
    def repeated(self) -> tuple[ProductBand, ...]:
        """Bands with coarser pixels than the image."""
        return tuple(band for band in self.bands if band.metres != self.metres)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, in the order of the bands."""
        return tuple(band.path for band in self.bands)

    @property
    def stem(self) -> str:
        """What the results are called."""
        return f"{self.product.name}_{metres_text(self.metres)}" if self.apart else self.product.name

    def describe(self) -> str:
        """Return which bands were taken, for the user and the record."""
        size = f" at {metres_text(self.metres)}" if self.metres else ""
        text = f"{self.product.name}: {self.product.what}; bands {_names(self.bands)}{size}"
        if self.repeated:
            sizes = ", ".join(f"{band.name} of {metres_text(band.metres)}" for band in self.repeated)
            text += (
                f", where the pixels of coarser bands are repeated ({sizes}): they are observed at their own size only"
            )
        if self.left_out:
            text += f"; left out, as they have finer pixels only: {', '.join(self.left_out)}"
        return text


def select(product: Product, wanted: Sequence[int | str] | None, grid: str = "auto") -> list[Selection]:
    """Return the images that some bands of a product make: one, or with the grid `each` one a size of a pixel.

    Args:
        product: the scene.
        wanted: names of bands or spectral ranges; None = those that have the finest pixels of the scene.
        grid: `auto`: the finest size that all of them are delivered in; `each`: every band at its finest, the sizes as
            images of their own; `10m`: that size, pixels of coarser bands repeated.

    Raises:
        ConfigError: no such band, or the bands have no size in common; an `InputError` of `bands` or `grid`.
    """
    names = None if wanted is None else [_name_of(product, word) for word in wanted]
    if names is not None and len(set(names)) < len(names):
        raise InputError(f"{', '.join(map(str, wanted or ()))} name a band twice; keep one of each", "bands")
    if grid == "each":
        return _each(product, names or _usual(product))
    if grid != "auto":
        return [_on_grid(product, names, float(grid.removesuffix("m")))]
    return [_of_one_size(product, names) if names else _finest(product)]


def select_like(product: Product, image: Selection, wanted: Sequence[int | str] | None = None) -> Selection:
    """Return bands of a reference, at the image's size of a pixel if it has them: those that show what the image shows.

    Args:
        product: the reference.
        image: bands of the image.
        wanted: names of other bands than the image's.

    Raises:
        ConfigError: it has none of them.
    """
    names = [_name_of(product, word) for word in wanted or ()]
    for band in () if names else image.bands:
        words = (band.name,) if product.family == image.product.family else band.common
        found = (name for word in words if len(fits := _fitting(product, word)) == 1 for name in fits)
        names += [name for name in [next(found, None)] if name is not None and name not in names]
    if not names:
        raise ConfigError(
            f"{redacted(product.path)}: has none of the image's bands ({_names(image.bands)}), but {product.listed}; "
            "name those to use with `bands` on its entry"
        )
    if image.metres is not None:
        try:
            return _on_grid(product, names, image.metres)
        except ConfigError:
            pass  # of another sensor: the grids are compared when both are open
    return _of_one_size(product, names)


def _names(bands: Iterable[ProductBand]) -> str:
    return ", ".join(band.name for band in bands)


def _name_of(product: Product, word: int | str) -> str:
    if isinstance(word, int):
        raise InputError(f"{word}: bands of {redacted(product.path)} are chosen by name: {product.listed}", "bands")
    found = _fitting(product, word)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{word} may be {', '.join(found)} in {redacted(product.path)}; write one of these", "bands")
    hint = nearest(word, [*product.names, *(name for band in product.bands for name in band.common)])
    raise InputError(f"{redacted(product.path)} has no band {word}{hint}; it has {product.listed}", "bands")


def _fitting(product: Product, word: str) -> list[str]:
    return list(dict.fromkeys(band.name for band in product.bands if band.answers(word)))


def _files(product: Product, name: str) -> list[ProductBand]:
    """Return the files of a band, finest first."""
    return sorted((band for band in product.bands if band.name == name), key=lambda band: band.metres or 0)


def _usual(product: Product) -> list[str]:
    usual = [name for name in product.names if not _files(product, name)[0].aside]
    return usual or list(product.names)


def _finest(product: Product) -> Selection:
    usual = _usual(product)
    main = [name for name in _fitting(product, _MAIN) if name in usual][:1] or usual
    metres = min((_files(product, name)[0].metres for name in main), key=lambda size: size or 0)
    bands = [band for name in usual for band in _files(product, name) if band.metres == metres]
    return Selection(product=product, bands=tuple(bands), metres=metres)


def _of_one_size(product: Product, names: Sequence[str]) -> Selection:
    sizes = [{band.metres for band in _files(product, name)} for name in names]
    common = set.intersection(*sizes)
    if not common:
        listed = ", ".join(f"{n} {'/'.join(metres_text(b.metres) for b in _files(product, n))}" for n in names)
        finest = min(size or 0 for one in sizes for size in one)
        raise InputError(
            f"{redacted(product.path)} has {listed}: no size of a pixel in common. `input.grid: each` "
            f"restores every size as an image of its own; `input.grid: {metres_text(finest)}` repeats coarser pixels",
            "bands",
        )
    metres = min(common, key=lambda size: size or 0)
    bands = [band for name in names for band in _files(product, name) if band.metres == metres]
    return Selection(product=product, bands=tuple(bands), metres=metres)


def _each(product: Product, names: Sequence[str]) -> list[Selection]:
    finest = [_files(product, name)[0] for name in names]
    sizes = sorted({band.metres for band in finest}, key=lambda size: size or 0)
    return [
        Selection(
            product=product,
            bands=tuple(band for band in finest if band.metres == metres),
            metres=metres,
            apart=len(sizes) > 1,
        )
        for metres in sizes
    ]


def _on_grid(product: Product, names: Sequence[str] | None, metres: float) -> Selection:
    bands, finer = [], []
    for name in names or _usual(product):
        fit = [b for b in _files(product, name) if b.metres and b.metres >= metres and b.metres % metres == 0]
        bands += fit[:1]
        finer += [] if fit else [name]
    have = sorted({band.metres for band in product.bands if band.metres})
    if not any(band.metres == metres for band in bands):
        raise InputError(
            f"no chosen band of {redacted(product.path)} has pixels of {metres_text(metres)}; sizes are "
            f"{', '.join(map(metres_text, have)) or 'not said'}",
            "grid",
        )
    if finer and names is not None:
        raise InputError(
            f"{', '.join(finer)} of {redacted(product.path)} cannot be brought to {metres_text(metres)}: "
            "only coarser pixels are repeated, a whole number of times, none is averaged; it has " + product.listed,
            "grid",
        )
    return Selection(product=product, bands=tuple(bands), metres=metres, left_out=tuple(finer))
