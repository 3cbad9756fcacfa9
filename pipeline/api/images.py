"""Which kind of image was given; images in files stay where they are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.api.base import Keep, Kind
from pipeline.api.given import path_of
from pipeline.api.labelled import labelled
from pipeline.api.rasters import Raster, values_of
from pipeline.api.volumes import Volume
from pipeline.errors import SourceError
from pipeline.formats import is_image
from pipeline.formats._foreign import advice

_LOG = logging.getLogger("pipeline.api")
_MANY_BANDS = 16
"""More planes than that are a volume rather than the bands of a satellite."""


def kind_of(image: Any) -> Kind:
    """Return the image as one of the kinds that are known.

    Raises:
        TypeError: it is none of them.
        SourceError: it has another number of axes, or coordinates that are no regular grid.
    """
    if isinstance(image, str | Path):
        return File(path=path_of(image, "image"))
    if hasattr(image, "dataobj") and hasattr(image, "header"):
        return Volume(image=image)
    if hasattr(image, "data_vars"):
        raise TypeError(f"a {type(image).__name__} holds several variables; give one of them: dataset['NAME']")
    if hasattr(image, "dims") and hasattr(image, "coords"):
        return labelled(image)
    if isinstance(image, np.ndarray):
        if image.ndim == 3 and len(image) > _MANY_BANDS:
            _LOG.warning(
                "an array of shape %s is taken for %d bands of a raster; a volume comes as a nibabel image, e.g. "
                "nibabel.Nifti1Image(array, affine)",
                image.shape,
                len(image),
            )
        return Raster(values=image)
    raise TypeError(f"{type(image).__name__}: give a numpy array, xarray.DataArray, nibabel image or path")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An image that lies in a file; layers are arrays of stored values, `(c, *spatial)`."""

    path: str

    def saved(self, _keep: Keep, _stem: str) -> str:
        """Return the path."""
        return self.path

    def entry(self, holes: Any, _keep: Keep) -> dict[str, Any]:
        """Refuse holes in memory: nothing says which way they lie on the grid of a file.

        Raises:
            SourceError: it is no image, and it is known how to read it into an array.
            TypeError: it is one.
        """
        if Path(self.path).is_file() and not is_image(self.path) and (said := advice(self.path)):
            raise SourceError(said)
        raise TypeError(
            f"{self.path}: holes of an image in a file are a path or mask entries, found {type(holes).__name__}"
        )

    def layer(self, path: Path) -> NDArray[Any]:
        """Return all values of a layer."""
        return values_of(path)
