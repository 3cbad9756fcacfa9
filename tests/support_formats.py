"""Writes small rasters and volumes for the tests of the formats, with the images of `pipeline.testing`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from pipeline.testing.formats import options
from pipeline.testing.images import (
    DTYPES,
    UTM33,
    ArraySource,
    digest,
    layer_of,
    random_image,
    random_values,
    same_bytes,
    space_of,
    whole,
)

__all__ = [
    "DTYPES",
    "UTM33",
    "Affine",
    "ArraySource",
    "digest",
    "layer_of",
    "memory_image",
    "options",
    "random_values",
    "same_bytes",
    "space_of",
    "whole",
    "write_nifti",
    "write_tiff",
]

memory_image = random_image


def write_tiff(path: Path, values: NDArray[Any], *, setup: Any = None, **profile: Any) -> Path:
    """Write a plain GeoTIFF with rasterio; `setup(dataset)` adds header fields before the pixels."""
    defaults = {"crs": UTM33, "transform": Affine(10, 0, 5e5, 0, -10, 5e6), "driver": "GTiff"}
    count, height, width = values.shape
    fields = {**defaults, "count": count, "height": height, "width": width, "dtype": values.dtype, **profile}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **fields) as dataset:
            if setup:
                setup(dataset)
            dataset.write(values)
    return path


def write_nifti(path: Path, values: NDArray[Any], *, setup: Any = None, version: int = 1, order: str = "<") -> Path:
    """Write `values` (i, j, k, ...) with nibabel, unscaled; `setup(header)` changes the header first."""
    kinds = {1: (nibabel.Nifti1Image, nibabel.Nifti1Header), 2: (nibabel.Nifti2Image, nibabel.Nifti2Header)}
    image_kind, header_kind = kinds[version]
    header = header_kind(endianness=order)
    header.set_data_dtype(values.dtype.newbyteorder(order))
    header.set_xyzt_units("mm", "sec")
    affine = np.array([[1, 0.25, 0, -90], [-0.25, 1, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]], dtype=float)
    image = image_kind(values, affine, header, dtype=values.dtype)
    image.set_sform(affine, code=1)
    if setup:
        setup(image.header)
    nibabel.save(image, path)
    return path
