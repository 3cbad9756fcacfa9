"""Jobs that end before their worker has come: dask hears of workers that are lost, not of those that never came.

A job that is cancelled while it starts, or whose node goes, would be waited for until the end. So the queue is asked
now and then, and what is gone from it is asked for again; but not for ever, as jobs may end because something is wrong
with them.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ClusterGone
from pipeline.system.paths import shortened

_LOOK_S = 3.0
_END_BYTES = 4000
_MOST = 5
"""Jobs that may end early for each one that is wanted, before it is taken for a fault of theirs."""

_OVER = frozenset(("BF", "CA", "CD", "DL", "F", "NF", "OOM", "PR", "TO"))
"""States of Slurm's jobs that end no other way."""


class Watch:
    """Counts the jobs that ended before their worker had come, and has others take their place."""

    def __init__(self, cluster: Any, workers: int) -> None:
        self._cluster, self._most = cluster, _MOST * workers
        self._over = threading.Event()
        self._ended = 0

    def check(self, logs: Path) -> None:
        """Give up on jobs of which too many have ended early.

        Args:
            logs: folder of their logs, for the message.

        Raises:
            ClusterGone: says how many.
        """
        if self._ended >= self._most:
            raise ClusterGone(
                f"{self._ended} jobs ended before a worker of theirs had come; {log_hint(logs)}; run again to continue"
            )

    def _look_until_over(self) -> None:
        suspected: set[str] = set()
        while self._ended < self._most and not self._over.wait(_LOOK_S):
            # the queue may not answer, and the cluster may close: there is another look
            with suppress(Exception):
                gone = self._gone()
                # one that has just been submitted may not be in the queue yet
                lost, suspected = gone & suspected, gone - suspected
                if lost:
                    self._ended += len(lost)
                    self._cluster.sync(self._cluster.scale_down, list(lost), callback_timeout=30)

    def _gone(self) -> set[str]:
        """Return the names of workers whose jobs are over and who are not there."""
        here = {worker["name"] for worker in self._cluster.scheduler_info["workers"].values()}
        awaited = {name: job.job_id for name, job in list(self._cluster.workers.items()) if name not in here}
        numbers = {name: number for name, number in awaited.items() if number}
        if not numbers:
            return set()
        living = _living()
        return {name for name, number in numbers.items() if number not in living}


def log_hint(logs: Path) -> str:
    """Say where the logs of jobs are, and what the newest one ends with: that is mostly why a job has ended."""
    with suppress(OSError):
        written = [path for path in logs.glob("*.err") if path.is_file() and path.stat().st_size]
        for newest in sorted(written, key=lambda path: path.stat().st_mtime)[-1:]:
            lines = newest.read_bytes()[-_END_BYTES:].decode(errors="replace").split("\n")
            if said := [line.strip() for line in lines if line.strip()]:
                return f"logs of jobs are in {logs}, {newest.name} ends with: {shortened(said[-1])}"
    return f"logs of jobs are in {logs}"


def _living() -> set[str]:
    """Return the numbers of this user's jobs that wait, run or end at the moment.

    Raises:
        OSError, subprocess.SubprocessError: Slurm does not answer.
    """
    command = ["squeue", "--noheader", "--states=all", "--user", str(os.getuid()), "--format", "%i %t"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    rows = [line.split() for line in said.splitlines()]
    return {number for number, state in rows if state not in _OVER}


@contextmanager
def watched(kind: str, cluster: Any, workers: int) -> Iterator[Watch]:
    """While in context, watch the jobs of a cluster whose number of jobs is kept; only Slurm's queue can be asked."""
    watch = Watch(cluster, workers)
    thread = threading.Thread(target=watch._look_until_over, daemon=True)
    if kind == "slurm":
        thread.start()
    try:
        yield watch
    finally:
        watch._over.set()
        if thread.is_alive():
            thread.join(timeout=30)
