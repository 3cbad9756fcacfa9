"""What the files to be written cannot hold, found before the work: the corner of the image is written and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.formats._files import scratch_folder
from pipeline.formats._image import Image
from pipeline.formats.base import WriteOptions
from pipeline.geometry.box import Box
from pipeline.image.open import open_source
from pipeline.output.assemble import restored_layer
from pipeline.output.header import lost_tags
from pipeline.output.results import output_suffix
from pipeline.output.verify import header, open_layer
from pipeline.plan.refs import SourceRef
from pipeline.registry import load

_CORNER = 8
"""Edge of what is written, in pixels."""


def rehearse(ref: SourceRef, formats: Sequence[str], scratch: Path) -> list[str]:
    """Write a corner of an image in all formats, with zeros for pixels, and compare its header with the image's.

    Args:
        ref: the image.
        formats: as in `output.format`.
        scratch: folder for temporary files.

    Returns:
        What the user should know: tags that will not be kept.

    Raises:
        SourceError: a format cannot hold the grid, type, nodata, scale, names or roles of the image.
    """
    source = open_source(replace(ref, staged=""))
    # a volume starts with its input's own header bytes
    wanted = [name for name in formats if name != "same" or source.kind != "nifti"]
    if not isinstance(source, Image):
        return []
    shape = tuple(min(n, _CORNER) for n in source.space.shape)
    corner = replace(source, space=replace(source.space, shape=shape))
    notices = []
    for name in wanted:
        with scratch_folder(scratch) as folder:
            notices += _tried(corner, ref, name, folder)
    source.close()
    return notices


def _tried(corner: Any, ref: SourceRef, wanted: str, folder: Path) -> list[str]:
    kind = ref.kind if wanted == "same" else wanted
    layer = restored_layer(corner, {})
    path = folder / f"corner{output_suffix(wanted, ref)}"

    def zeros(box: Box) -> NDArray[Any]:
        return np.zeros((layer.n_channels, *box.shape), dtype=layer.dtype)

    load("formats", kind).write(layer, path, corner, zeros, WriteOptions(scratch=folder))
    written = open_layer(ref, path, "restored", kind)
    check = header(corner, written, selected=ref.bands is not None)
    if not check.held:
        raise SourceError(
            f"{ref.paths[0]}: {kind} cannot hold what its header says ({check.detail}); convert the image first (e.g. "
            "gdal_translate), or write another output.format"
        )
    lost = lost_tags(corner, written)
    return [f"{ref.paths[0]}: tags that {kind} does not keep as they are: {', '.join(lost)}"] if lost else []
