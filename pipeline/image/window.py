"""The one way from files to the windows that the survey, the self-test and the blocks compute with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.ndimage import label

from pipeline.fills.base import Window
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.image.contamination import contamination
from pipeline.image.haze import without_haze
from pipeline.image.open import OpenGuide, centred
from pipeline.masks.base import DOUBT, FILL, evidence
from pipeline.restore.task import Contamination, Guide, with_siblings


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenImage:
    """An image that is open with its guides and the states of its pixels; reads windows."""

    source: Source
    """The image, staged if that makes reading cheaper."""
    state: zarr.Array
    """uint8 `(n_state, *spatial)` of KEEP, FILL, NEVER, DOUBT and HAZY; one plane if all channels share their holes."""
    guides: tuple[OpenGuide, ...]
    """References and auxiliaries with their own masks, on the grid of the image."""
    channels: tuple[int, ...]
    """Channels of the file that are restored."""
    centre: tuple[float, ...]
    """Subtracted from each restored channel before arithmetic in float32."""
    spacing: tuple[float, ...]
    """Step per axis for fills and distances (1 for rasters, mm for volumes)."""
    haze: zarr.Array | None = None
    """Amounts `(k, *spatial)` of what is taken off hazy pixels, see `WorkFolder.haze`. None = nothing is."""
    sees_stored: bool = False
    """Holes keep what the file stores there, for a model that must change nothing."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the image."""
        return self.source.space.shape

    @property
    def n_state(self) -> int:
        """1 if holes are the same in all restored channels, else the number of these."""
        return int(self.state.shape[0])

    def states(self, box: Box) -> NDArray[np.uint8]:
        """Return the states of `box`, uint8 `(n_state, *box.shape)`."""
        return np.asarray(self.state[box.at()])

    def holes(self, box: Box) -> NDArray[np.bool_]:
        """Return the holes of `box`, bool `(n_state, *box.shape)`."""
        return np.asarray(self.states(box) == FILL)

    def holes_with_rims(self, box: Box) -> NDArray[np.bool_]:
        """Return the holes of `box` with the doubted pixels that hang together with them, bool `(n_state, *box.shape)`.

        This is how far a fill has to reach: doubted pixels are no evidence.
        """
        states = self.states(box)
        holes = np.asarray(states == FILL)
        if not (states == DOUBT).any():
            return holes
        parts = [label(plane)[0] for plane in holes | (states == DOUBT)]
        return np.stack([np.isin(part, np.unique(part[hole])) for part, hole in zip(parts, holes, strict=True)])

    def values(self, box: Box, states: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return centred values of the restored channels, without haze, float32 `(c, *box.shape)`; 0: no evidence."""
        stored = self.source.read(box)[list(self.channels)]
        valid = np.isfinite(stored) if self.sees_stored else np.broadcast_to(evidence(states), stored.shape)
        return without_haze(centred(stored, self.centre, valid), states, self.haze, box)

    def contamination(self, box: Box, hidden: NDArray[np.bool_] | None = None) -> Contamination | None:
        """Return what contaminated pixels around the holes of `box` add to error bars; None without any.

        Hidden pixels `(c, *box.shape)` are holes, too.
        """
        states = self.states(box)
        if hidden is not None:
            states = np.where(hidden if self.n_state > 1 else hidden.any(axis=0), np.uint8(FILL), states)
        return contamination(states, self.haze, box)

    def read(self, box: Box) -> Pixels:
        """Read once all that windows inside `box` may see."""
        states = self.states(box)
        guides = tuple(guide.read(box) for guide in self.guides)
        return Pixels(image=self, box=box, values=self.values(box, states), states=states, guides=guides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """The pixels of one box of an image, in memory; windows are cut from them."""

    image: OpenImage
    box: Box
    values: NDArray[np.float32]
    """Centred values of the restored channels, `(c, *box.shape)`; 0 where they are no evidence."""
    states: NDArray[np.uint8]
    """`(n_state, *box.shape)`."""
    guides: tuple[Guide, ...]
    """References and auxiliaries over the box."""

    def states_of(self, box: Box) -> NDArray[np.uint8]:
        """Return the states of a box inside, uint8 `(n_state, *box.shape)`."""
        return self.states[box.at(of=self.box)]

    def window(self, box: Box, guess: NDArray[np.float32] | None = None) -> tuple[Window, tuple[Guide, ...]]:
        """Cut out a window and what the guides show there; doubted pixels are holes in it, though they are kept.

        If channels have different holes, the image itself is one guide more, the last one.

        Args:
            box: lies inside these pixels.
            guess: coarse fill over `box`, `(c, *box.shape)`.
        """
        part = box.at(of=self.box)
        states, shape = self.states[part], (len(self.values), *box.shape)
        window = Window(
            values=_contiguous(self.values[part]),
            valid=np.broadcast_to(evidence(states), shape),
            hole=np.broadcast_to((states == FILL) | (states == DOUBT), shape),
            spacing=self.image.spacing,
            guess=guess,
            open_edges=tuple((a > 0, b < n) for a, b, n in zip(box.start, box.stop, self.image.shape, strict=True)),
        )
        guides = tuple(Guide(values=_contiguous(g.values[part]), valid=_contiguous(g.valid[part])) for g in self.guides)
        return window, with_siblings(window, guides, self.image.n_state)


def _contiguous(values: NDArray[Any]) -> NDArray[Any]:
    """Copy what is strided.

    Sums over a strided view round differently from sums over a contiguous copy: a window must look the same whatever
    block it is cut from.
    """
    return np.ascontiguousarray(values)
