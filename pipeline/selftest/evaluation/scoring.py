"""What is counted at hidden pixels, by hole: sums of which every score, and every resampling of it, is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, label, maximum_filter

from pipeline.image.scene import Scene
from pipeline.numerics.calibration import Z90
from pipeline.numerics.column import column
from pipeline.numerics.metrics import gradients_by_part, spectral_angles, ssim, ssim_edge, sums_by_part, tiles
from pipeline.selftest.evaluation.hiding import Holdout
from pipeline.selftest.evaluation.methods import Restoration
from pipeline.selftest.shapes import Mask

LEAST = 16
"""Hidden pixels below which a hole is none of its own."""

_WIDE = 2.5
"""Depth in pixels above which a hole stands for itself; dead pixels, lines and slices count by pieces of image."""

_BANDS = 3
"""Bands that a spectrum needs to have an angle."""

Sums = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """What is summed of one method, by part `p` and channel `c`.

    Attributes:
        squares: squared errors, `(p, c)`, data units squared.
        inside: errors inside the 90 % interval, `(p, c)`; None without one.
        similar: structural similarities, `(p, c)`.
        gradients: absolute differences of neighbours, `(p, c)`.
        angles: spectral angles in degrees, `(p, 1)`.
    """

    squares: Sums
    inside: Sums | None
    similar: Sums
    gradients: Sums
    angles: Sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What is summed of all methods in some windows, by part: a wide hole, or a piece of image with thin ones.

    Attributes:
        pixels: hidden pixels, `(p, c)`.
        centres: windows of the structural similarity that touch them, `(p, c)`.
        gradients: absolute differences of true neighbours, `(p, c)`.
        spectra: pixels with a spectral angle, `(p, 1)`.
        methods: by name.
    """

    pixels: Sums
    centres: Sums
    gradients: Sums
    spectra: Sums
    methods: Mapping[str, Errors]


def counted(scene: Scene, holdout: Holdout, restored: Mapping[str, Restoration]) -> Counted:
    """Sum what is to be scored in one window."""
    frame = _Frame(scene, holdout)
    truth = holdout.before.values
    return Counted(
        pixels=sums_by_part(np.ones(truth.shape), frame.labels, frame.parts),
        centres=frame.centres,
        gradients=gradients_by_part(truth, frame.labels, frame.parts),
        spectra=frame.spectra,
        methods={name: frame.errors(one) for name, one in restored.items()},
    )


def joined(some: Sequence[Counted]) -> Counted:
    """Return what was counted in several windows together; methods that are missing in one are left out."""
    names = reduce(lambda left, one: [n for n in left if n in one.methods], some[1:], list(some[0].methods))

    def over(method: str, what: str) -> Sums:
        return np.concatenate([getattr(one.methods[method], what) for one in some])

    return Counted(
        **{what: np.concatenate([getattr(one, what) for one in some]) for what in _COMMON},
        methods={
            name: Errors(
                squares=over(name, "squares"),
                inside=None if some[0].methods[name].inside is None else over(name, "inside"),
                similar=over(name, "similar"),
                gradients=over(name, "gradients"),
                angles=over(name, "angles"),
            )
            for name in names
        },
    )


_COMMON = ("pixels", "centres", "gradients", "spectra")


