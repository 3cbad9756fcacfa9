"""A dask scheduler and its workers as other people start them: processes with an address."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def running(*, workers: int, threads: int = 1, options: Sequence[str] = ()) -> Iterator[str]:
    """Give the address of a scheduler on loopback with some workers, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    start = [sys.executable, "-m"]
    module = [*start, "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    how = ["--nthreads", str(threads), "--no-dashboard", *options]
    worker = [*start, "distributed.cli.dask_worker", address, *how]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen(command, **silent) for command in (module, *[worker] * workers)]
    try:
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                # one whose scheduler was killed may look for it for long
                process.kill()
                process.wait()
