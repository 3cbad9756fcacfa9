"""A dask scheduler and its workers as other people start them: processes with an address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distributed import Client

_START_S = 300.0


@contextmanager
def running(*, workers: int, threads: int = 1, options: Sequence[str] = ()) -> Iterator[str]:
    """Give the address of a scheduler on loopback with some workers, all there, until the block ends."""
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        where = ["--host", "tcp://127.0.0.1", "--port", "0", "--scheduler-file", str(file), "--no-dashboard"]
        how = ["--nthreads", str(threads), "--no-dashboard", *options]
        try:
            processes.append(_started("distributed.cli.dask_scheduler", *where))
            address = _address(file, processes[0])
            processes += [_started("distributed.cli.dask_worker", address, *how) for _ in range(workers)]
            if workers:
                with Client(address, timeout=_START_S) as client:
                    client.wait_for_workers(workers, timeout=_START_S)
            yield address
        finally:
            # a worker whose scheduler is gone may look for it for long
            _end(processes[1:])
            _end(processes[:1])


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        process.kill()
        process.wait()


def _started(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment, **silent)


def _address(file: Path, scheduler: subprocess.Popen[bytes]) -> str:
    """Wait until the scheduler has written where it listens; it has a port that was free when it took it."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and scheduler.poll() is None:
        # it is seen before it is complete
        with suppress(FileNotFoundError, ValueError):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.05)
    raise TimeoutError(f"no scheduler; it ended with {scheduler.poll()}")
