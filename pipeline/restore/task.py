"""What goes into the arithmetic of one window, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.numerics.beyond import Beyond, handed_over
from pipeline.numerics.pixels import Pixels, picked
from pipeline.numerics.situation import Situation
from pipeline.references.prediction import Correction


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """A reference or auxiliary seen through one window.

    Attributes:
        values: float32 `(c_ref, *spatial)`.
        valid: bool `(1 | c_ref, *spatial)`.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


def with_siblings(window: Window, guides: tuple[Guide, ...], n_state: int) -> tuple[Guide, ...]:
    """Add the image itself to the guides of a window if its channels have different holes."""
    return guides if n_state == 1 else (*guides, Guide(values=window.values, valid=window.valid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """What pixels around holes that look like haze, thin cloud or shadow add to error bars, on top of what is tested.

    Attributes:
        left: standard error that haze leaves, as a share of what was taken off, float32 `(c, *spatial)` or
            `(1, *spatial)`, data units; 0 outside holes.
        factor: of the standard error, float32 `(n_state, *spatial)`, at least 1; 1 outside holes.
    """

    left: NDArray[np.float32]
    factor: NDArray[np.float32]

    def of(self, channels: Sequence[int]) -> Contamination:
        """Return that of some channels of the image."""
        left, factor = (part if len(part) == 1 else part[list(channels)] for part in (self.left, self.factor))
        return Contamination(left=left, factor=factor)

    def seen_from(self, far: Contamination, seen: NDArray[np.float32]) -> Contamination:
        """Return this where the window shows all that counts, `far` where it does not; see `Beyond.seen`."""
        return Contamination(
            left=handed_over(self.left, far.left, seen), factor=handed_over(self.factor, far.factor, seen)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A window to restore, with all that may help.

    Attributes:
        window: observed values and holes, `(c, *spatial)`.
        guides: one per reference of the recipe, then the image itself if its channels have different holes.
        base: the exact base fill if the survey already has it, else None.
        used: part of the window whose estimate is used; what it says beside is only seen. Empty = all of it.
        patch: smallest extent of the patches of the image, pixels: hole pixels farther from all that is observed can
            lie in a window without any.
        around: what contaminated pixels around the holes add to the error bars; None = nothing.
        beyond: what the whole image says of the window's pixels; None = each patch sees its holes by itself.
        around_beyond: what `around` is, told from the whole image; None = nothing.
        corrections: by number of a relation, what the whole image says beside it.
    """

    window: Window
    guides: tuple[Guide, ...] = ()
    base: NDArray[np.float32] | None = None
    used: tuple[slice, ...] = ()
    patch: int
    around: Contamination | None = None
    beyond: Beyond | None = None
    around_beyond: Contamination | None = None
    corrections: Mapping[int, Correction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is known about the holes of a window; observed pixels carry their value, 0 and `OBSERVED`.

    Attributes:
        mean: float32 `(c, *spatial)`, data units, inside the recipe's limits.
        raw: float32, uncalibrated standard error, > 0 in holes.
        sigma: float32, calibrated standard error.
        place: distance and hole family of each pixel.
        origin: uint8, code of the source layer.
        trust: float32 in [0, 1], how far references carry the mean.
    """

    mean: NDArray[np.float32]
    raw: NDArray[np.float32]
    sigma: NDArray[np.float32]
    place: Situation
    origin: NDArray[np.uint8]
    trust: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An estimate in the making, all `(c, *spatial)`.

    Attributes:
        mean: float32, data units.
        origin: uint8, source codes.
        trust: float32 in [0, 1], how far references carry the mean.
        place: distance and hole family of each pixel.
        scale: float32, local standard deviation of the observed pixels, the unit that steps are limited in.
        close: float32, that of the observed pixels close by, the raw standard error where no network speaks.
        lead: float32 in [0, 1], share of the mean of the reference that `origin` names.
        reliability: float32 in [0, 1], how reliable what the references brought is; 0.5 where they brought nothing.
        said: float32, what references that lead untested count together, see `with_reference`; 0 where none does.
    """

    mean: NDArray[np.float32]
    origin: NDArray[np.uint8]
    trust: NDArray[np.float32]
    place: Situation
    scale: NDArray[np.float32]
    close: NDArray[np.float32]
    lead: NDArray[np.float32]
    reliability: NDArray[np.float32]
    said: NDArray[np.float32]

    def at(self, pixels: Pixels) -> Draft:
        """Return the estimate at some pixels, all `(c, n)`."""
        return Draft(
            mean=picked(self.mean, pixels),
            origin=picked(self.origin, pixels),
            trust=picked(self.trust, pixels),
            place=self.place.at(pixels),
            scale=picked(self.scale, pixels),
            close=picked(self.close, pixels),
            lead=picked(self.lead, pixels),
            reliability=picked(self.reliability, pixels),
            said=picked(self.said, pixels),
        )
