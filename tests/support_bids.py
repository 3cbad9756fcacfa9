"""A small BIDS data set: lesions beside images and in derivatives, guides on the same and another grid, lost slices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.helpers import blobs, smooth, write_image

SHAPE = (10, 12, 14)
VOLUMES, LOST = 6, {2: (4,), 4: (4, 5)}
"""Of the series: its length, and the slices that volumes have lost."""


def write_data_set(root: Path) -> Path:
    """Write the data set and return its top folder.

    `sub-01/ses-1` has T1w with a lesion, FLAIR on its grid, T2w on another one, and a series with lost slices; `sub-02`
    a T1w whose lesion stands in derivatives; `sub-03` a T1w without a mask.
    """
    _json(root / "dataset_description.json", {"Name": "Heads", "BIDSVersion": "1.10.0", "DatasetDOI": "10.1/heads"})
    _json(root / "T1w.json", {"Manufacturer": "A", "RepetitionTime": 2.3})
    _json(root / "task-rest_bold.json", {"TaskName": "rest", "RepetitionTime": 2.0})
    one = root / "sub-01" / "ses-1"
    for number, (name, shape) in enumerate((("T1w", SHAPE), ("FLAIR", SHAPE), ("T2w", (10, 12, 16)))):
        _image(one / "anat" / f"sub-01_ses-1_{name}.nii.gz", smooth((1, *shape), "int16", seed=number))
    _json(one / "anat" / "sub-01_ses-1_T1w.json", {"Manufacturer": "B", "EchoTime": 0.003, "Sources": ["elsewhere"]})
    _image(one / "anat" / "sub-01_ses-1_T1w_label-lesion_roi.nii.gz", lesion(1)[None])
    _image(one / "func" / "sub-01_ses-1_task-rest_bold.nii.gz", series())
    _image(root / "sub-02" / "anat" / "sub-02_T1w.nii.gz", smooth((1, *SHAPE), "int16", seed=5))
    masks = root / "derivatives" / "lesions"
    _json(masks / "dataset_description.json", _LESIONS)
    _image(masks / "sub-02" / "dwi" / "sub-02_label-lesion_mask.nii.gz", lesion(2)[None])
    _image(root / "sub-03" / "anat" / "sub-03_T1w.nii.gz", smooth((1, *SHAPE), "int16", seed=6))
    return root


_LESIONS: dict[str, Any] = {
    "Name": "Lesions",
    "BIDSVersion": "1.10.0",
    "DatasetType": "derivative",
    "GeneratedBy": [{"Name": "a rater"}],
}


def lesion(seed: int) -> NDArray[np.uint8]:
    """Return a mask `(z, y, x)`."""
    return blobs(SHAPE, seed, n=1, radius=2.5)


def series() -> NDArray[np.float32]:
    """Return a series `(t, z, y, x)` whose lost slices are 0 or NaN, and whose first slice is 0 in every volume."""
    values = smooth((VOLUMES, 8, 10, 12), "float32", seed=7)
    values[:, 0] = 0
    for volume, slices in LOST.items():
        values[volume, list(slices)] = 0 if volume == 2 else np.nan
    return values


def _image(path: Path, values: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, values, setup=_timed if len(values) > 1 else None)


def _timed(header: Any) -> None:
    header["pixdim"][4] = 2.0


def _json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
