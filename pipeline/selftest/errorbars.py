"""Fit error bars on restored hidden pixels, and check them on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.calibration import FEWEST_PIXELS, STORED_OF_FILLS, Z90, Calibration, fit, power_of, tilted
from pipeline.numerics.column import column
from pipeline.numerics.situation import Situation
from pipeline.numerics.statistics import varied
from pipeline.numerics.structure import Growth, growth_of
from pipeline.restore.blend import CARRIED
from pipeline.restore.estimate import finish, tempered
from pipeline.restore.network import needed
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.selftest.placing import Placement
from pipeline.selftest.trial import Trial
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

_MAX_PIXELS = 400_000
"""Hidden pixels that a calibration is fitted on; of more every second, third, ... is taken."""

_TELLING = 1.5
"""Local standard deviation, over the smallest one of the channel, from which a pixel's error tells something."""

_STATED = 0.5
"""Share of a network in the raw error from which a pixel tells how errors grow with what it states."""

_ALIKE = 1.1
"""Longest step over the shortest up to which distances are told by counting pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """Some pixels of one placement after restoring; flat arrays of equal length."""

    raw: NDArray[np.float32]
    """`(n,)`, uncalibrated standard error, data units."""
    close: NDArray[np.float32]
    """`(n,)`, standard deviation of the observed pixels close by, data units."""
    place: Situation
    """Distance `(n,)` and family shares `(3, n)`."""
    trust: NDArray[np.float32]
    """`(n,)` in [0, 1], how far references carry the mean."""
    stated: NDArray[np.float32]
    """`(n,)` in [0, 1], how far `raw` is what a network states."""
    channel: NDArray[np.intp]
    """`(n,)`, channel in the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested(Pixels):
    """Hidden pixels of one placement after restoring: their truth is known."""

    error: NDArray[np.float32]
    """`(n,)`, restored minus true value, data units."""
    telling: NDArray[np.bool_]
    """`(n,)`, False where values do not vary, as around the head of a volume: what is restored there without error says
    nothing about the rest."""
    weight: NDArray[np.float32]
    """`(n,)`, how often each counts for the real holes, on average 1 over those that tell."""
    holes: Pixels
    """The real hole pixels of the window, whose truth nobody knows."""

    def only(self, some: NDArray[np.bool_]) -> Tested:
        """Return some `(n,)` of the hidden pixels."""
        return replace(
            self,
            raw=self.raw[some],
            close=self.close[some],
            place=Situation(distance=self.place.distance[some], shares=self.place.shares[:, some]),
            trust=self.trust[some],
            stated=self.stated[some],
            channel=self.channel[some],
            error=self.error[some],
            telling=self.telling[some],
            weight=self.weight[some],
        )


def tested_all(trials: Sequence[Trial], recipe: Recipe, *, all_tell: bool) -> list[Tested]:
    """Return `tested_on` of each trial; each hidden pixel counts as often as real holes are as rough around."""
    tested = each(partial(tested_on, recipe=recipe, all_tell=all_tell), trials)
    typical, floor = (np.asarray(part, dtype=np.float64) for part in (recipe.typical, recipe.floor))
    holes = [t.holes for t in tested]
    hidden, real = (np.concatenate([np.log(p.close / typical[p.channel]) for p in of]) for of in (tested, holes))
    tells = np.concatenate([h.close > _TELLING * floor[h.channel] for h in holes])
    weight = tilted(hidden, real[tells], np.concatenate([t.telling for t in tested]))
    ends = np.cumsum([t.error.size for t in tested])[:-1]
    return [replace(t, weight=own) for t, own in zip(tested, np.split(weight, ends), strict=True)]


