"""Hand a case to the ordinary command as ordinary files, with no setting but input, mask, output folder and seed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from benchmarks.quality.scenes import Guide, Image
from pipeline.run import run

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a run published: values and standard error `(c, *spatial)`, its record, wall seconds."""

    values: Array
    sigma: Array
    record: dict[str, Any]
    seconds: float


def restore(image: Image, hole: NDArray[np.bool_], folder: Path, *, alone: bool = False, seed: int = 0) -> Restored:
    """Restore the holes with the defaults; `alone` leaves the guides out. `folder` is made new and removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    suffix = ".tif" if image.values.ndim == 3 else ".nii.gz"
    missing = hole | image.hidden
    source = folder / f"image{suffix}"
    write(source, _spoilt(image.values, missing), image)
    config: dict[str, Any] = {
        "input": {"source": str(source)},
        "mask": [_mask(folder / f"holes{suffix}", missing, image)],
        "output": {"directory": str(folder / "out")},
        # where blocks run changes no value; a cluster inside a worker process would only cost its start
        "compute": {"executor": "serial"},
        "seed": seed,
    }
    for role, guides in _by_role(() if alone else image.guides).items():
        config["input"][role] = [_guide(folder, f"{role}{k}{suffix}", g, image) for k, g in enumerate(guides)]
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    started = time.perf_counter()
    run(path)
    seconds = time.perf_counter() - started
    record = json.loads((folder / "out/image/record.json").read_text())
    files = {o["role"]: folder / "out/image" / o["path"] for o in record["outputs"]}
    result = Restored(
        values=read(files["restored"], image),
        sigma=read(files["uncertainty"], image),
        record=record,
        seconds=seconds,
    )
    shutil.rmtree(folder)
    return result


def _spoilt(values: Array, missing: NDArray[np.bool_]) -> Array:
    """Put a cloud's value into the holes: nothing of the truth is left in the file."""
    top = values.reshape(len(values), -1).max(axis=1).reshape(-1, *(1,) * (values.ndim - 1))
    return np.where(missing, top, values).astype(values.dtype)


def _mask(path: Path, missing: NDArray[np.bool_], image: Image) -> dict[str, Any]:
    one = bool((missing == missing[:1]).all())
    write(path, (missing[:1] if one else missing).astype(np.uint8), image)
    entry: dict[str, Any] = {"kind": "raster", "path": str(path)}
    return entry if one or image.values.ndim == 4 else {**entry, "band": "all"}


def _by_role(guides: Sequence[Guide]) -> dict[str, list[Guide]]:
    roles: dict[str, list[Guide]] = {}
    for guide in guides:
        roles.setdefault("auxiliary" if guide.auxiliary else "references", []).append(guide)
    return roles


def _guide(folder: Path, name: str, guide: Guide, image: Image) -> dict[str, Any]:
    write(folder / name, guide.values, image)
    entry: dict[str, Any] = {"path": str(folder / name)}
    if guide.hidden is not None:
        write(folder / f"hidden-{name}", guide.hidden[None].astype(np.uint8), image)
        entry["mask"] = [{"kind": "raster", "path": str(folder / f"hidden-{name}")}]
    return entry


def write(path: Path, values: Array, image: Image) -> None:
    """Write `(c, *spatial)` as GeoTIFF or NIfTI on the grid of the image."""
    if values.ndim == 3:
        profile = {"driver": "GTiff", "height": values.shape[1], "width": values.shape[2], "count": len(values)}
        # by itself GDAL makes the fourth band of bytes an alpha channel, which is never restored
        profile["photometric"] = "minisblack"
        grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 4_600_000)}
        with rasterio.open(path, "w", dtype=values.dtype, **profile, **grid) as target:
            target.write(values)
        return
    volume = np.moveaxis(values, 0, -1).transpose(2, 1, 0, 3)
    affine = np.diag([*reversed(image.spacing), 1.0])
    stored = nib.Nifti1Image(volume[..., 0] if len(values) == 1 else volume, affine, dtype=values.dtype)
    stored.header.set_xyzt_units("mm")
    nib.save(stored, path)


def read(path: Path, image: Image) -> Array:
    """Read what was published, as stored, `(c, *spatial)`."""
    if image.values.ndim == 3:
        with rasterio.open(path) as source:
            values: Array = source.read()
        return values
    volume = np.asarray(nib.load(path).dataobj)
    volume = volume[..., None] if volume.ndim == 3 else volume
    return np.moveaxis(volume.transpose(2, 1, 0, 3), -1, 0)
