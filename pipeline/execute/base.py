"""What an executor promises: it decides where `process_block` runs, and nothing else.

An executor module (its file name is the `executor:` of the config) offers one of two functions::

    def execute(work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures
    def opened(work: Work, should_stop: Callable[[], bool]) -> AbstractContextManager[Crew]

The second is for workers that take long to come: they are there from the self-test, whose windows they compute, to the
last block. `work` has no digest and no blocks as long as there is no plan. If the module says `HERE = True`, they are
processes of this machine: its threads compute the windows while they start.

An executor may repeat a block (the bytes are the same) but never invents a result; what counts as done stands in the
journal. When `should_stop()` turns true it starts nothing new, finishes what is in flight and returns.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from pipeline.blocks.block import BlockResult, process_block
from pipeline.system.bounds import is_used_up, used_up_message

Failures: TypeAlias = dict[int, str]
"""Block number -> what went wrong, for blocks that failed on every attempt."""

ATTEMPTS = 3
"""Times a block is tried before it is set aside; the run goes on without it and exits with 5."""


def silence(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Blocks of one plan that are not committed yet, longest first.

    Attributes:
        workdir: folder of the plan.
        digest: hash of the plan, checked by every worker.
        blocks: block numbers.
        workers: processes.
        memory_bytes: bound of one worker.
        device: where the network runs, `cpu` or `cuda`.
        in_bfloat16: the network computes in bfloat16, or may once the self-test has decided.
        gpus: of this machine, by the names that make each the only one that a process sees; () = none is used.
        cluster: what the config says of jobs or of a scheduler, as the executor takes it.
        notice: says something to the user, e.g. what the queue does.
    """

    workdir: str
    digest: str
    blocks: tuple[int, ...]
    workers: int = 1
    memory_bytes: int = 4 * 2**30
    device: str = "cpu"
    in_bfloat16: bool = False
    gpus: tuple[str, ...] = ()
    cluster: Mapping[str, Any] = field(default_factory=dict)
    notice: Callable[[str], None] = silence


_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Crew(Protocol):
    """Workers that are there for a whole image.

    Attributes:
        workers: most that were seen while windows were computed.
    """

    workers: int

    def each(self, function: Callable[[_In], _Out], items: Sequence[_In], /) -> list[_Out]:
        """Return `[function(item) for item in items]`, bit for bit; see `system.threads.each`.

        An item whose worker is lost is computed again by another one. What is counted while they work
        (`system.meter`) counts here.

        Raises:
            Interrupted: a stop was requested; what nobody has begun is not begun any more.
            ClusterGone: no worker is left, or none outlives an item.
        """
        ...

    def execute(self, work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
        """Run blocks; returns those that failed on every attempt. `on_done` hears of each one that is committed."""
        ...


def attempt(work: Work, block: int) -> BlockResult | str:
    """Process a block here, up to `ATTEMPTS` times; returns its result or the last error as text."""
    message = ""
    for _ in range(ATTEMPTS):
        try:
            return process_block(work.workdir, work.digest, block)
        except Exception as error:
            if is_used_up(error):
                return f"block {block}: {used_up_message(error)}"
            message = f"block {block}: {type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"
    return message
