"""Some blocks of an image are computed by its executor, and what becomes of them is told."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pipeline.blocks.block import BlockResult
from pipeline.blocks.events import Events
from pipeline.errors import BlockFailed, Interrupted
from pipeline.execute._choose import choose_executor, own_gpus
from pipeline.execute.base import Failures, Work
from pipeline.models.base import said_of_reduced
from pipeline.orders import Order
from pipeline.plan.memory import check_disk
from pipeline.plan.plan import Plan
from pipeline.registry import load


def execute(order: Order, plan: Plan, blocks: Collection[int], events: Events, should_stop: Callable[[], bool]) -> None:
    """Run some blocks, the longest first.

    Raises:
        Interrupted, BlockFailed: as `compute`.
    """
    if not blocks:
        return
    executor, work = work_of(order, plan, blocks, events)
    finished: set[int] = set()
    lowest: int | None = None

    def on_done(result: BlockResult) -> None:
        nonlocal lowest
        finished.add(result.block)
        reduced = result.channels_a_pass
        if reduced is not None and (lowest is None or reduced < lowest):
            lowest = reduced
            events.notice(order.stem, said_of_reduced(reduced))
        events.block_done(order.stem, result)

    failures: Failures = load("execute", executor).execute(work, on_done, should_stop)
    if failures:
        check_disk(plan.workdir, failures.values())
        first = "; ".join(text.splitlines()[0] for text in list(failures.values())[:3])
        raise BlockFailed(
            f"{order.stem}: {len(failures)} of {len(plan.blocks)} blocks failed ({first}). The others are kept: "
            "remove the cause and run again"
        )
    if len(finished) < len(blocks):
        left = len(blocks) - len(finished)
        raise Interrupted(f"{order.stem}: stopped with {len(plan.blocks) - left} of {len(plan.blocks)} blocks done")


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
        gpus=own_gpus(order),
        cluster=order.cluster,
        notice=lambda text: events.notice(order.stem, text),
    )
