"""Shared fixtures: where the real data are, quiet hypothesis profiles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("pipeline.testing")

settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with `satellite/` and `medical/` real images; required when INPAINT_REQUIRE_DATA is set."""
    value = os.environ.get("INPAINT_DATA", "")
    if value and Path(value).is_dir():
        return Path(value)
    if os.environ.get("INPAINT_REQUIRE_DATA"):
        pytest.fail(f"INPAINT_REQUIRE_DATA is set, but INPAINT_DATA={value!r} is no folder")
    pytest.skip("real images absent: set INPAINT_DATA to a folder with satellite/ and medical/")
