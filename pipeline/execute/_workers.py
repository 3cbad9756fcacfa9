"""Those who compute for one image: windows of its survey, then blocks; and what becomes of the blocks is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from pipeline.blocks.block import BlockResult
from pipeline.blocks.events import Events
from pipeline.errors import BlockFailed, Interrupted
from pipeline.execute._choose import choose_executor, is_elsewhere, own_gpus
from pipeline.execute.base import Crew, Failures, Work
from pipeline.models.base import reduced_notice, require_precision
from pipeline.orders import Order
from pipeline.plan.disk import check_disk
from pipeline.plan.plan import Plan
from pipeline.registry import load
from pipeline.system.threads import Each

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Workers:
    """Workers of an image. They come when there is something to compute, and are gone at the end of the context.

    Those of other machines come for the windows of the self-test and stay for the blocks; before the outline of a plan
    is known nobody is asked for. Processes of this machine come for blocks: while its threads do the windows they
    start.

    Args:
        order: the image.
        events: hears of notices and blocks.
        should_stop: turns true when nothing new may start.
    """

    def __init__(self, order: Order, events: Events, should_stop: Callable[[], bool]) -> None:
        self._order, self._events, self._should_stop = order, events, should_stop
        self._stack = ExitStack()
        self._crew: Crew | None = None
        self._asked: Work | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._crew = None
        self._stack.__exit__(kind, error, at)

    def of_windows(self, outline: Plan) -> Each | None:
        """Return who computes the windows of the survey, None = threads of this process.

        `outline` is the plan as far as it is known: its blocks say how many workers are worth while.
        """
        executor, work = work_of(self._order, outline, range(len(outline.blocks)), self._events)
        work = replace(work, digest="", blocks=())
        if is_elsewhere(executor):
            self._asked = work
            return self._windows
        if hasattr(load("execute", executor), "opened"):
            self._opened(executor, work)
        return None

    def account(self) -> dict[str, Any]:
        """Return who computed the windows: `executor` and `workers`, or `threads` of this process."""
        if self._crew is None or not is_elsewhere(self._order.executor):
            return {"executor": "here", "threads": self._order.job.threads}
        return {"executor": self._order.executor, "workers": self._crew.workers}

    def execute(self, plan: Plan, blocks: Collection[int]) -> None:
        """Run some blocks, the longest first.

        Raises:
            Interrupted: a stop was requested; what is committed stays.
            BlockFailed: some blocks failed on every attempt; the rest is committed.
            PlanRefused: the processor, or that of a worker, does not compute in the precision of the plan.
        """
        if not blocks:
            return
        executor, work = work_of(self._order, plan, blocks, self._events)
        told = _Told(self._order.stem, self._events)
        module = load("execute", executor)
        if not is_elsewhere(executor):
            require_precision(plan.recipe.network_precision, plan.source.paths[0])
        run = self._opened(executor, work).execute if hasattr(module, "opened") else module.execute
        failures: Failures = run(work, told.done, self._should_stop)
        if failures:
            check_disk(plan.workdir, failures.values())
            first = "; ".join(text.splitlines()[0] for text in list(failures.values())[:3])
            raise BlockFailed(
                f"{self._order.stem}: {len(failures)} of {len(plan.blocks)} blocks failed ({first}). The others are "
                "kept: remove the cause and run again"
            )
        if len(told.finished) < len(blocks):
            done = len(plan.blocks) - len(blocks) + len(told.finished)
            raise Interrupted(f"{self._order.stem}: stopped with {done} of {len(plan.blocks)} blocks done")

    def _windows(self, function: Callable[[_In], _Out], items: Sequence[_In], /) -> list[_Out]:
        assert self._asked is not None, "who calls this has it from `of_windows`"
        return self._opened(self._order.executor, self._asked).each(function, items)

    def _opened(self, executor: str, work: Work) -> Crew:
        """Return the workers; those that are there serve all work of the image."""
        if self._crew is None:
            self._crew = self._stack.enter_context(load("execute", executor).opened(work, self._should_stop))
        return self._crew


class _Told:
    """Tells of blocks that are done, and of a GPU that was full."""

    def __init__(self, stem: str, events: Events) -> None:
        self._stem, self._events = stem, events
        self._lowest: int | None = None
        self.finished: set[int] = set()

    def done(self, result: BlockResult) -> None:
        self.finished.add(result.block)
        reduced = result.channels_a_pass
        if reduced is not None and (self._lowest is None or reduced < self._lowest):
            self._lowest = reduced
            self._events.notice(self._stem, reduced_notice(reduced))
        self._events.block_done(self._stem, result)


def work_of(order: Order, plan: Plan, blocks: Collection[int], events: Events) -> tuple[str, Work]:
    """Return which executor gets the blocks, and what it is told."""
    executor, workers = choose_executor(order, plan, len(blocks))
    return executor, Work(
        workdir=plan.workdir,
        digest=plan.digest,
        blocks=tuple(sorted(blocks, key=lambda b: (-plan.blocks[b].patches, b))),
        workers=workers,
        memory_bytes=order.job.memory_bytes,
        device=plan.model.device if plan.model else "cpu",
        in_bfloat16=plan.in_bfloat16,
        gpus=own_gpus(order),
        cluster=order.cluster,
        notice=lambda text: events.notice(order.stem, text),
    )
