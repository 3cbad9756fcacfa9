"""Files and folders that people have and no format here reads: what they are, and how to bring them here."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from pipeline.formats._files import first_bytes

_LOOK = 10_000
"""Names of a folder that are looked at."""
_HEAD = 132
_NIFTI_GZ = "to NIfTI: e.g. `nib-convert {name} image.nii.gz` (nibabel)"
_PICTURE = "convert it: `gdal_translate {name} image.tif`, which takes along a world file or .aux.xml beside it"
_ARRAY = "give it as an array: `restore({read}, holes)` of `pipeline.api`, see docs/python.md"
_CONTENT: tuple[tuple[int, bytes, str, str], ...] = (
    (128, b"DICM", "a DICOM file", "convert the series: `dcm2niix -z y -o FOLDER {folder}`, then give the .nii.gz"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 (or netCDF-4), which may point at other files and is not opened for that",
     "write a variable to a file of its own (`gdalinfo {name}` lists them, `gdal_translate NETCDF:{name}:VARIABLE "
     "VARIABLE.tif`), or " + _ARRAY.format(read="xarray.open_dataset('{name}')['VARIABLE']")),
    (0, b"\x93NUMPY", "an array of NumPy", _ARRAY.format(read="numpy.load('{name}')")),
    (0, b"\x0e\x03\x13\x01", "HDF4, such as MODIS products",
     "list what is in it (`gdalinfo {name}`), then `gdal_translate SUBDATASET VARIABLE.tif`"),
    (0, b"GRIB", "GRIB", "convert it: `gdal_translate {name} image.tif`"),
    (0, b"NRRD", "NRRD", "convert it " + _NIFTI_GZ.replace("nibabel", "or 3D Slicer, SimpleITK")),
    (0, b"PK\x03\x04", "a zip archive", "unpack it and give the image in it"),
    (0, b"SIMPLE  =", "FITS", "convert it: `gdal_translate {name} image.tif`"),
    (0, b"\x89PNG", "a PNG picture", _PICTURE),
    (0, b"\xff\xd8\xff", "a JPEG picture", _PICTURE),
    (0, b"GIF8", "a GIF picture", _PICTURE),
    (8, b"WEBP", "a WebP picture", _PICTURE),
)  # fmt: skip
"""Offset and bytes that tell a kind of file, what it is, and what to do."""
_SUFFIXES = {
    (".mgz", ".mgh"): ("a FreeSurfer volume", "convert it: `mri_convert {name} image.nii.gz`"),
    (".mnc",): ("a MINC volume", "convert it " + _NIFTI_GZ),
    (".hdr", ".img"): ("one of a pair of files (NIfTI pair, Analyze or ENVI)",
                       "convert NIfTI and Analyze with `fslchfiletype NIFTI_GZ {name}`, ENVI with `gdal_translate`"),
    (".nii", ".nii.gz"): ("a NIfTI volume", "a raster is asked for here, such as GeoTIFF"),
    (".gii",): ("GIFTI, a surface", "only volumes can be restored"),
    (".npz",): ("a file of several arrays of NumPy", _ARRAY.format(read="numpy.load('{name}')['NAME']")),
    (".mat",): ("a file of MATLAB", _ARRAY.format(read="scipy.io.loadmat('{name}')['NAME']")),
    (".csv",): ("a table of numbers", _ARRAY.format(read="numpy.loadtxt('{name}', delimiter=',')")),
    (".txt", ".dat"): ("text", "if it holds a table of numbers, " + _ARRAY.format(read="numpy.loadtxt('{name}')")),
}  # fmt: skip
_DICOM = (
    "this is a folder of DICOM files; convert the series: `dcm2niix -z y -o OTHER_FOLDER {}`, then give the .nii.gz"
)
_METADATA = re.compile(r"(_MTL\.(txt|xml|json)|MTD_MSIL\w+\.xml|manifest\.safe)$", re.IGNORECASE)


def advice(path: str) -> str:
    """Say what a file or folder is that no format reads, and what to do or to write; empty if that is not known."""
    place = Path(path)
    if place.is_dir():
        said = _of_folder(place)
    elif _METADATA.search(place.name):
        said = _of_folder(place.parent)
    else:
        said = _of_file(place)
    return f"{path}: {said}" if said else ""


def _of_file(path: Path) -> str:
    start = first_bytes(str(path), _HEAD)
    names = {"name": path.name, "folder": path.parent}
    by_content = (one[2:] for one in _CONTENT if start[one[0] :].startswith(one[1]))
    by_name = (said for suffixes, said in _SUFFIXES.items() if path.name.lower().endswith(suffixes))
    # an archive of arrays is a zip by its content
    either = (*by_name, *by_content) if path.suffix.lower() == ".npz" else (*by_content, *by_name)
    what, remedy = next(iter(either), ("", ""))
    return f"this is {what}; {remedy.format(**names)}" if what else ""


def _of_folder(folder: Path) -> str:
    files = [Path(root, name) for root, _, names in islice(os.walk(folder), _LOOK) for name in sorted(names)][:_LOOK]
    if folder.name.lower().endswith(".safe") or any(_METADATA.search(file.name) for file in files):
        return (
            "this is a scene of many files, or the folder of one, where a single file is asked for; as `source` of a "
            "config or a reference it is read as it is, without inner brackets"
        )
    if any(first_bytes(str(file), _HEAD)[128:] == b"DICM" for file in files[:20]):
        return _DICOM.format(folder)
    return "this is a folder; name the files in it, e.g. a glob such as `FOLDER/*.tif` for a batch"
