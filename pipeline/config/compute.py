"""What the config says of where and with how much: workers of this machine, jobs of a batch system, a scheduler."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.config.fields import AutoCount, BlockSizes, ByteCount, NamedFolder, Section, known_kind, shown


def _one_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError(f"must be text of one line that is not empty, found {value!r}")
    return value


def _amount(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?\s*([kmgtp]i?)?b?", value.strip(), re.IGNORECASE):
        raise ValueError(f"must be an amount of memory with its unit, such as '5 GiB', found {value!r}")
    return value


def _device(value: object) -> object:
    if value not in ("auto", "cpu", "cuda"):
        raise ValueError(
            f"must be 'auto', 'cpu' or 'cuda' (a GPU; CUDA_VISIBLE_DEVICES says which of several), found {shown(value)}"
        )
    return value


_Line = Annotated[str, AfterValidator(_one_line)]
"""A value that becomes a line of a script, or a part of one."""
_Amount = Annotated[str, AfterValidator(_amount)]


class JobsConfig(Section):
    """How jobs are asked for; what is not said comes from the site's `~/.config/dask/jobqueue.yaml`."""

    queue: _Line | None = Field(default=None, description="Partition or queue.")
    account: _Line | None = Field(default=None, description="Whom the time is charged to.")
    cores: int | None = Field(default=None, ge=1, description="Cores of a job; default: 1, all that a worker uses.")
    memory: _Amount | None = Field(
        default=None, description="Memory of a job; default: a quarter over memory_per_worker."
    )
    walltime: _Line | None = Field(default=None, description="Longest time of a job, as the batch system writes it.")
    job_name: _Line | None = Field(default=None, description="Name of the jobs.")
    job_cpu: int | None = Field(default=None, ge=1, description="Cores to ask for, if not `cores`.")
    job_mem: _Line | None = Field(default=None, description="Memory to ask for, if not `memory`.")
    job_extra_directives: list[_Line] | None = Field(
        default=None, description="More lines of the job's header, e.g. '--gres=gpu:1'."
    )
    job_directives_skip: list[_Line] | None = Field(default=None, description="Header lines to leave out, by a part.")
    # may hold passwords: is written into no record
    job_script_prologue: list[str] | None = Field(
        default=None, exclude=True, description="Commands before the worker starts, e.g. `module load`."
    )
    interface: _Line | None = Field(default=None, description="Network interface, e.g. ib0.")
    local_directory: _Line | None = Field(default=None, description="Fast local folder of a node.")
    shared_temp_directory: _Line | None = Field(
        default=None, description="Folder that all nodes see, for the credentials; default: in the output."
    )
    log_directory: _Line | None = Field(default=None, description="Folder of the jobs' logs; default: in the output.")
    python: _Line | None = Field(default=None, description="Python of the nodes, if it is not the one of this program.")
    death_timeout: int | None = Field(default=None, ge=1, description="Seconds a worker looks for the scheduler.")
    worker_extra_args: list[_Line] | None = Field(default=None, description="More options of `dask worker`.")
    scheduler_options: dict[str, Any] | None = Field(default=None, description="More options of the scheduler.")
    start_timeout: float = Field(
        default=3600, gt=0, description="Seconds without any running job after which the run gives up."
    )
    tls: bool = Field(default=True, description="Encrypt and authenticate; false lets others on the network in.")


class OtherJobsConfig(JobsConfig):
    """The same for batch systems other than Slurm."""

    kind: Literal["htcondor", "lsf", "moab", "oar", "pbs", "sge"] = Field(description="Batch system.")
    project: _Line | None = Field(default=None, description="Whom the time is charged to, on some of them.")
    resource_spec: _Line | None = Field(default=None, description="Resources, as PBS, SGE and OAR write them.")


class ComputeConfig(Section):
    """Where and with how much; it changes no result, but a GPU may round last digits otherwise."""

    executor: Annotated[str, BeforeValidator(known_kind("execute", extra=("auto",)))] = Field(
        default="auto",
        description="Where blocks run: serial (in this process), local (parallel workers of this machine), slurm or "
        "jobqueue (jobs), cluster (a dask scheduler that runs already); auto: serial or local, whichever is faster.",
    )
    workers: AutoCount = Field(
        default="auto",
        description="Worker processes, each on one core (CPU) with one thread; auto: as many as cores and memory "
        "allow.",
    )
    memory_per_worker: ByteCount = Field(
        default=4 * 2**30,
        description="Memory (RAM) of one worker, in bytes or as '4 GiB', the default; on this machine at most 80 % of "
        "what it, its container or job allows.",
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], BeforeValidator(_device)] = Field(
        default="auto", description="Where the network runs; cuda: on a GPU; auto: on one if there is one."
    )
    batch_size: AutoCount = Field(
        default="auto",
        description="Patches of a block prepared together before the network runs: more take more memory, none "
        "changes the result. The network itself always takes the same number of channels a pass.",
    )
    block: BlockSizes = Field(default="auto", description="Unit of work in pixels: one number, or one an axis.")
    scratch: NamedFolder | None = Field(
        default=None, description="Folder for working (temporary) files, e.g. on a fast disk; default: in the output."
    )
    scheduler: str | None = Field(
        default=None, description="Of `executor: cluster`: address of a dask scheduler (tls://, tcp://), or its file."
    )
    slurm: JobsConfig = Field(
        default=JobsConfig(), description="Jobs of `executor: slurm`: queue (partition), account, walltime and more."
    )
    jobqueue: OtherJobsConfig | None = Field(default=None, description="Jobs of `executor: jobqueue`.")