def tested_on(trial: Trial, recipe: Recipe, *, all_tell: bool) -> Tested:
    """Finish the draft of a trial as a block would and take out what error bars are made of.

    Args:
        trial: hidden pixels of one or more channels.
        recipe: of the image.
        all_tell: do not find out which pixels tell something, which takes time.
    """
    stop_if_asked()
    own, placement = narrowed(recipe, trial.channels), trial.placement
    result = finish(own, placement.task, trial.draft, trial.raw)
    hidden = placement.hidden
    floor = column(own.floor, hidden.ndim - 1, np.float32)
    stated = needed(own, trial.place, trial.draft.trust)
    telling = all_tell or (trial.draft.scale > _TELLING * floor) & varied(placement.truth, floor)

    def pixels(some: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "raw": result.raw[some],
            "close": trial.draft.close[some],
            "place": Situation(distance=trial.place.distance[some], shares=trial.place.shares[:, some]),
            "trust": result.trust[some],
            "stated": stated[some],
            "channel": np.asarray(trial.channels)[np.nonzero(some)[0]],
        }

    return Tested(
        **pixels(hidden),
        error=trial.error_of(result.mean),
        telling=trial.hidden(np.broadcast_to(telling, hidden.shape)),
        weight=np.ones(int(hidden.sum()), dtype=np.float32),
        holes=Pixels(**pixels(trial.window.hole & ~hidden)),
    )


def followed(
    recipe: Recipe, tested: Sequence[Tested], plain: Sequence[Tested]
) -> tuple[Recipe, list[Tested], list[Tested]]:
    """Find the power that errors grow with of what a network states.

    Args:
        recipe: as the pixels were tested with; its power is 1.
        tested: hidden pixels as a block would restore them.
        plain: the same pixels restored without references.

    Returns:
        The recipe with the power, and both with what the network states of raw errors to that power.
    """
    if recipe.network_weight == 0:
        return recipe, list(tested), list(plain)
    typical = np.asarray(recipe.typical, dtype=np.float32)
    telling = [t.only(t.telling & (t.stated >= _STATED)) for t in plain]
    scale = np.concatenate([typical[t.channel] for t in telling])
    error, raw = (np.concatenate(part) / scale for part in ([t.error for t in telling], [t.raw for t in telling]))
    power = power_of(np.abs(error), raw, np.concatenate([t.weight for t in telling]))
    recipe = replace(recipe, error_power=round(power, 3))

    def of(pixels: Pixels) -> NDArray[np.float32]:
        return tempered(recipe, pixels.raw, typical[pixels.channel], pixels.stated)

    both = [[replace(t, raw=of(t), holes=replace(t.holes, raw=of(t.holes))) for t in part] for part in (tested, plain)]
    return recipe, both[0], both[1]


def calibrated(recipe: Recipe, tested: Sequence[Tested], plain: Sequence[Tested]) -> Recipe:
    """Return the recipe with both calibrations, that of pixels that a reference carries and that of all others.

    Args:
        recipe: decisions so far.
        tested: hidden pixels as a block would restore them; those that a reference carries calibrate references.
        plain: the same pixels restored without references; all of them calibrate the image's own estimate.
    """
    single = _fit(plain)
    referenced = _fit([t.only(t.trust >= CARRIED) for t in tested])
    if not referenced.pixels or not any(recipe.reference_weights):
        referenced = single
    return replace(recipe, single=single, referenced=referenced)


def growth_in(placements: Sequence[Placement], spread: NDArray[np.float64]) -> Growth:
    """Return how errors grow in the image, as its structure function does.

    Where slices are thick nothing is known: distances across them are no lags within them.

    Args:
        placements: windows of the image, with what was hidden in them.
        spread: robust range of each channel, `(c,)`.
    """
    spacing = placements[0].task.window.spacing
    if max(spacing) > _ALIKE * min(spacing):
        return Growth()
    windows = {p.start: p for p in placements}.values()
    fields = [(np.where(p.hidden, p.truth, p.task.window.values), p.task.window.valid | p.hidden) for p in windows]
    return growth_of(fields, spread, range(len(spacing)))


