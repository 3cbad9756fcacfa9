"""Images of nibabel: their voxels as they are stored, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from pipeline.api.base import Keep, hole_mask, require_shape
from pipeline.errors import SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A nibabel NIfTI image, 3-D or 4-D; layers are images of the same class, in memory."""

    image: Any

    def __post_init__(self) -> None:
        """Refuse other images of nibabel: a result could not come back as one.

        Raises:
            TypeError: it is no NIfTI image in one file.
            SourceError: voxels are masked, for which NIfTI has no place.
        """
        if not isinstance(self.image, nibabel.nifti1.Nifti1Image):
            raise TypeError(
                f"{type(self.image).__name__}: give a NIfTI image, e.g. nibabel.Nifti1Image.from_image(image)"
            )
        if np.ma.is_masked(self.image.dataobj):
            raise SourceError(
                "voxels of the image are masked, which NIfTI cannot hold: set them to NaN, or give `holes`"
            )

    def saved(self, keep: Keep, stem: str) -> str:
        """Return the path of a NIfTI file that holds the same voxels."""
        return str(keep(f"{stem}.nii", partial(nibabel.save, _as_held(self.image))))

    def entry(self, holes: Any, keep: Keep) -> dict[str, Any]:
        """Return the mask entry of an image on the same grid, or of an array of its shape or that of one volume.

        Raises:
            SourceError: an array of another shape, or of no numbers.
        """
        if not hasattr(holes, "dataobj"):
            found = hole_mask(holes)
            require_shape(found, self.image.shape, self.image.shape[:3])
            header = self.image.header.copy()
            header.set_data_dtype(np.uint8)
            header.set_slope_inter(1, 0)
            holes = type(self.image)(found.astype(np.uint8), self.image.affine, header)
        return {"kind": "raster", "path": str(keep("holes.nii", partial(nibabel.save, holes)))}

    def layer(self, path: Path) -> Any:
        """Return a layer as an image whose file is held in memory."""
        return type(self.image).from_bytes(path.read_bytes())


def _as_held(image: Any) -> Any:
    """Return an image that is saved without new rounding: nibabel would scale voxels anew to the type of the header.

    Those of a file stay its stored numbers with its slope; an array in memory is stored in its own type.
    """
    data, slope, inter = image.dataobj, 1.0, 0.0
    if nibabel.is_proxy(data) and hasattr(data, "get_unscaled"):
        values, slope, inter = data.get_unscaled(), data.slope, data.inter
    else:
        values = np.asanyarray(data)
    header = image.header.copy()
    header.set_data_dtype(values.dtype)
    held = type(image)(values, image.affine, header)
    held.header.set_slope_inter(slope, inter)
    return held
