"""Blocks on a dask cluster that is running already: `compute.scheduler` says where.

Also known as: dask, distributed, scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from pipeline.errors import ClusterGone, ConfigError
from pipeline.execute._crew import crew_of
from pipeline.execute._processes import quiet, reason
from pipeline.execute.base import Crew, Work

_CONNECT_S = 20
_PATIENCE_S = 300.0
"""Seconds without any worker after which none is expected any more."""


@contextmanager
def opened(work: Work, should_stop: Callable[[], bool]) -> Iterator[Crew]:  # noqa: ARG001
    """Give the workers of a scheduler; see `execute.base`.

    Credentials of a `tls://` scheduler stand in dask's own configuration (`distributed.comm.tls`).

    Raises:
        ConfigError: no scheduler is named.
        ClusterGone: it cannot be reached, has no workers, or is gone; the journal is intact and a rerun continues.
        PlanRefused: its workers cannot do the work.
    """
    address = work.cluster.get("scheduler")
    if not address:
        raise ConfigError("executor cluster: set compute.scheduler to the scheduler's address or its scheduler file")
    is_file = "://" not in address
    if is_file and not Path(address).is_file():
        raise ConfigError(f"compute.scheduler: {address} is neither an address (tls://host:port) nor a file")
    if address.startswith("tcp://"):
        work.notice(f"{address} is not protected: whoever reaches it can run code as you; tls:// schedulers are")
    with quiet():
        try:
            client = Client(**({"scheduler_file": address} if is_file else {"address": address}), timeout=_CONNECT_S)
        except (OSError, ValueError, TimeoutError, RuntimeError, TypeError) as error:
            raise ClusterGone(
                f"{address}: no dask scheduler answers ({reason(error)}); start one (`dask scheduler`), or see "
                "whether its address, its TLS credentials and the network are right"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_CONNECT_S)
            except TimeoutError as error:
                raise ClusterGone(f"{address}: the scheduler has no workers; start some (`dask worker`)") from error
            idle = max(client.nthreads().values()) - 1
            if idle:
                work.notice(f"{idle} threads of each worker stay idle; start workers with --nthreads 1")
            with crew_of(client, work, patience_s=_PATIENCE_S) as crew:
                yield crew
