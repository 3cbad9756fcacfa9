"""Every executor keeps the contract of `pipeline.execute.base`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest

from pipeline.testing import ExecutorContract
from tests.cluster.scheduler import running

ON_SLURM = {"interface": "lo", "start_timeout": 90}


class TestHere(ExecutorContract):
    """Executors that need nothing but this machine."""

    @pytest.fixture(autouse=True, params=["serial", "local"])
    def _case(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param


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
