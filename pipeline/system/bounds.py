"""What this process may use of its machine: memory and cores, which containers, jobs and `ulimit` may make less."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
USABLE = 0.8
"""Share of the memory that workers get: what is left is for the process that leads them, and for others."""
_NO_MEMORY = (
    "can't start new thread",  # Python
    "failed to map segment",  # the loader
    "Cannot allocate memory",  # Linux
    "can't allocate memory",  # torch
    "could not create a primitive",  # oneDNN
    "SUPERLU_MALLOC fails",  # SciPy
    "Allocation error : not enough memory",  # zstd
)
"""What errors say, beside `MemoryError`, when a process may not take more memory."""


def memory_bytes() -> int:
    """Return the memory that this process may use, bytes: all of the machine, unless something allows less.

    That is a control group (a container, a job of a batch system) or the limit of its addresses (`ulimit -v`).
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    addresses = [] if allowed == resource.RLIM_INFINITY else [allowed]
    groups = [*_numbers("memory", "memory.limit_in_bytes"), *_numbers("", "memory.max")]
    return min([machine, *addresses, *(int(words[0]) for words in groups)])


def may_be_refused() -> bool:
    """Say whether memory is refused to this process (`ulimit -v`), not taken from others, where there is no more."""
    limits = (resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(limit != resource.RLIM_INFINITY for limit in limits)


def cores() -> int:
    """Return the cores that this process may use: those it may run on, unless a control group gives it less time."""
    quotas = [quota / period for quota, period in _numbers("", "cpu.max")]
    times = (_numbers("cpu", f"cpu.cfs_{what}_us") for what in ("quota", "period"))
    quotas += [quota / period for (quota,), (period,) in zip(*times, strict=False) if quota > 0]
    return max(1, min([len(os.sched_getaffinity(0)), *(int(quota) for quota in quotas)]))


def _numbers(controller: str, name: str) -> Iterator[list[int]]:
    """Yield the numbers in a file of each control group that this process is in, innermost first; none for "max".

    Args:
        controller: of the first version of control groups; empty for the second, which has one tree for all.
        name: of the file.
    """
    with suppress(OSError, ValueError):
        for line in _OWN.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controller not in controllers.split(","):
                continue
            # a container may see its own group as the topmost one, under the name that it has outside
            for inner in (PurePosixPath(group), *PurePosixPath(group).parents):
                with suppress(OSError, ValueError):
                    text = (_GROUPS / controller / str(inner).lstrip("/") / name).read_text()
                    yield [int(word) for word in text.split()]


def is_used_up(error: BaseException) -> bool:
    """Return True for an error by which a process got no more of what it may use: memory, or open files."""
    return _is_of_files(error) or isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def used_up_message(error: BaseException) -> str:
    """Return what is said where a process got no more of what it may use, and what to do."""
    if _is_of_files(error):
        return f"{error}; allow the program more (`ulimit -n`, the limits of a job or container), and run again"
    said = str(error).splitlines()[0] if str(error) else "refused"
    return (
        f"out of memory ({said}); allow the program more (ulimit -v, the memory of the job or container), or lower "
        "compute.memory_per_worker, compute.workers or patch.size, and run again"
    )


def _is_of_files(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
