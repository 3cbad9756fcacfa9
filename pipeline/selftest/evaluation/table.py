"""Scores of every method and how sure they are: each is made of sums by hole, and the holes are drawn again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.bootstrap import counts, interval
from pipeline.numerics.metrics import mean_psnr_db, mean_where
from pipeline.selftest.evaluation.methods import RUN
from pipeline.selftest.evaluation.scoring import LEAST, Counted, Errors
from pipeline.selftest.scores import NOTICEABLE_DB

_FOLDS = 1000
"""Times that the holes are drawn again."""

Field = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A value and its 95 % interval over holes; NaN where it is not known."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, drawn: Field) -> Score:
        """Return the first value with the interval of the others `(1 + folds,)`."""
        low, high = interval(drawn[1:])
        return cls(value=float(drawn[0]), low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a method scores in one family of holes.

    Attributes:
        method: name.
        chosen: it is to be used.
        scores: by name; see `SCORES`.
        rmse: root mean square error of each channel, data units, `(c,)`; NaN where nothing was hidden.
    """

    method: str
    chosen: bool
    scores: Mapping[str, Score]
    rmse: tuple[float, ...]

    def facts(self) -> dict[str, Any]:
        """Return the row as JSON values: `name`, `name_low` and `name_high` of each score."""
        flat: dict[str, Any] = {"method": self.method, "chosen": self.chosen}
        for name, score in self.scores.items():
            flat |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        return flat | {"rmse": list(self.rmse)}


SCORES = {
    "psnr_db": "PSNR, dB",
    "gain_db": "over best fill, dB",
    "rmse_share": "error, share of range",
    "ssim": "SSIM",
    "sam_deg": "spectral angle, deg",
    "gradient_ratio": "gradients",
    "coverage_90": "inside 90 %",
    "worse_share": "holes made worse",
}
"""Names of scores and their heads in tables; `gain_db` and `worse_share` compare with the best fill of the family."""


def table(total: Counted, fills: Sequence[str], spread: Field, seed: int) -> list[Row]:
    """Return a row for each method.

    Args:
        total: what was counted in all windows of a family.
        fills: names of the methods that are classical fills.
        spread: robust range of each channel, `(c,)`.
        seed: of the resampling: the same holes are drawn for every method, so differences are paired.
    """
    drawn = counts(len(total.pixels), _FOLDS, seed)
    psnr = {name: _psnr(one, total, drawn, spread) for name, one in total.methods.items()}
    best = _highest({name: psnr[name] for name in fills if name in psnr})
    chosen = _chosen(psnr, best)
    return [
        Row(
            method=name,
            chosen=name == chosen,
            scores={
                "psnr_db": Score.of(psnr[name]),
                "gain_db": Score.of(psnr[name] - psnr[best]) if best else _UNKNOWN,
                **{what: Score.of(score(one, total, drawn, spread)) for what, score in _OF_ONE.items()},
                "worse_share": _worse(one, total.methods[best], total, drawn, spread) if best else _UNKNOWN,
            },
            rmse=tuple(float(v) for v in np.sqrt(_ratio(one.squares.sum(axis=0), total.pixels.sum(axis=0)))),
        )
        for name, one in total.methods.items()
    ]


_UNKNOWN = Score(value=float("nan"), low=float("nan"), high=float("nan"))


def best_of(rows: Sequence[Row], names: Sequence[str]) -> Row | None:
    """Return the row with the highest PSNR among some methods; None without any that has one."""
    known = [row for row in rows if row.method in names and math.isfinite(row.scores["psnr_db"].value)]
    return max(known, key=lambda row: row.scores["psnr_db"].value, default=None)


def _highest(psnr: Mapping[str, Field]) -> str | None:
    known = {name: values[0] for name, values in psnr.items() if np.isfinite(values[0])}
    return max(known, key=lambda name: known[name]) if known else None


def _chosen(psnr: Mapping[str, Field], best: str | None) -> str:
    """Return the run, unless the best fill is surely and noticeably better; a config cannot ask for other methods."""
    if best is None:
        return RUN
    more = Score.of(psnr[best] - psnr[RUN])
    return best if more.low > 0 and more.value > NOTICEABLE_DB else RUN


def _ratio(total: Field, count: Field) -> Field:
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1e-30), np.nan))


def _psnr(one: Errors, total: Counted, drawn: Field, spread: Field) -> Field:
    return mean_psnr_db(_ratio(drawn @ one.squares, drawn @ total.pixels), spread)


def _rmse_share(one: Errors, total: Counted, drawn: Field, spread: Field) -> Field:
    mse = _ratio(drawn @ one.squares, drawn @ total.pixels)
    usable = np.isfinite(mse) & (spread > 0)
    return np.asarray(np.sqrt(mean_where(mse / np.where(spread > 0, spread, 1.0) ** 2, usable)))


def _similarity(one: Errors, total: Counted, drawn: Field, _: Field) -> Field:
    similar = _ratio(drawn @ one.similar, drawn @ total.centres)
    return mean_where(similar, np.isfinite(similar))


def _angle(one: Errors, total: Counted, drawn: Field, _: Field) -> Field:
    return _ratio(drawn @ one.angles, drawn @ total.spectra)[:, 0]


def _gradients(one: Errors, total: Counted, drawn: Field, _: Field) -> Field:
    ratio = _ratio(drawn @ one.gradients, drawn @ total.gradients)
    return mean_where(ratio, np.isfinite(ratio))


def _coverage(one: Errors, total: Counted, drawn: Field, _: Field) -> Field:
    if one.inside is None:
        return np.full(len(drawn), np.nan)
    return _ratio((drawn @ one.inside).sum(axis=1), (drawn @ total.pixels).sum(axis=1))


_OF_ONE: dict[str, Callable[[Errors, Counted, Field, Field], Field]] = {
    "rmse_share": _rmse_share,
    "ssim": _similarity,
    "sam_deg": _angle,
    "gradient_ratio": _gradients,
    "coverage_90": _coverage,
}


def _worse(one: Errors, best: Errors, total: Counted, drawn: Field, spread: Field) -> Score:
    """Return the share of holes that are noticeably worse than with the best fill."""
    large = (total.pixels >= LEAST).any(axis=1)
    ours, theirs = (mean_psnr_db(_ratio(errors.squares, total.pixels), spread) for errors in (one, best))
    worse = large & (ours < theirs - NOTICEABLE_DB)
    return Score.of(_ratio(drawn @ worse.astype(np.float64), drawn @ large.astype(np.float64)))