class _Frame:
    """A window with the part that each hidden pixel belongs to."""

    def __init__(self, scene: Scene, holdout: Holdout) -> None:
        self.holdout, self.spread = holdout, scene.values.spread
        self.labels, self.parts = parts_of(holdout)
        physical = [scene.source.scale_offset[c] for c in scene.image.channels]
        self._scale, self._offset = (column([pair[k] for pair in physical], scene.ndim) for k in (0, 1))
        self._centre = column(scene.image.centre, scene.ndim)
        valid = holdout.before.valid
        # a spectrum counts once however many of its bands are hidden
        is_spectrum = scene.source.space.kind != "volume" and len(valid) >= _BANDS
        flat = np.where(valid.all(axis=0) & is_spectrum, self.labels.max(axis=0), 0)
        known = np.isfinite(spectral_angles(*[self._spectra(holdout.before.values)] * 2))
        self.spectral = np.where(known, flat, 0)[None]
        self.spectra = sums_by_part(np.ones((1, *flat.shape)), self.spectral, self.parts)
        self.touched = np.where(np.isfinite(self._similar(holdout.before.values)), self._near(), 0)
        self.centres = sums_by_part(np.ones(valid.shape), self.touched, self.parts)

    def _spectra(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray((values.astype(np.float64) + self._centre) * self._scale + self._offset)

    def _near(self) -> NDArray[np.int64]:
        """Return the part that the window of the structural similarity around each pixel touches."""
        edge = ssim_edge(self.holdout.box.shape)
        return np.stack([maximum_filter(plane, edge) for plane in self.labels])

    def _similar(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the similarity to the truth around each pixel, `(c, *spatial)`; NaN where it is not known."""
        before, result = self.holdout.before, np.full(values.shape, np.nan)
        stored = [v.astype(np.float64) + self._centre for v in (values, before.values)]
        for c, reach in enumerate(self.spread):
            if reach > 0 and self.labels[c].any():
                result[c] = ssim(stored[0][c], stored[1][c], float(reach), before.valid[c])
        return result

    def errors(self, restored: Restoration) -> Errors:
        """Sum up a method."""
        holdout, truth = self.holdout, self.holdout.before.values
        # what is observed is known to every method
        mean = np.where(np.broadcast_to(holdout.hidden, truth.shape), restored.mean, truth)
        error = mean.astype(np.float64) - truth
        inside = None
        if restored.sigma is not None:
            inside = sums_by_part((np.abs(error) <= Z90 * restored.sigma).astype(np.float64), self.labels, self.parts)
        angles = spectral_angles(self._spectra(mean), self._spectra(truth))[None]
        return Errors(
            squares=sums_by_part(error**2, self.labels, self.parts),
            inside=inside,
            similar=sums_by_part(np.nan_to_num(self._similar(mean)), self.touched, self.parts),
            gradients=gradients_by_part(mean, self.labels, self.parts),
            # a spectrum of nothing is as far off as can be
            angles=sums_by_part(np.nan_to_num(angles, nan=90.0), self.spectral, self.parts),
        )


def parts_of(holdout: Holdout) -> tuple[NDArray[np.int64], int]:
    """Return the part of each scored pixel, `(c, *spatial)` from 1, and their number.

    A hole deeper than 2.5 pixels is a part, or several if it is wider than a piece of image, a quarter of the window (a
    third in volumes). What is hidden in thin holes is one part for each piece.
    """
    ndim = holdout.box.ndim
    labels = np.stack([_holes(hidden) for hidden in holdout.hidden])
    # planes have holes of their own
    labels += (1 + labels.max()) * np.arange(len(labels)).reshape(-1, *(1,) * ndim)
    spread = np.where(holdout.scored, labels, 0)
    used = np.unique(spread[holdout.scored])
    return np.where(holdout.scored, 1 + np.searchsorted(used, spread), 0), len(used)


def _holes(hidden: Mask) -> NDArray[np.int64]:
    """Return a number for each pixel of a plane, the same for those of one part."""
    found, count = label(hidden, np.ones((3,) * hidden.ndim))
    depth = distance_transform_edt(np.pad(hidden, 1, mode="edge"))[(slice(1, -1),) * hidden.ndim]
    deep = np.bincount(found.ravel(), depth.ravel() > _WIDE, minlength=count + 1) > 0
    own = deep & (np.bincount(found.ravel(), minlength=count + 1) >= LEAST)
    edge = max(1, -(-max(hidden.shape) // (6 - hidden.ndim)))
    pieces, boxes = tiles(hidden.shape, edge), find_objects(found)
    wide = np.array([False, *(max(s.stop - s.start for s in box) > edge for box in boxes)])
    whole = np.where(own, np.arange(count + 1), 0)[found]
    return np.asarray(whole * (1 + int(pieces.max())) + np.where((own & ~wide)[found], 0, pieces))
