"""Volumes to cut test holes into: brain and head MR of several contrasts, a CT, a time series."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from benchmarks.quality.scenes import Array, Guide, Image, Scene, data_folder

SIZE = (64, 80, 80)
"""Voxels `(z, y, x)` of the piece that is cut out around the middle of the foreground."""
LESJAK = "Lesjak et al. 2017, Neuroinformatics, CC BY"
TOTAL = "TotalSegmentator, CC BY 4.0"
TUMOUR = "pyradiomics brain1, BSD-3-Clause"


@lru_cache(maxsize=4)
def read_volume(file: str) -> tuple[Array, tuple[float, ...]]:
    """Read a NIfTI file as stored, `(c, z, y, x)`, with its spacing in mm."""
    image = nib.load(data_folder() / "medical" / file)
    values = np.asarray(image.dataobj)
    values = values[..., None] if values.ndim == 3 else values
    spacing = tuple(float(z) for z in reversed(image.header.get_zooms()[:3]))
    return np.moveaxis(values.transpose(2, 1, 0, 3), -1, 0), spacing


def middle(inside: NDArray[np.bool_], size: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box of `size` (at most the volume) around the centre of mass of `inside`."""
    box = []
    for axis, (n, length) in enumerate(zip(inside.shape, size, strict=True)):
        profile = inside.sum(axis=tuple(a for a in range(3) if a != axis))
        centre = round(float((profile * np.arange(n)).sum() / max(profile.sum(), 1)))
        start = int(np.clip(centre - length // 2, 0, max(n - length, 0)))
        box.append(slice(start, min(start + length, n)))
    return tuple(box)


def bright(values: Array) -> NDArray[np.bool_]:
    """Return the voxels above a tenth of the 99.5 % quantile: head or brain, not air."""
    return np.asarray(values > 0.1 * np.percentile(values, 99.5))


def volume(
    name: str,
    place: str,
    sensor: str,
    file: str,
    *,
    size: tuple[int, ...] = SIZE,
    inside: Callable[[Array], NDArray[np.bool_]] = bright,
    guides: tuple[str, ...] = (),
    **more: Any,
) -> Scene:
    """Return a scene of a piece of a volume; `guides` are other contrasts on the same grid.

    The piece lies around the middle of what is `inside`, in the scene's `part`.
    """
    part = more.get("part", ())

    def load() -> Image:
        values, spacing = read_volume(file)
        body = inside(values[0])
        box = middle(body & _within(body.shape, part), size)
        return Image(
            values=values[(slice(None), *box)],
            hidden=np.zeros(body[box].shape, dtype=bool),
            counted=body[box],
            spacing=spacing,
            guides=tuple(Guide(values=read_volume(g)[0][(slice(None), *box)], auxiliary=True) for g in guides),
        )

    files = (f"medical/{file}",)
    return Scene(name=name, place=place, sensor=sensor, load=load, files=files, **more)


def _within(shape: tuple[int, ...], part: tuple[float, ...]) -> NDArray[np.bool_]:
    result = np.zeros(shape, dtype=bool)
    ends = zip(part[:3], part[3:], shape, strict=True) if part else ((0, 1, n) for n in shape)
    result[tuple(slice(int(low * n), int(high * n)) for low, high, n in ends)] = True
    return result


def _brain_mask(_: Array) -> NDArray[np.bool_]:
    return np.asarray(read_volume("brats2013_pat0003/brainmask.nii.gz")[0][0] > 0)


def lesions(patient: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the shapes of a patient's lesions around their middle, mirrored and a voxel wider, `(z, y, x)`.

    They do not lie where lesions do: the middle of a brain is another than that of its lesions.
    """
    mask = read_volume(f"{patient}/lesion_mask.nii.gz")[0][0][:, :, ::-1] > 0
    hole = np.zeros(shape, dtype=bool)
    found = mask[middle(mask, shape)]
    hole[tuple(slice(n) for n in found.shape)] = found
    return np.asarray(binary_dilation(hole))


def t1_volumes() -> list[Scene]:
    """Return T1-weighted volumes of about 1 mm."""
    oasis = [volume(f"oasis-{n}", f"OASIS {n}", "T1", f"oasis_t1_brains/{n}_SS.nii.gz") for n in ("1001", "1005")]
    return [
        *oasis,
        volume("ms19-t1", "MS patient 19", "T1", "ms_patient19_mni/T1.nii.gz", credit=LESJAK),
        volume("chris-t1", "chris", "T1, whole head, uint8", "chris_head/chris_t1.nii.gz"),
    ]


def flair_volume() -> Scene:
    """Return a FLAIR volume of 1 mm."""
    return volume("ms19-flair", "MS patient 19", "FLAIR", "ms_patient19_mni/FLAIR.nii.gz", credit=LESJAK)


def other_contrasts() -> list[Scene]:
    """Return volumes of contrasts other than T1."""
    return [
        flair_volume(),
        volume(
            "brats-flair",
            "BraTS 0003",
            "FLAIR, z-scored",
            "brats2013_pat0003/Flair_subtrMeanDivStd.nii.gz",
            inside=_brain_mask,
        ),
        *(scene for scene in thick_volumes() if scene.unseen),
    ]


def thick_volumes() -> list[Scene]:
    """Return volumes with slices of 2.4 to 6.5 mm."""
    size = (40, 96, 96)
    long = "ms_long_patient01_raw/study1"
    return [
        volume("chris-pd", "chris", "PD, 2.4 mm", "chris_head/chris_PD.nii.gz", size=size, unseen=True),
        volume(
            "tumour-t1c",
            "tumour",
            "T1 with contrast agent, 6.5 mm",
            "tumour_t1c_thick/brain1_image.nii.gz",
            size=size,
            unseen=True,
            credit=TUMOUR,
        ),
        volume("mslong-t1w", "MS long 01", "T1, raw, 3 mm", f"{long}_T1W.nii.gz", size=size, credit=LESJAK),
        volume("mslong-flair", "MS long 01", "FLAIR, raw, 4 mm", f"{long}_FLAIR.nii.gz", size=size, credit=LESJAK),
    ]


def guided_volumes() -> list[Scene]:
    """Return volumes with other contrasts of the same subject as auxiliaries."""
    old, new = "ms_patient07_mni", "ms_patient19_mni"
    return [
        volume(
            "ms19-t1+flair", "MS patient 19", "T1", f"{new}/T1.nii.gz", guides=(f"{new}/FLAIR.nii.gz",), credit=LESJAK
        ),
        volume(
            "ms19-flair+t1",
            "MS patient 19",
            "FLAIR",
            f"{new}/FLAIR.nii.gz",
            guides=(f"{new}/T1.nii.gz",),
            credit=LESJAK,
        ),
        volume(
            "ms07-t1+t2+flair",
            "MS patient 07",
            "T1",
            f"{old}/T1.nii.gz",
            guides=(f"{old}/T2.nii.gz", f"{old}/FLAIR.nii.gz"),
            credit=LESJAK,
        ),
    ]


def voided_volumes() -> list[Scene]:
    """Return each contrast of one subject with the two others, in a larger piece."""
    folder, names = "ms_patient07_mni", ("T1", "T2", "FLAIR")
    return [
        volume(
            f"ms07-{name.lower()}-of-two",
            "MS patient 07",
            name,
            f"{folder}/{name}.nii.gz",
            size=(96, 112, 112),
            guides=tuple(f"{folder}/{other}.nii.gz" for other in names if other != name),
            credit=LESJAK,
        )
        for name in names
    ]


def series() -> Scene:
    """Return a time series: ten perfusion volumes."""
    return volume(
        "pcasl", "chris", "arterial spin labelling", "chris_head/pcasl.nii.gz", size=(20, 68, 52), unseen=True
    )


def computed_tomography() -> Scene:
    """Return the lower trunk in Hounsfield units; the upper one of the same person is trained on."""
    return volume(
        "ct-abdomen",
        "CT abdomen",
        "CT, 3 mm",
        "ct_abdomen/example_ct.nii.gz",
        size=(48, 80, 80),
        part=(0, 0, 0, 0.48, 1, 1),
        inside=lambda values: values > -500,
        credit=TOTAL,
    )
