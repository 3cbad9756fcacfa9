"""Every format keeps the contract of `pipeline.formats.base`."""

from __future__ import annotations

import pytest

from pipeline import registry
from pipeline.testing import FormatContract

CASES = [(kind, space) for kind in registry.kinds("formats") for space in registry.load("formats", kind).SPACE_KINDS]


class TestFormats(FormatContract):
    """Run for every format that is installed, on every kind of grid that it can hold."""

    @pytest.fixture(autouse=True, params=CASES, ids="-".join)
    def _case(self, request: pytest.FixtureRequest) -> None:
        self.kind, self.space = request.param
