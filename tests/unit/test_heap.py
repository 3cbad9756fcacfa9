"""Freed memory stays with the process: page faults of a process that makes and frees arrays."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_ARRAYS = """
import resource, sys
import numpy as np
from pipeline.system.process import keep_freed

if sys.argv[1] == "kept":
    keep_freed()
# the end of the heap is free again and again
for _ in range(200):
    held = [np.ones(100_000) for _ in range(8)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _faults(how: str, trim: str) -> int:
    command = [sys.executable, "-c", _ARRAYS, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"MALLOC_TRIM_THRESHOLD_": trim})
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_freed_arrays_are_used_again_without_the_kernel() -> None:
    """A process as dask starts its workers takes five times the page faults of one that keeps what is freed."""
    as_workers_are = _faults("returned", "65536")
    assert as_workers_are > 200 * 8 * 100_000 * 8 / 4096 / 2
    assert _faults("kept", "65536") < as_workers_are / 5
