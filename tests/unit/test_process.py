"""What processes of the program's own set, and what is left alone in those of others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import outlived


def _has_large_pages() -> bool:
    known = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return known.is_file() and "[never]" not in known.read_text()


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


_PAGES = """
import resource
from pipeline.system.process import settle
settle()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(64 * 2**18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(**set_by_user: str) -> int:
    """Return how many pages the kernel hands out for an array of PyTorch of 64 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", _PAGES], check=True, capture_output=True, text=True, env=os.environ | set_by_user
    )
    return int(done.stdout)


@pytest.mark.skipif(not _has_large_pages(), reason="this kernel has no large pages for those who ask for them")
def test_arrays_of_a_network_get_large_pages_unless_the_user_says_otherwise():
    """A page at a time would be handed out 512 times as often."""
    small = _faults(THP_MEM_ALLOC_ENABLE="0")
    assert small > 64 * 2**20 / 4096 / 2
    assert _faults() < small / 10


def test_who_is_ended_at_once_leaves_no_half_started_process():
    """One that is not told what to do would say so with a traceback; other processes are not ours to end."""
    started = (
        "import multiprocessing.util, os, signal, subprocess, sys\n"
        "from pipeline.__main__ import _end\n"
        "from multiprocessing import spawn\n"
        "end, kept = os.pipe()\n"
        "command = spawn.get_command_line(pipe_handle=end)\n"
        "worker = multiprocessing.util.spawnv_passfds(spawn.get_executable(), command, [end])\n"
        "other = subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(worker, other.pid, flush=True)\n"
        "_end(signal.SIGTERM, None)\n"
    )
    ended = subprocess.run([sys.executable, "-c", started], capture_output=True, text=True, check=False)
    worker, other = map(int, ended.stdout.split())
    try:
        assert ended.returncode == 130
        assert ended.stderr == "inpaint-pipeline: interrupted; run again to continue\n"
        assert psutil.pid_exists(other)
        assert not outlived([p for p in psutil.process_iter() if p.pid == worker])
    finally:
        os.kill(other, signal.SIGKILL)
