"""A short version of `python -m benchmarks.faults`: a few strikes of each kind do no harm."""

from __future__ import annotations

import pytest

from benchmarks.faults.attacks import damage, kills
from benchmarks.faults.mutants import mutants


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "n"), [(kills, 10), (damage, 12), (mutants, 80)], ids=lambda a: getattr(a, "__name__", a)
)
def test_a_few_strikes_do_no_harm(tmp_path, attack, n):
    """Same bytes, nothing half visible, nothing of the user's lost, no traceback, in bounded time and memory."""
    tally = attack(tmp_path / "attack", n, 11, lambda _: None)
    assert tally.struck == n
    assert tally.wrong == []
