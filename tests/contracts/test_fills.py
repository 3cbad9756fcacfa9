"""Every fill keeps the contract of `pipeline.fills.base`."""

from __future__ import annotations

import pytest

from pipeline import registry
from pipeline.testing import FillContract

CASES = [
    (kind, ndim) for kind in registry.kinds("fills") for ndim in (2, 3) if ndim in registry.load("fills", kind).NDIM
]


class TestFills(FillContract):
    """Run for every fill that is installed, in every dimension that it offers."""

    @pytest.fixture(autouse=True, params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
    def _case(self, request: pytest.FixtureRequest) -> None:
        self.kind, self.ndim = request.param
