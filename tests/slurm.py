"""A Slurm of two nodes on this machine for the tests, with two fake GPUs each: real daemons, thrown away afterwards.

No systemd, cgroups or accounting are needed, and root is not either. It listens on loopback only; jobs of it are
processes of this machine.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
NODES, CPUS, MEMORY_MB = 2, 4, 8000
_START_S, _ANSWER_S = 240, 120
_CONF = """
ClusterName=thrownaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
SlurmdTimeout=15
KillWait=5
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=node[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory={memory} \
Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    # daemons lie where only root looks
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    return [name for name in NEEDED if shutil.which(name) is None]


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """Give the `SLURM_CONF` of a Slurm that runs in `folder` until the block ends."""
    for name in ("munge", "state", "log", *(f"spool-node{k + 1}" for k in range(NODES))):
        (folder / name).mkdir()
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    # fake GPUs: Slurm wants a device file each, and nobody computes on them
    (folder / "gres.conf").write_text("Name=gpu File=/dev/zero\nName=gpu File=/dev/full\n")
    port = _free_ports(NODES + 1)
    conf = folder / "slurm.conf"
    facts = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "folder": folder, "port": port}
    sizes = {"first": port + 1, "last": port + NODES, "nodes": NODES, "cpus": CPUS, "memory": MEMORY_MB}
    conf.write_text(_CONF.format(**facts, **sizes))
    munge = folder / "munge"
    try:
        _start(
            "munged", "--origin=127.0.0.1", f"--key-file={key}", f"--socket={munge}/socket", "--force",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/log/munged.log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        _start("slurmctld", "-f", str(conf))
        for k in range(NODES):
            start_node(conf, k + 1)
        wait_until_ready(conf)
        yield conf
    finally:
        with suppress(OSError, subprocess.TimeoutExpired):
            ask(conf, "scancel", "--user", str(os.getuid()))
            time.sleep(1)
        for path in sorted(folder.glob("*.pid"), reverse=True):
            with suppress(OSError, ValueError):
                os.kill(int(path.read_text()), signal.SIGTERM)


def lose_node(conf: Path, number: int) -> None:
    """End a node and all that runs on it, as a power cut does."""
    pid = int((conf.parent / f"slurmd-node{number}.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    mark = f"SLURMD_NODENAME=node{number}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def bring_back(conf: Path, number: int) -> None:
    """Start the daemon of a lost node again and wait until it takes jobs."""
    start_node(conf, number)
    wait_until_ready(conf)


def lose_controller(conf: Path) -> None:
    """End `slurmctld` in the middle of whatever it does; nodes and jobs go on without it."""
    os.kill(int((conf.parent / "slurmctld.pid").read_text()), signal.SIGKILL)


def start_controller(conf: Path) -> None:
    """Start `slurmctld` again; it knows what it had written down."""
    _start("slurmctld", "-f", str(conf))


def start_node(conf: Path, number: int) -> None:
    """Start the daemon of a node."""
    _start("slurmd", "-f", str(conf), "-N", f"node{number}")


def ask(conf: Path, *command: str) -> str:
    """Return what a command of Slurm says on stdout."""
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=_ANSWER_S
    ).stdout


def _start(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until_ready(conf: Path) -> None:
    """Wait until no job runs and all nodes take jobs.

    Raises:
        TimeoutError: they do not; with the end of the logs.
    """
    until = time.monotonic() + _START_S
    while ask(conf, "sinfo", "-h", "-N", "-o", "%T").split().count("idle") < NODES:
        if time.monotonic() > until:
            logs = "\n".join(path.read_text()[-1500:] for path in (conf.parent / "log").glob("*.log"))
            raise TimeoutError(f"no Slurm within {_START_S} s:\n{logs}")
        time.sleep(0.2)


def _free_ports(count: int) -> int:
    """Return the first of `count` free neighbouring ports."""
    # two processes that start one at the same time look in different places
    for first in range(20_000 + 10 * (os.getpid() % 900), 30_000, 10):
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
    raise OSError("no free ports")
