"""Write the synthetic scenes as the files a user would have: GeoTIFF dates with scene classes, NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.brain import brain_volume
from pipeline.synthetic.optical import BANDS, NODATA, PIXEL_M, optical_scene

DATES = ("20240612", "20240627", "20240714", "20240801")
_CRS = "EPSG:32633"
_CORNER = (500000.0, 5100000.0)


def write_demo_sentinel(
    directory: str | Path, seed: int = 0, *, shape: tuple[int, int] = (1024, 1024)
) -> dict[str, Path]:
    """Write a cloudy and a clear Sentinel-2-like date of one place; existing files are replaced.

    Returns:
        `image` and `reference` (uint16, 6 bands, nodata 0), `scl` and `reference_scl` (uint8, 20 m),
        `truth` (the cloudy date without clouds).
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    scene = optical_scene(shape, seed, 2, swath_edge=True)
    paths = {
        "image": folder / f"S2_{DATES[0]}.tif",
        "reference": folder / f"S2_{DATES[1]}.tif",
        "scl": folder / f"S2_{DATES[0]}_SCL.tif",
        "reference_scl": folder / f"S2_{DATES[1]}_SCL.tif",
        "truth": folder / f"S2_{DATES[0]}_truth.tif",
    }
    _geotiff(paths["image"], scene.images[0], PIXEL_M, BANDS)
    _geotiff(paths["reference"], scene.images[1], PIXEL_M, BANDS)
    _geotiff(paths["truth"], scene.truths[0], PIXEL_M, BANDS)
    _geotiff(paths["scl"], scene.scl[0][None], 2 * PIXEL_M, ("SCL",))
    _geotiff(paths["reference_scl"], scene.scl[1][None], 2 * PIXEL_M, ("SCL",))
    return paths


def write_demo_brain(
    directory: str | Path, seed: int = 0, *, shape: tuple[int, int, int] = (96, 112, 96)
) -> dict[str, Path]:
    """Write a T1-weighted head with spoilt voxels; existing files are replaced.

    Returns:
        `image` and `truth` (int16 NIfTI), `mask` (uint8, 1 = spoilt voxel).
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    head = brain_volume(shape, seed)
    paths = {name: folder / f"sub-demo_{tail}.nii.gz" for name, tail in _NIFTI_TAILS.items()}
    _nifti(paths["image"], head.image, head.spacing_mm)
    _nifti(paths["mask"], head.artefact.astype(np.uint8), head.spacing_mm)
    _nifti(paths["truth"], head.truth, head.spacing_mm)
    return paths


_NIFTI_TAILS = {"image": "T1w", "mask": "label-artefact_mask", "truth": "desc-truth_T1w"}


def _geotiff(path: Path, values: NDArray[Any], pixel_m: float, names: tuple[str, ...]) -> None:
    import rasterio
    from affine import Affine

    bands, height, width = values.shape
    profile = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": values.dtype,
        "crs": _CRS,
        "transform": Affine(pixel_m, 0.0, _CORNER[0], 0.0, -pixel_m, _CORNER[1]),
        "nodata": NODATA,
        "compress": "deflate",
        "predictor": 2,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    with rasterio.open(path, "w", **profile) as sink:
        sink.write(values)
        sink.descriptions = names
        sink.update_tags(SOURCE="synthetic scene of inpaint-pipeline; shows no real place")


def _nifti(path: Path, values: NDArray[Any], spacing_mm: float) -> None:
    import nibabel as nib

    data = np.ascontiguousarray(values.transpose(2, 1, 0))
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [-(n - 1) / 2 * spacing_mm for n in data.shape]
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    nib.save(image, path)
