"""Which drivers GDAL has on this machine: it may be built without some, and `GDAL_SKIP` takes them away."""

from __future__ import annotations

import os
from functools import cache

import rasterio

from pipeline.errors import PlanRefused

_SKIP = "GDAL_SKIP"


def require_drivers(*names: str) -> None:
    """Check that GDAL has drivers, by their short names (`GTiff`, `COG`).

    Raises:
        PlanRefused: one is missing; names it and what took it away.
    """
    missing = [name for name in names if name not in _registered()]
    if not missing:
        return
    skipped = os.environ.get(_SKIP, "")
    what = f"GDAL has no driver {', '.join(missing)} on this machine"
    if skipped:
        raise PlanRefused(f"{what}, with {_SKIP}={skipped} in the environment: unset {_SKIP} and run again")
    raise PlanRefused(
        f"{what}: install rasterio as PyPI has it (`pip install --force-reinstall rasterio`) and run again"
    )


@cache
def _registered() -> frozenset[str]:
    with rasterio.Env() as env:
        return frozenset(env.drivers())
