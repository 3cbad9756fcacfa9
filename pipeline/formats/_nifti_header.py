"""The header of a NIfTI file: read as it is stored, and the place that its two matrices give the voxels.

Spec: https://nifti.nimh.nih.gov/nifti-1/ ("3D image orientation and location in space", methods 2 and 3)
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from pipeline.errors import SourceError
from pipeline.formats._files import how_it_starts, untrusted
from pipeline.formats._gzip import open_inflated
from pipeline.geometry.box import Box
from pipeline.geometry.space import ROUNDED, Space

_LARGEST_OFFSET = 256 * 2**20
"""Header and extensions, which are held in memory."""
_quiet = threading.RLock()
"""Filters of warnings are global to the process."""
_MM = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherMatrix:
    """The matrix of a header that is not used, and says something else than the one that is.

    Attributes:
        name, code: `qform` or `sform`, and its code.
        used, used_code: likewise of the matrix that is used.
        affine: 12 numbers as in `Space`, mm.
        apart: how far apart the two put a corner of the volume at most, mm.
    """

    name: str
    code: int
    used: str
    used_code: int
    affine: tuple[float, ...]
    apart: float

    def sentence(self) -> str:
        """Say in words how the two disagree."""
        return (
            f"its {self.used} (code {self.used_code}) and {self.name} (code {self.code}) disagree by up to "
            f"{self.apart:.3g} mm; the {self.used} is used"
        )


def version_of(start: bytes) -> int:
    """Return 1 or 2 for a NIfTI header, 0 for anything else."""
    if start[344:348] == b"n+1\0":
        return 1
    return 2 if start[4:8] == b"n+2\0" else 0


def read_header(path: str) -> Any:
    """Read the header as it is stored; nibabel's own image loading would blank slope and intercept.

    Raises:
        SourceError: no single-file NIfTI, or its header is damaged.
    """
    problem = f"not a readable NIfTI file ({how_it_starts(path)})"
    remedy = "convert it to .nii.gz, or check that the copy is complete"
    # nibabel warns of what it then refuses, or of habits of other programs
    with untrusted(path, problem, remedy), _quiet, warnings.catch_warnings(), open_inflated(path) as file:
        warnings.simplefilter("ignore")
        start = file.read(540)
        version = version_of(start)
        if version == 0:
            raise HeaderDataError("no single-file NIfTI magic ('n+1' or 'n+2')")
        kind, size = (nibabel.Nifti1Header, 348) if version == 1 else (nibabel.Nifti2Header, 540)
        offset = float(kind(start[:size], check=False)["vox_offset"])
        # four bytes after the header say whether extensions follow; a fraction of a byte is no place
        if not size + 4 <= offset <= _LARGEST_OFFSET or offset % 1:
            raise HeaderDataError(
                f"vox_offset is {offset:g}, but voxels start at byte {size + 4} or later; if the file is whole, write "
                f"where (nifti_tool -mod_hdr -mod_field vox_offset {size + 4})"
            )
        # nibabel gets what lies before the voxels and nothing else, so an extension cannot claim more
        return kind.from_fileobj(io.BytesIO(start[: int(offset)] + file.read(max(0, int(offset) - len(start)))))


def grid(path: str, header: Any) -> Space:
    """Return where the voxels of a volume or series lie, in mm.

    Raises:
        SourceError: the shape is neither a volume nor a series of volumes.
    """
    disk_shape = tuple(int(n) for n in header.get_data_shape())
    many = [n for n in disk_shape[3:] if n > 1]
    if len(many) > 1 or min(disk_shape, default=0) < 1:
        raise SourceError(f"{path}: shape {disk_shape} is neither a volume nor a series of volumes; split it")
    i, j, k = (*disk_shape[:3], 1, 1)[:3]
    return Space(
        kind="volume",
        shape=(k, j, i),
        affine=_in_mm(header, header.get_best_affine()),
        crs="RAS+",
        units="mm" if _unit(header) in _MM else "unknown",
    )


def of_part(header: Any, box: Box) -> Any:
    """Return the header of a part of the volumes: its extent, and where its first voxel lies by each matrix."""
    part, start = header.copy(), np.asarray(box.start[::-1], dtype=np.float64)
    part["dim"][1:4] = box.shape[::-1]
    if int(header["sform_code"]) > 0:
        for axis in "xyz":
            row = header[f"srow_{axis}"].astype(np.float64)
            part[f"srow_{axis}"][3] = row[:3] @ start + row[3]
    if int(header["qform_code"]) > 0:
        # a damaged quaternion says nothing of the part either
        with suppress(HeaderDataError, ValueError, np.linalg.LinAlgError):
            place = header.get_qform() @ [*start, 1]
            part["qoffset_x"], part["qoffset_y"], part["qoffset_z"] = place[:3]
    across = header.get_dim_info()[2]
    along = 2 if across is None else across
    if part["dim"][1 + along] != header["dim"][1 + along]:
        # when slices were acquired is told of all of them together
        part["slice_code"], part["slice_start"], part["slice_end"], part["slice_duration"] = 0, 0, 0, 0
    return part


def other_matrix(header: Any, space: Space) -> OtherMatrix | None:
    """Return the matrix that is not used, if both are set and put the volume at different places."""
    codes = {"sform": int(header["sform_code"]), "qform": int(header["qform_code"])}
    if min(codes.values()) <= 0:
        return None
    try:
        affine = _in_mm(header, header.get_qform())
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        # a damaged quaternion is no second opinion
        return None
    apart = _furthest(space, affine)
    if not apart > ROUNDED * min(space.spacing):
        return None
    return OtherMatrix(
        name="qform", code=codes["qform"], used="sform", used_code=codes["sform"], affine=affine, apart=apart
    )


def on_other_matrix(named: Sequence[tuple[str, Any, Space]]) -> str:
    """Say that of two images one lies where the other would lie by the matrix that is not used; empty if not so.

    Args:
        named: for each of the two what to call it, its `OtherMatrix` or None, and its grid.
    """
    for (name, other, space), (guest, _, place) in (named, named[::-1]):
        if other is not None and not replace(space, affine=other.affine).mismatch(place, tolerance=ROUNDED):
            return (
                f"{guest} lies on the {other.name} of {name}: {other.sentence()}. Find out which of the two is right, "
                "and make both the same (e.g. fslorient -copyqform2sform, or -copysform2qform)"
            )
    return ""


def sides_unknown(path: str) -> str:
    """Say that nothing in a file tells how an image would have to be turned."""
    return (
        f"{path} does not say where right, front and head are (NIfTI: qform and sform codes are 0), so nothing tells "
        "how to turn one onto the other; set them in the file (e.g. fslorient -setsformcode 1)"
    )


def _unit(header: Any) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def _in_mm(header: Any, affine: Any) -> tuple[float, ...]:
    rows = np.asarray(affine, dtype=np.float64)[:3] * _MM.get(_unit(header), 1.0)
    return tuple(rows.ravel().tolist())


def _furthest(space: Space, affine: tuple[float, ...]) -> float:
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in space.shape[::-1]))])
    change = np.reshape(affine, (3, 4)) - np.reshape(space.affine, (3, 4))
    return float(np.sqrt(((corners @ change.T) ** 2).sum(axis=1)).max())
