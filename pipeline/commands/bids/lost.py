"""Slices that a series of volumes lost: to motion, spikes or dropped packets they hold one value, or none, all over."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.image.lost import Lost, flat_slices

_FEWEST_VOLUMES = 3
"""Below which nothing tells a slice that was lost from one that never had values."""


def lost_slices(path: Path, axis: str = "k") -> Lost:
    """Find the slices of a 4-D image that hold one value (0, NaN) in some volumes and structure in most.

    Args:
        path: NIfTI file; one of less than three volumes has none.
        axis: along which slices were acquired.

    Raises:
        SourceError: the file cannot be read.
    """
    source = open_any(str(path))
    try:
        if source.n_channels < _FEWEST_VOLUMES:
            return Lost(axis=axis, slices={}, volumes=())
        with tempfile.TemporaryDirectory(prefix="inpaint-bids-") as folder:
            staged = source.stage(Path(folder))
            whole, spatial = Box.whole(source.space.shape), 2 - "ijk".index(axis)
            flat = np.stack(
                [flat_slices(staged.read(whole, slice(t, t + 1))[0], spatial) for t in range(source.n_channels)]
            )
            staged.close()
    finally:
        source.close()
    return _lost(flat, axis)


def _lost(flat: NDArray[np.bool_], axis: str) -> Lost:
    """Sort out what is flat `(volumes, slices)`: outside of the body slices may be so in every volume."""
    usual = flat.mean(axis=0) < 0.5
    lost = flat & usual
    whole = lost.sum(axis=1) == usual.sum() if usual.any() else np.zeros(len(flat), dtype=bool)
    some = np.flatnonzero(lost.any(axis=1) & ~whole)
    slices = {int(t): {int(k): "one value all over" for k in np.flatnonzero(lost[t])} for t in some}
    return Lost(axis=axis, slices=slices, volumes=tuple(int(t) for t in np.flatnonzero(whole)))
