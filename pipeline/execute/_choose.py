"""Which executor and how many workers a plan gets when the config says `auto`."""

from __future__ import annotations

import math
import multiprocessing

from pipeline.errors import ConfigError, PlanRefused
from pipeline.orders import Order
from pipeline.plan.plan import Plan
from pipeline.registry import load
from pipeline.system.bounds import USABLE, cores, memory_bytes
from pipeline.system.gpu import gpus

_CLUSTER_START_SECONDS = 15.0

_JOB_SECONDS = 600.0
"""Work that a job should have, seconds: it waits in a queue and starts for it."""

_MOST_JOBS = 32
"""Jobs that are asked for if the config says `auto`; who wants more can say so."""

_MOST_PER_CORE = 8
"""Workers above which starting them alone takes a core half a minute; more than one rarely pays."""

_MOST_PER_GPU = 8
"""Workers that share a GPU if the config says `auto`: each keeps 0.6 GiB of it, and the network takes a hundredth of
the time that the rest of a block takes on a core."""

_PATCH_SECONDS = {2: 0.6, 3: 2.0}
"""Rough cost of one patch and channel on one core; only decides whether a cluster is worth its start."""


def choose_executor(order: Order, plan: Plan, n_todo: int) -> tuple[str, int]:
    """Return executor and number of workers; `auto` starts a cluster only where it pays for its start.

    Where the network runs on GPUs several workers of this machine share one: it works while others prepare.

    Raises:
        PlanRefused: more workers are asked for than this machine can start in a reasonable time.
        ConfigError: workers are asked for in a process that may start none.
    """
    if is_elsewhere(order.executor):
        pays = max(1, math.ceil(estimated_seconds(plan) * n_todo / max(1, len(plan.blocks)) / _JOB_SECONDS))
        return order.executor, min(order.workers if isinstance(order.workers, int) else min(pays, _MOST_JOBS), n_todo)
    n_cores = cores()
    fitting = max(1, int(USABLE * memory_bytes()) // order.job.memory_bytes)
    sharing = _MOST_PER_GPU * len(own_gpus(order)) or n_cores
    workers = min(order.workers if isinstance(order.workers, int) else min(n_cores, fitting, sharing), n_todo)
    if workers > _MOST_PER_CORE * n_cores:
        raise PlanRefused(
            f"compute.workers: {order.workers} are more than this machine can start; ask for at most as many as it has "
            f"cores ({n_cores}), or say auto"
        )
    # workers of multiprocessing.Pool and of dask
    childless = multiprocessing.current_process().daemon
    if childless and order.executor == "local":
        raise ConfigError(
            "compute.executor: local: this process is a worker of a pool, which may start no processes; set it to "
            "serial, or call it from a process of concurrent.futures"
        )
    if order.executor != "auto":
        return order.executor, workers
    if childless:
        return "serial", workers
    seconds = estimated_seconds(plan) * n_todo / max(1, len(plan.blocks))
    saved = seconds * (1 - 1 / max(1, workers))
    return ("local" if saved > _CLUSTER_START_SECONDS else "serial"), workers


def own_gpus(order: Order) -> tuple[str, ...]:
    """Return the GPUs of this machine that workers get, see `Work.gpus`; none if other machines or no GPUs compute."""
    if not order.job.model.device.startswith("cuda") or is_elsewhere(order.executor):
        return ()
    return gpus()


def is_elsewhere(executor: str) -> bool:
    """Say whether the workers of an executor, as asked for, are no processes of this machine, see `execute.base`."""
    if executor == "auto":
        return False
    module = load("execute", executor)
    return hasattr(module, "opened") and not getattr(module, "HERE", False)


def estimated_seconds(plan: Plan) -> float:
    """Return the rough time of all blocks on one core; good enough to decide, not to promise."""
    return plan.forwards * len(plan.channels) * _PATCH_SECONDS[plan.ndim]