def grown(recipe: Recipe, growth: Growth) -> Recipe:
    """Return the recipe with bars that grow so beyond what was tested; stored ones stay as they are.

    Not where a reference carries the mean: what two dates do not share is finer than what they show.
    """
    if not recipe.single.pixels:
        return recipe
    single = replace(recipe.single, growth=growth)
    return replace(
        recipe, single=single, referenced=single if recipe.referenced == recipe.single else recipe.referenced
    )


def widened(recipe: Recipe, referenced: Calibration) -> Recipe:
    """Return the recipe with bars that are never narrower than the stored ones, of references than `referenced`."""
    return replace(
        recipe, single=recipe.single.at_least(STORED_OF_FILLS), referenced=recipe.referenced.at_least(referenced)
    )


def _fit(tested: Sequence[Tested]) -> Calibration:
    """Fit on the telling pixels; if these are too few, on all, but no factor is to be below the stored default's."""
    telling = [t.only(t.telling) for t in tested]
    if _count(telling) >= FEWEST_PIXELS:
        return _fitted(telling)
    return _fitted(tested).at_least(STORED_OF_FILLS)


def _fitted(use: Sequence[Tested]) -> Calibration:
    every = slice(None, None, max(1, _count(use) // _MAX_PIXELS))
    return fit(
        np.abs(np.concatenate([t.error for t in use]))[every],
        np.concatenate([t.raw for t in use])[every],
        np.concatenate([t.place.distance for t in use])[every],
        np.concatenate([t.place.shares for t in use], axis=1)[:, every],
        weight=np.concatenate([t.weight for t in use])[every],
    )


def _count(tested: Sequence[Tested]) -> int:
    return sum(t.error.size for t in tested)


def cross_calibrated(
    trials: Sequence[Trial],
    recipe: Recipe,
    tested: Sequence[Tested],
    plain: Sequence[Tested],
    published: Callable[[Recipe], Recipe],
) -> list[NDArray[np.float32]]:
    """Return the half width of the 90 % interval of each hidden pixel, as a block would make it.

    Factors that come from hidden pixels are those of the other half of the placements.

    Args:
        trials: hidden pixels as a block would restore them.
        recipe: decisions so far.
        tested: the same after restoring.
        plain: the same restored without references.
        published: gives what a run uses of factors that hidden pixels gave.

    Returns:
        `(n,)` for each placement, data units.
    """
    others = [published(calibrated(recipe, tested[1 - half :: 2], plain[1 - half :: 2])) for half in (0, 1)]
    return [_bars(trial, others[k % 2]) for k, trial in enumerate(trials)]


def _bars(trial: Trial, recipe: Recipe) -> NDArray[np.float32]:
    """Return the half width of the 90 % interval of the hidden pixels of a trial, `(n,)`."""
    own, placement = narrowed(recipe, trial.channels), trial.placement
    return np.float32(Z90) * trial.hidden(finish(own, placement.task, trial.draft, trial.raw).sigma)


def cross_coverage(
    tested: Sequence[Tested], widths: Sequence[NDArray[np.float32]], n_channels: int
) -> tuple[float | None, tuple[float | None, ...]]:
    """Return the share of errors inside the 90 % interval.

    Args:
        tested: hidden pixels of each placement.
        widths: half width of the interval of each, see `cross_calibrated`.
        n_channels: of the image.

    Returns:
        The share over all channels, and that of each channel; None where no pixel tells.
    """
    inside, seen = np.zeros(n_channels), np.zeros(n_channels)
    for t, width in zip(tested, widths, strict=True):
        held = np.abs(t.error) <= width
        inside += np.bincount(t.channel, weights=t.weight * (held & t.telling), minlength=n_channels)
        seen += np.bincount(t.channel, weights=t.weight * t.telling, minlength=n_channels)
    shares = tuple(float(a / n) if n else None for a, n in zip(inside, seen, strict=True))
    return float(inside.sum() / seen.sum()) if seen.any() else None, shares
