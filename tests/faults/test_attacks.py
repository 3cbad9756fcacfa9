"""A short version of `python -m benchmarks.faults`: a few strikes of each kind do no harm."""

from __future__ import annotations

import pytest

from benchmarks.faults.attacks import damage, kills
from benchmarks.faults.mutants import mutants
from benchmarks.faults.outages import outages
from tests.slurm import missing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "n"), [(kills, 10), (damage, 12), (mutants, 80)], ids=lambda a: getattr(a, "__name__", a)
)
def test_a_few_strikes_do_no_harm(tmp_path, attack, n):
    """Same bytes, nothing half visible, nothing of the user's lost, no traceback, in bounded time and memory."""
    tally = attack(tmp_path / "attack", n, 11, lambda _: None)
    assert tally.struck == n
    assert tally.wrong == []


@pytest.mark.slow
def test_the_first_losses_on_a_cluster_do_no_harm(tmp_path):
    """A local worker and one of a job are killed; each kind of loss has tests of its own beside this."""
    if missing():
        pytest.skip("no Slurm here: apt install slurmctld slurmd slurm-client munge")
    tally = outages(tmp_path / "outages", 2, 11, lambda _: None)
    assert (tally.struck, len(tally.kinds), tally.wrong) == (2, 2, [])
