"""What keeps a family from its goal: experiments with hindsight, that know the truth as no run ever does.

Each asks what an ideal part would bring. Where even that misses the goal, the part is not what is missing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.quality.cases import AREA_FAMILIES, HELPED_FAMILIES, Case
from benchmarks.quality.fills import REGRESSION, estimate_of, window_of
from benchmarks.quality.gains import (
    WORSE_DB,
    Row,
    best_classical,
    decibel,
    gains,
    kind,
    of_family,
    single_image,
    unseen_losses,
)
from benchmarks.quality.runner import OURS, Frame, Settings
from benchmarks.quality.scores import Z90, channel_mse, psnr, robust_range, spearman, tiles
from pipeline.references.context import context
from pipeline.references.estimate import reference_fill
from pipeline.references.relation import fit_relation

Line = tuple[str, str, str]
CURVES = Path(__file__).parents[2] / "docs/decisions/curves"
_DEPTHS = (0, 2, 4, 8, 16, 1000)
_WIDTHS = (16, 64)
_DRAWS = 2000
_SMOOTH = 3
_RANKED = 6
"""Fewest pairs of which a rank correlation is told: of three, one order in six is perfect."""


def findings(rows: Sequence[Row], cases: Mapping[str, Case], settings: Settings) -> list[Line]:
    """Return (goal, experiment, result) of each experiment that has rows; `settings` say where the arrays lie."""
    good = [row for row in rows if "error" not in row]
    arrays = {row["case"]: _arrays(row, cases[row["case"]], settings) for row in good}
    made = [
        *_judged(good),
        *(_shrunk(family, of_family(good, family), arrays) for family in AREA_FAMILIES),
        *_learned(),
        *_related(good, cases),
        *_exchanged(good),
        *_covered(good, arrays),
        *_ranked(good, arrays),
        *_unseen(good),
    ]
    return [line for line in made if line[2]]


class _Held:
    """Truth, result and stated error of a case on its hole pixels; the image is read again when asked for."""

    def __init__(self, case: Case, values: NDArray[Any], sigma: NDArray[Any]) -> None:
        self.case, self._values, self._sigma = case, values, sigma

    def full(self) -> tuple[Any, NDArray[np.bool_], Frame, NDArray[np.float64], NDArray[np.float64]]:
        """Return image, hole, frame, and result and stated error `(c, *spatial)`."""
        image, hole = self.case.build()
        ours, sigma = image.values.astype(np.float64), np.zeros(hole.shape)
        ours[hole], sigma[hole] = self._values, self._sigma
        return image, hole, Frame.of(image, hole), ours, sigma


def _arrays(row: Row, case: Case, settings: Settings) -> _Held:
    stored = np.load(settings.out / settings.state / f"{row['key']}.npz")
    return _Held(case, stored["ours"], stored["sigma"])


def _judged(good: Sequence[Row]) -> list[Line]:
    """Choose the best of all methods for each file or each hole, with the truth in hand."""
    lines = []
    for family in ("points 30 %", "points 80 %", "stripes", "cloud", "region 32", "region 64", "border", "blob T1"):
        rows = of_family(good, family)
        if not rows:
            continue
        base = best_classical(rows)
        now = np.mean([decibel(r, OURS) - decibel(r, base) for r in rows])
        file = np.mean([max(decibel(r, m) for m in (OURS, *single_image(r))) - decibel(r, base) for r in rows])
        holes = [_best_parts(r, base) for r in rows if len(r["methods"][OURS]["components"]) > 1]
        result = f"{now:+.2f} dB as it is, {file:+.2f} with the best method of each file"
        if holes:
            result += f", {np.mean(holes):+.2f} with the best of each hole"
        lines.append((family, "a judge that never errs chooses among our result and all classical fills", result))
    return lines


def _best_parts(row: Row, base: str) -> float:
    """Return the gain of the best method for each component over `base`, mean over components, dB."""
    scores = {
        method: np.array([psnr(mse, row["range"]) for mse in row["methods"][method]["components"]])
        for method in (OURS, *single_image(row))
    }
    return float((np.max(list(scores.values()), axis=0) - scores[base]).mean())


def _shrunk(family: str, rows: Sequence[Row], arrays: Mapping[str, _Held]) -> Line:
    """Pull our result toward the local mean by the factor that is best for the truth, at each distance."""
    best = []
    for row in rows:
        image, hole, frame, ours, _ = arrays[row["case"]].full()
        span = robust_range(image.values, frame.counted)
        window = window_of(image, hole)
        before = psnr(channel_mse(ours, image.values, frame.scored), span)
        tried = []
        for width in _WIDTHS:
            mean = np.stack([_local_mean(v, k, width) for v, k in zip(window.values, window.valid, strict=True)])
            tried.append(psnr(channel_mse(_pulled(image, frame, ours, mean, span), image.values, frame.scored), span))
        best.append(max(tried) - before)
    what = "our result is pulled toward the local mean, at each distance by the factor that fits the truth best"
    return family, what, f"{np.mean(best):+.2f} dB on average, {max(best):+.2f} at most" if best else ""


def _local_mean(values: NDArray[Any], valid: NDArray[np.bool_], width: float) -> NDArray[np.float64]:
    share = ndimage.gaussian_filter(valid.astype(np.float64), width, mode="nearest")
    return np.asarray(
        ndimage.gaussian_filter(np.where(valid, values, 0.0), width, mode="nearest") / np.maximum(share, 1e-9)
    )


def _pulled(
    image: Any, frame: Frame, ours: NDArray[np.float64], mean: NDArray[np.float64], span: NDArray[np.float64]
) -> NDArray[np.float64]:
    depth = ndimage.distance_transform_edt(frame.scored.any(axis=0))
    unit = np.maximum(span, 1e-9).reshape(-1, *(1,) * (ours.ndim - 1))
    error, step = (image.values - ours) / unit, (mean - ours) / unit
    result = ours.copy()
    for low, high in pairwise(_DEPTHS):
        part = frame.scored & (depth > low) & (depth <= high)
        size = float((step[part] ** 2).sum())
        factor = np.clip(float((error[part] * step[part]).sum()) / size, 0, 1) if size else 0.0
        result = np.where(part, ours + factor * (mean - ours), result)
    return result


def _learned() -> list[Line]:
    """Say what the shipped weights gained, and how much of it in the last half and the last sixth of their training."""
    lines = []
    for goal, file, column in (
        ("points 30 %", "optical", "points"),
        ("stripes", "optical", "stripes"),
        ("cloud", "optical_small", "cloud"),
        ("blob T1", "t1", "blobs"),
    ):
        with (CURVES / f"{file}.csv").open() as text:
            curve = np.array([(float(row["step"]), float(row[column])) for row in csv.DictReader(text)])
        steps, gain = curve[:, 0], ndimage.uniform_filter1d(curve[:, 1], _SMOOTH, mode="nearest")
        half, late = (int(np.argmin(np.abs(steps - share * steps[-1]))) for share in (1 / 2, 5 / 6))
        result = (
            f"{gain[-1]:+.2f} dB over the spline at step {steps[-1]:.0f}, of them {gain[-1] - gain[half]:+.2f} in the "
            f"last half and {gain[-1] - gain[late]:+.2f} in the last sixth, as the learning rate falls to 0"
        )
        lines.append((goal, "learning curve on held-out scenes, one view", result))
    return lines


def _related(good: Sequence[Row], cases: Mapping[str, Case]) -> list[Line]:
    """Fit the relation to a reference on the hidden pixels, too, and compare with the blind fit."""
    lines = []
    for family in ("clear reference", "auxiliary contrast"):
        rows = [row for row in of_family(good, family) if row["case"].endswith("/ 0")]
        if not rows:
            continue
        known = np.array([_with_truth(*cases[row["case"]].build()) for row in rows])
        explained = [row["agreement"][0] for row in rows]
        gain = [decibel(row, OURS) - max(decibel(row, m) for m in single_image(row)) for row in rows]
        over = np.mean([decibel(row, OURS) - decibel(row, REGRESSION) for row in rows])
        what = "the relation between the images is fitted on the hidden pixels, too"
        result = (
            f"{np.mean(known):+.2f} dB over the same estimate without that ({np.min(known):+.2f} to "
            f"{np.max(known):+.2f}); as it is we are {over:+.2f} over the plain regression"
        )
        lines += [
            (family, what, result),
            (
                family,
                "rank correlation of gain and share of variance that one image explains of the other",
                f"{spearman(explained, gain):.2f} over {len(rows)} pairs" if len(rows) >= _RANKED else "",
            ),
        ]
    return lines


def _with_truth(image: Any, hole: NDArray[np.bool_]) -> float:
    """Return the gain in dB of a relation that was fitted with the truth, over the blind one."""
    window = window_of(image, hole)
    frame = Frame.of(image, hole)
    span = robust_range(image.values, frame.counted)
    base = estimate_of(image, hole, "tension t=0.5" if hole.ndim == 3 else "tension t=0.95")
    guide = image.guides[0]
    seen = np.ones(hole.shape[1:], dtype=bool) if guide.hidden is None else ~guide.hidden
    reference = guide.values.astype(np.float32)
    looks = context(reference, seen, image.spacing)
    scores = []
    for use in (window.valid.all(axis=0) & seen, frame.counted & seen):
        step = max(1, int(use.sum()) // 30_000)
        pixels = np.flatnonzero(use)[::step]
        x = looks.reshape(len(looks), -1)[:, pixels].T
        y = image.values.reshape(len(image.values), -1)[:, pixels].T.astype(np.float32)
        relation = fit_relation(y, x, len(reference), robust=not guide.auxiliary)
        said = reference_fill(window, reference, seen[None], relation, base).values
        scores.append(psnr(channel_mse(said, image.values, frame.scored), span))
    return scores[1] - scores[0]


def _exchanged(good: Sequence[Row]) -> list[Line]:
    """Count the holes that get worse when one classical fill is exchanged for one that is as good on average."""
    rows = of_family(good, *AREA_FAMILIES)
    if not rows:
        return []
    worse, cost = [], []
    for family in AREA_FAMILIES:
        members = of_family(rows, family)
        if not members:
            continue
        shared = set.intersection(*(set(single_image(row)) for row in members))
        mean = {m: float(np.mean([decibel(row, m) for row in members])) for m in shared}
        first, second = sorted(mean, key=lambda m: -mean[m])[:2]
        cost.append(mean[first] - mean[second])
        for row in members:
            one, other = (row["methods"][m]["components"] for m in (first, second))
            pairs = zip(one, other, strict=True)
            worse += [psnr(b, row["range"]) - psnr(a, row["range"]) < -WORSE_DB for a, b in pairs]
    what = "the best classical fill of each family is exchanged for the second best"
    result = (
        f"{100 * np.mean(worse):.0f} % of the holes get worse by more than {WORSE_DB} dB, though the fills differ "
        f"by {np.mean(cost):.2f} dB on average"
    )
    return [("hole components made worse", what, result)]


def _halves(frame: Frame) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Split what is scored by a chequerboard of 16 pixels, so that neighbours are mostly together."""
    board = tiles(frame.scored.shape[1:], 16)
    odd = np.zeros(board.shape, dtype=bool)
    for axis, n in enumerate(board.shape):
        odd ^= (np.arange(n) // 16 % 2 == 1).reshape([-1 if a == axis else 1 for a in range(board.ndim)])
    return frame.scored & odd, frame.scored & ~odd


def _covered(good: Sequence[Row], arrays: Mapping[str, _Held]) -> list[Line]:
    """Scale the stated errors of one half of the hidden pixels with the truth, count on the other."""
    now, ideal = [], []
    for row in good:
        image, _, frame, ours, sigma = arrays[row["case"]].full()
        one, other = _halves(frame)
        if min(one.sum(), other.sum()) < 100:
            continue
        ratio = np.abs(ours - image.values) / np.maximum(Z90 * sigma, 1e-30)
        now.append(0.85 <= row["coverage"] <= 0.95)
        ideal.append(0.85 <= float((ratio[other] <= np.quantile(ratio[one], 0.9)).mean()) <= 0.95)
    what = "the error bars are scaled with the truth on every other block of 16 pixels and counted on the rest"
    if not ideal:
        return []
    share, before = 100 * np.mean(ideal), 100 * np.mean(now)
    result = f"{share:.0f} % of {len(ideal)} files between 85 and 95 %, as it is {before:.0f} %"
    return [("90 % interval", what, result)]


def _ranked(good: Sequence[Row], arrays: Mapping[str, _Held]) -> list[Line]:
    """Predict the error of one half of the hidden pixels of a file by that of the other half."""
    pairs = []
    for row in good:
        image, _, frame, ours, _ = arrays[row["case"]].full()
        span = robust_range(image.values, frame.counted)
        halves = _halves(frame)
        if min(part.sum() for part in halves) >= 100:
            pairs.append([psnr(channel_mse(ours, image.values, part), span) for part in halves])
    if len(pairs) < 3:
        return []
    one, other = zip(*pairs, strict=True)
    what = "the error of one half of a file's holes is predicted by that of the other half"
    return [("error predicted, Spearman", what, f"{spearman(one, other):.2f} over {len(pairs)} files")]


def _unseen(good: Sequence[Row]) -> list[Line]:
    """Call other images unseen at random, all of one sensor and place together: how often is the loss as large?"""
    rows = [row for row in good if row["family"] not in HELPED_FAMILIES]
    gain = gains(rows)
    strange = {(row["place"], row["sensor"]) for row in rows if row["unseen"]}

    def loss(chosen: set[tuple[str, str]]) -> dict[str, float]:
        return unseen_losses(rows, gain, [(row["place"], row["sensor"]) in chosen for row in rows])

    known = loss(strange)
    rows = [row for row in rows if kind(row) in known]
    units = sorted({(row["place"], row["sensor"]) for row in rows})
    strange &= set(units)
    if not 0 < len(strange) < len(units):
        return []
    ours = float(np.mean(list(known.values())))
    rng = np.random.default_rng(0)
    draws = (rng.choice(len(units), len(strange), replace=False) for _ in range(_DRAWS))
    drawn = [loss({units[i] for i in draw}) for draw in draws]
    share = np.mean([np.mean(list(d.values())) >= ours for d in drawn if d])
    what = f"{len(strange)} of the {len(units)} pairs of place and sensor are called unseen at random, {_DRAWS} times"
    result = f"the loss is as large as ours ({ours:+.2f} dB) in {100 * share:.0f} % of them"
    return [("unseen sensor or contrast", what, result)]
