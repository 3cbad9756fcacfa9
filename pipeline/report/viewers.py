"""Commands that open a result in the programs that people look at such images with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_SUFFIXES = (".tif", ".zarr", ".nii.gz", ".nii")


def viewers(files: Sequence[str], kind: str, channels: int) -> list[str]:
    """Return commands for some results, by the format of the restored image; none for other files.

    In QGIS the last file lies on top: the restored image, under it what is known of it. Of napari's readers that of
    NIfTI takes time for a direction of space, and none reads the bands of a raster.

    Args:
        files: paths of the outputs, the restored image first.
        kind: of the image, `raster` or `volume`.
        channels: bands or time points of the image.

    >>> viewers(["out/a_restored.tif", "out/a_uncertainty.tif", "out/a_source.tif", "out/report.html"], "raster", 4)
    ['qgis out/a_uncertainty.tif out/a_source.tif out/a_restored.tif']
    >>> viewers(["a_restored.nii.gz", "a_uncertainty.nii.gz"], "volume", 1)
    ['fsleyes a_restored.nii.gz a_uncertainty.nii.gz --cmap hot', 'napari --plugin napari-nifti a_restored.nii.gz']
    >>> viewers(["a_restored.zarr"], "volume", 9), viewers(["a_restored.zarr"], "raster", 4)
    (['napari --plugin napari-ome-zarr a_restored.zarr'], [])
    """
    suffix = next((s for s in _SUFFIXES if files and files[0].endswith(f"_restored{s}")), None)
    if suffix is None:
        return []
    stem = files[0].removesuffix(f"_restored{suffix}")
    names = [f"{stem}_{role}{suffix}" for role in ("restored", "uncertainty", "source")]
    restored, *others = (shlex.quote(name) for name in names if name in files)
    if suffix == ".tif":
        return [" ".join(["qgis", *others, restored])]
    if suffix == ".zarr":
        return [f"napari --plugin napari-ome-zarr {restored}"] if kind == "volume" else []
    heat = f" {others[0]} --cmap hot" if others else ""
    return [f"fsleyes {restored}{heat}", *([f"napari --plugin napari-nifti {restored}"] if channels == 1 else [])]
