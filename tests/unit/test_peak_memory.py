"""What a process says of its own memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux counts each process apart")


@needs_linux
def test_the_peak_is_that_of_this_process_alone():
    """A small process that a large one starts is small: getrusage alone would give it the peak of the large one."""
    script = "from pipeline.system.facts import peak_rss_bytes; print(peak_rss_bytes())"
    code = (
        f"import subprocess, sys; large = b'x' * 2**29; "
        f"print(subprocess.run([sys.executable, '-c', {script!r}], capture_output=True, text=True).stdout)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**23 < int(found.stdout) < 2**28
