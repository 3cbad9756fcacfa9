"""The constants of a forecast are made from what runs take."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.forecast import Run, fitted, table
from pipeline.survey.cost import SECONDS

STAGES = {
    "start": ("start", "network"),
    "look": ("look", "look value"),
    "doubt": ("doubt", "doubt pixel", "doubt value", "again value"),
    "test": ("test", "relation", "relation band", "relation value 2", "relation value 3"),
    "windows": ("test hidden 2", "test hidden 3", "networked 2", "networked 3", "consulted 2", "consulted 3"),
    "coarse": ("coarse", "coarse value", "coarse 2", "coarse 3"),
    "blocks": ("block", "estimate 2", "estimate 3", "guided 2", "guided 3", "besides 2", "besides 3", "hazy"),
    "files": ("files", "file value", "moved value"),
}


def _run(rng: np.random.Generator, speed: float) -> Run:
    """Return a run that takes what the constants say on a machine of that speed."""
    counts = {
        stage: {name: float(rng.uniform(0, 1 / SECONDS[name])) for name in names} for stage, names in STAGES.items()
    }
    took = {stage: speed * sum(SECONDS[k] * v for k, v in some.items()) for stage, some in counts.items()}
    took["windows"] += took.pop("test")
    total = sum(took.values())
    return Run(
        speed=speed, counts=counts, took=took, network=0.0, likely=total, low=total, high=total, total=total,
        peak=90.0, planned=100.0,
    )  # fmt: skip


def test_constants_come_back_from_runs_that_follow_them():
    """On machines of different speeds, and all that runs count has a constant."""
    rng = np.random.default_rng(0)
    runs = [_run(rng, speed) for speed in rng.uniform(0.5, 2, 40)]
    found = fitted(runs)
    assert set(found) == set(SECONDS)
    for name, seconds in found.items():
        assert seconds == pytest.approx(SECONDS[name], rel=1e-3), name


def test_the_table_says_how_far_off_a_forecast_is():
    """Time as foretold over taken, memory as taken over planned."""
    text = table({"a": _run(np.random.default_rng(1), 1.0)})
    assert "| 1.00 | 100 MiB | 90 MiB | 0.90 |" in text
