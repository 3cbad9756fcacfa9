"""What processes of the program's own set, and what is left alone in those of others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CACHE = """
import sys
import rasterio
from rasterio.env import get_gdal_config
from pipeline.formats._gdal import gdal_env
from pipeline.system.process import settle

if sys.argv[1] == "ours":
    settle()
with rasterio.Env():
    before = get_gdal_config("GDAL_CACHEMAX")
    with gdal_env(writing=True):
        within = get_gdal_config("GDAL_CACHEMAX")
    print(before, within, get_gdal_config("GDAL_CACHEMAX"))
"""


def _cache(whose: str, **set_by_user: str) -> list[int]:
    """Return the bytes of GDAL's cache before, within and after an environment of ours."""
    known = {name: value for name, value in os.environ.items() if name != "GDAL_CACHEMAX"}
    command = [sys.executable, "-c", _CACHE, whose]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=known | set_by_user)
    return [int(number) for number in done.stdout.split()]


@pytest.mark.parametrize(
    ("whose", "set_by_user", "expected"),
    [
        ("ours", {}, 16 * 2**20),
        ("ours", {"GDAL_CACHEMAX": "8"}, 8 * 2**20),
        ("theirs", {"GDAL_CACHEMAX": "8"}, 8 * 2**20),
    ],
)
def test_the_cache_of_gdal_has_one_size(whose: str, set_by_user: dict[str, str], expected: int) -> None:
    """GDAL loses what one thread has not written yet when another sets the size, so no call does."""
    assert _cache(whose, **set_by_user) == [expected] * 3
