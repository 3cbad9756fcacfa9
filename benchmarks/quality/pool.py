"""Measure cases side by side, in processes of their own; one that dies takes only its case with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from benchmarks.quality.cases import Case, all_cases
from benchmarks.quality.runner import Settings, describe, measure

Row = dict[str, Any]
_CASES: dict[str, Case] = {}


def measured(cases: Sequence[Case], settings: Settings, jobs: int) -> Iterator[Row]:
    """Yield the rows of the cases as they are done."""
    if jobs <= 1:
        yield from (measure(case, settings) for case in cases)
        return
    left = {case.name: case for case in cases}
    try:
        with _pool(jobs) as pool:
            futures = [pool.submit(_measure, name, settings) for name in left]
            for future in as_completed(futures):
                row = future.result()
                del left[row["case"]]
                yield row
    except BrokenProcessPool:
        # which of the cases in flight it was is not known: the rest goes on one by one
        for case in left.values():
            try:
                with _pool(1) as pool:
                    yield pool.submit(_measure, case.name, settings).result()
            except BrokenProcessPool:
                yield describe(case) | {"error": "the process died, perhaps for want of memory"}


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _measure(name: str, settings: Settings) -> Row:
    # cases hold functions, which do not travel between processes
    if not _CASES:
        _CASES.update({case.name: case for case in all_cases()})
    return measure(_CASES[name], settings)
