"""A dask cluster on this machine that nobody else can use: its processes, how they start, and who may talk to them.

Any user of a machine can connect to a port of its loopback interface, and whoever may give tasks to a scheduler runs
code as its owner. So every connection is TLS with a key made for this run, which lies in the memory of its processes
and nowhere else; no status pages are served; what workers put aside lies in a folder that only the owner can enter.
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing import resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

import dask
from distributed import Client, LocalCluster, Nanny, Security

from pipeline.errors import ClusterGone, PlanRefused
from pipeline.system.files import remove_made
from pipeline.system.gpu import VISIBLE
from pipeline.system.signals import HEARD

_HOST = "127.0.0.1"
_START_SECONDS = 120
"""A worker that is not there by then never comes; to give up may take nearly as long again."""

_FOLDER = "inpaint-workers-"
_MARK = ".made-by-inpaint-pipeline"
"""Empty file in each of them: a folder of the user's that happens to have such a name is never removed."""
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""When the certificate of a run is valid."""
ROLES = ("client", "scheduler", "worker")
"""Of processes that talk to one another with the certificate."""
_NEW_SECONDS = 60
"""Longer than it takes from making a folder to locking it."""

UNWATCHED: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
"""What dask is told, so that it serves no status pages and watches itself less: it looks at what each thread does every
10 ms, wakes every loop every 20 ms, and reads the memory of every process every 100 ms. Together with the scheduler two
workers took a tenth of a core for that, beside the blocks."""
_LOGGERS = ("distributed", "tornado.application", "asyncio")


@contextmanager
def cluster(workers: int, memory_bytes: int, gpus: tuple[str, ...] = ()) -> Iterator[Client]:
    """Give a client of a cluster of `workers` processes with one thread and a bound of `memory_bytes` each.

    If there are `gpus`, each worker sees one of them, and as many see one as another.

    Raises:
        ClusterGone: a worker could not be started.
        PlanRefused: this machine does not let the program have worker processes.
    """
    _check_locks()
    known = credentials()
    with quiet(), without_main(), dask.config.set(UNWATCHED), private_folder() as folder:
        try:
            started = _in_thread_without_signals(workers, memory_bytes, folder, known, gpus)
            client = Client(started)
        except Exception as error:
            raise ClusterGone(
                f"{workers} worker processes could not be started ({_why_not(error)}); free memory and disk, set fewer "
                "compute.workers, or compute.executor: serial, and run again to continue"
            ) from error
        try:
            yield client
        finally:
            # what is done stands in the journal: processes that do not end in time are killed, and nobody need know
            with suppress(Exception):
                client.close()
            with suppress(Exception):
                started.close()


class _WithGpu(Nanny):  # type: ignore[misc]
    """A nanny whose worker, and whoever takes its place, sees one GPU: they are dealt out in turn."""

    def __init__(self, *arguments: Any, name: int, gpus: tuple[str, ...], **options: Any) -> None:
        super().__init__(*arguments, name=name, env={VISIBLE: gpus[name % len(gpus)]}, **options)


def _in_thread_without_signals(
    workers: int, memory_bytes: int, folder: str, known: Security, gpus: tuple[str, ...]
) -> LocalCluster:
    """Start a cluster whose processes never hear of requests to stop, which reach the whole process group.

    Processes and threads inherit what is blocked in the thread that starts them, so they are deaf from their first
    instruction on, and blocks in flight are finished.
    """
    options: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": memory_bytes,
        "host": _HOST,
        "security": known,
        "dashboard_address": None,
        # a free port: another run on this machine may have the usual one
        "scheduler_kwargs": {"dashboard_address": f"{_HOST}:0"},
        "local_directory": folder,
        "death_timeout": _START_SECONDS,
        # workers that miss a heartbeat while the cluster closes print tracebacks; real failures come as futures
        "silence_logs": logging.CRITICAL,
    }
    if gpus:
        options |= {"worker_class": _WithGpu, "gpus": gpus}
    blocked = (signal.SIG_BLOCK, HEARD)
    with ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=blocked) as thread:
        return thread.submit(LocalCluster, **options).result()


def credentials() -> Security:
    """Make a key and a certificate that only the processes of this run will know.

    Whatever clocks say the certificate is valid: that of dask begins with the second in which it is made, and a node
    whose clock is behind, or a clock that was set back, refuses it. It ends with the run, as the key does.

    Raises:
        PlanRefused: the library that makes them cannot be imported.
    """
    try:
        key, certificate = _key_and_certificate()
    except ImportError as error:
        raise PlanRefused(
            f"worker processes need the package cryptography to keep others out ({reason(error)}); install it, or set "
            "compute.executor: serial"
        ) from error
    roles = {f"tls_{role}_{part}": text for role in ROLES for part, text in (("key", key), ("cert", certificate))}
    return Security(tls_ca_file=certificate, require_encryption=True, **roles)


def _key_and_certificate() -> tuple[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "inpaint-pipeline")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(_EARLIEST)
        .not_valid_after(_LATEST)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), certificate.public_bytes(pem).decode()


def _check_locks() -> None:
    """Refuse to start where processes cannot share a lock.

    Raises:
        PlanRefused: shared memory is read-only, full or forbidden.
    """
    before = os.environ.get("PYTHONWARNINGS")
    # Python's own process that clears locks away after a crash need not tell our user about it, and of the signals to
    # the whole group it is deaf to all but SIGHUP
    os.environ["PYTHONWARNINGS"] = "ignore"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.environ.pop("PYTHONWARNINGS")
    if before is not None:
        os.environ["PYTHONWARNINGS"] = before
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        raise PlanRefused(
            f"/dev/shm: worker processes cannot share anything here ({error.strerror or error}); make it writable, or "
            "set compute.executor: serial"
        ) from error


@contextmanager
def private_folder() -> Iterator[str]:
    """Give a folder for what workers put aside, that only the owner can enter; it is gone afterwards.

    Who is ended at once leaves theirs behind: it is removed by the next one who needs a folder.

    Raises:
        ClusterGone: no folder can be made.
    """
    try:
        _remove_abandoned()
        folder = tempfile.TemporaryDirectory(prefix=_FOLDER, ignore_cleanup_errors=True)
    except OSError as error:
        raise ClusterGone(
            f"no folder for temporary files ({error.strerror or error}); free some space or set TMPDIR to another "
            "folder, and run again to continue"
        ) from error
    with folder as name, _opened(Path(name)) as descriptor:
        # where there are no locks, nobody else gets one either, so nothing is ever removed
        with suppress(OSError):
            (Path(name) / _MARK).touch()
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield name


def _remove_abandoned() -> None:
    """Remove folders of this user that no process holds any more: the lock on them ended with it."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        # in use, or removed by another run at the same time
        with suppress(OSError), _opened(path) as descriptor:
            facts = os.fstat(descriptor)
            ours = facts.st_uid == os.geteuid() and (path / _MARK).is_file()
            if ours and time.time() - facts.st_mtime > _NEW_SECONDS:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_made(path)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to themselves what libraries say of a cluster that fails: it is said once, as an error of ours."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def without_main() -> Iterator[None]:
    """Let processes start without the file of the program that calls.

    Python would run it again in each of them, to find what is defined in it: a script that calls `restore` would begin
    anew, with all that it does. Blocks need nothing of it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _why_not(error: BaseException) -> str:
    """Return why workers did not start, in one line; of a time that is over the first cause says nothing."""
    if any(isinstance(cause, TimeoutError) for cause in _causes(error)):
        return "not there in time: this machine may be busy"
    return reason(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def reason(error: BaseException) -> str:
    """Return the first cause of an error in one line."""
    *_, error = _causes(error)
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
