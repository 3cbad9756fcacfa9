"""Bands that say how opaque a pixel is: no data, unless a writer marked data so by mistake.

GDAL marks the fourth of four bands of bytes as alpha unless it is told otherwise, whatever they hold.
"""

from __future__ import annotations

import numpy as np

from pipeline.formats.base import Source
from pipeline.image.open import pieces

_OPAQUE = 0.5
"""Share of the pixels that are not wholly transparent which have one value, from which that is full opacity."""


def alpha_notices(source: Source) -> list[str]:
    """Return a notice for each band that is marked as alpha and holds what data hold: many values, none frequent."""
    read = pieces(source) if source.fixed_channels else []
    said = []
    for channel in source.fixed_channels:
        values = np.concatenate([piece[channel].ravel() for piece in read])
        seen = values[values > 0]
        if seen.size and np.unique(seen, return_counts=True)[1].max() < _OPAQUE * seen.size:
            said.append(_notice(source, channel))
    return said


def _notice(source: Source, channel: int) -> str:
    path, name = source.paths[0], source.channel_names[channel]
    known = source.attributes.get("colorinterp", ())
    meant = ",".join("undefined" if c == channel else kind for c, kind in enumerate(known))
    edit = f": `rio edit-info --colorinterp {meant} {path}`" if meant and len(source.paths) == 1 else ""
    return (
        f"WARNING: {path}: {name} is marked as alpha (opacity), so it is not restored, is made opaque in the holes, "
        f"and its zeros count as not observed; yet it varies as data do. If it is data, say so in the file{edit}"
    )
