"""Slices that a series of volumes lost: to motion, spikes or dropped packets they hold one value, or none, all over."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.formats import open_any
from pipeline.geometry.box import Box

_FEWEST_VOLUMES = 3
"""Below which nothing tells a slice that was lost from one that never had values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What a series lost; numbers count from 0, as the file stores them.

    Attributes:
        axis: `i`, `j` or `k` of the file, along which slices are counted.
        slices: lost slices by volume.
        volumes: volumes that were lost as a whole.
    """

    axis: str
    slices: dict[int, tuple[int, ...]]
    volumes: tuple[int, ...]

    def entries(self) -> list[dict[str, object]]:
        """Return the mask entries of a config, one for all volumes that lost the same slices."""
        together: dict[tuple[int, ...], list[int]] = {}
        for volume, slices in self.slices.items():
            together.setdefault(slices, []).append(volume)
        return [
            {"kind": "slices", "slices": list(slices), "axis": self.axis, "volumes": volumes}
            for slices, volumes in together.items()
        ]


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
            flat = np.stack([_flat(staged.read(whole, slice(t, t + 1))[0], spatial) for t in range(source.n_channels)])
            staged.close()
    finally:
        source.close()
    return _lost(flat, axis)


def _flat(volume: NDArray[np.generic], axis: int) -> NDArray[np.bool_]:
    """Return True for each slice along an axis that holds one value all over."""
    slices = np.moveaxis(volume, axis, 0).reshape(volume.shape[axis], -1)
    first = slices[:, :1]
    # what differs from itself is NaN
    nothing = (slices != slices) & (first != first)  # noqa: PLR0124
    return np.asarray(((slices == first) | nothing).all(axis=1))


def _lost(flat: NDArray[np.bool_], axis: str) -> Lost:
    """Sort out what is flat `(volumes, slices)`: outside of the body slices may be so in every volume."""
    usual = flat.mean(axis=0) < 0.5
    lost = flat & usual
    whole = lost.sum(axis=1) == usual.sum() if usual.any() else np.zeros(len(flat), dtype=bool)
    slices = {int(t): tuple(int(k) for k in np.flatnonzero(lost[t])) for t in np.flatnonzero(lost.any(axis=1) & ~whole)}
    return Lost(axis=axis, slices=slices, volumes=tuple(int(t) for t in np.flatnonzero(whole)))
