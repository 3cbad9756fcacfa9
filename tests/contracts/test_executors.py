"""Every executor keeps the contract of `pipeline.execute.base`."""

from __future__ import annotations

import pytest

from pipeline.registry import kinds
from pipeline.testing import ExecutorContract


class TestExecutors(ExecutorContract):
    """Run for every executor that is installed."""

    @pytest.fixture(autouse=True, params=kinds("execute"))
    def _case(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param
