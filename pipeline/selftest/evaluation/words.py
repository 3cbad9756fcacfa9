"""What an evaluation says in one sentence: which method to use on this image, and which error to expect."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.selftest.evaluation.methods import RUN
from pipeline.selftest.evaluation.rounds import Round
from pipeline.selftest.evaluation.table import Row, Score
from pipeline.system.words import in_percent, number


def sentence(rounds: Sequence[Round]) -> str:
    """Return what to use in holes like the image's own (else in the first family), and the error to expect there."""
    told = [one for one in rounds if one.rows]
    if not told:
        return "too little is observed to hide anything, so nothing can be said; look at the standard errors of a run"
    first = told[0]
    if not first.best_fill:
        return "the image does not vary, so any method restores it"
    row = next((row for row in first.rows if row.chosen), first.rows[0])
    parts = [f"{_use(row, first)}; {_error(row, first)}"]
    others = [f"{_gain(one)} in {one.title}" for one in told[1:]]
    if others:
        parts.append(f"A run gains over the best fill of each family: {', '.join(others)}.")
    return " ".join(parts)


def _use(row: Row, one: Round) -> str:
    where, psnr = f"in {one.title}", row.scores["psnr_db"]
    if row.method == one.best_fill:
        less = -_of_run(one).scores["gain_db"].value
        more = f", {less:.2f} dB more than a run" if less > 0 else ""
        return f"use the fill {row.method} (`{_as_config(row.method)}`): {where} it reaches {_db(psnr)}{more}"
    gain = row.scores["gain_db"]
    name = "a run" if row.method == RUN else row.method
    if gain.low > 0:
        return (
            f"use {name}: {where} it reaches {_db(psnr)}, {gain.value:.2f} dB ({gain.low:.2f} to {gain.high:.2f}) more "
            f"than the best classical fill, {one.best_fill}"
        )
    ends = f", {gain.low:+.2f} to {gain.high:+.2f}" if math.isfinite(gain.low) else ""
    return (
        f"use {name}: {where} it reaches {_db(psnr)}, and the best classical fill, {one.best_fill}, is not surely "
        f"better or worse (a run gains {gain.value:+.2f} dB{ends})"
    )


def _as_config(label: str) -> str:
    """Return what a config says to have a fill alone.

    >>> _as_config("kriging t=0.95")
    'model: {kind: kriging, options: {t: 0.95}}'
    """
    kind, *options = label.split()
    given = f", options: {{{', '.join(options).replace('=', ': ')}}}" if options else ""
    return f"model: {{kind: {kind}{given}}}"


def _error(row: Row, one: Round) -> str:
    share = row.scores["rmse_share"]
    known = [value for value in row.rmse if math.isfinite(value)]
    absolute = f" ({number(known[0])} in the file's units)" if len(row.rmse) == 1 and known else ""
    parts = [f"expect an error of {100 * share.value:.2g} % of the image's range{absolute}, root mean square"]
    worse, held = row.scores["worse_share"], _of_run(one).scores["coverage_90"]
    if math.isfinite(worse.value) and row.method != one.best_fill:
        parts.append(f"{in_percent(worse.value)} of the holes come out worse than with the best fill")
    if math.isfinite(held.value):
        parts.append(f"the 90 % interval of a run held {in_percent(held.value)} of the errors")
    return "; ".join(parts) + "."


def _gain(one: Round) -> str:
    return f"{_of_run(one).scores['gain_db'].value:+.2f} dB"


def _of_run(one: Round) -> Row:
    return next(row for row in one.rows if row.method == RUN)


def _db(score: Score) -> str:
    return f"{score.value:.1f} dB"
