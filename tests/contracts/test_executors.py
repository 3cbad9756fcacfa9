"""Every executor keeps the contract of `pipeline.execute.base`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.blocks import journal
from pipeline.execute._choose import is_elsewhere
from pipeline.execute.base import Work
from pipeline.registry import kinds, load
from pipeline.testing import ExecutorContract, faulty
from pipeline.testing.executors import small_plan
from tests.cluster.scheduler import running

ON_SLURM = {"interface": "lo", "start_timeout": 400}


class TestHere(ExecutorContract):
    """Executors that need nothing but this machine."""

    @pytest.fixture(autouse=True, params=["serial", "local"])
    def _case(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param


def test_an_executor_says_itself_where_its_workers_are(monkeypatch):
    """One of another package that offers workers and says no more has them elsewhere; `auto` means those here."""
    assert [kind for kind in kinds("execute") if is_elsewhere(kind)] == ["cluster", "jobqueue", "slurm"]
    assert not is_elsewhere("auto")
    foreign = SimpleNamespace(opened=nullcontext)
    monkeypatch.setattr("pipeline.execute._choose.load", lambda *_: foreign)
    assert is_elsewhere("grid_engine")
    foreign.HERE = True
    assert not is_elsewhere("grid_engine")


@pytest.mark.slow
def test_a_block_that_ends_its_process_is_set_aside(tmp_path):
    """The one that crashes is named, also after it has taken others down with it; all others are done."""
    with faulty.installed(tmp_path / "site"):
        plan = small_plan(tmp_path / "work")
        faulty.plant(plan.source.paths[0], plan.block_box(7), -1)
        work = Work(workdir=plan.workdir, digest=plan.digest, blocks=tuple(range(25)), workers=2, memory_bytes=2**30)
        with load("execute", "local").opened(work, lambda: False) as crew:
            failures = crew.execute(work, lambda _: None, lambda: False)
    assert set(failures) == {7}
    assert "ends every worker" in failures[7]
    assert set(journal.committed(plan.work.journal, plan.digest)) == set(range(25)) - {7}


class TestCluster(ExecutorContract):
    """A scheduler that somebody else started."""

    kind = "cluster"

    def cluster(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Start one with two workers."""
        return _scheduler()


@pytest.mark.slow
class TestSlurm(ExecutorContract):
    """Jobs of a real Slurm."""

    kind = "slurm"

    @pytest.fixture(autouse=True)
    def _case(self, slurm: Any) -> None:
        """Wait for it, or skip."""

    def cluster(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Say which network interface it has."""
        return nullcontext(ON_SLURM)


@contextmanager
def _scheduler() -> Iterator[Mapping[str, Any]]:
    with running(workers=2) as address:
        yield {"scheduler": address}
