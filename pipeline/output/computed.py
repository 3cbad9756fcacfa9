"""Whether all blocks are there before files are made of them, also where a network file system shows them late."""

from __future__ import annotations

from pipeline.blocks import journal
from pipeline.blocks.events import Events
from pipeline.blocks.journal import Committed
from pipeline.blocks.store import damaged
from pipeline.errors import IntegrityError, Unfinished
from pipeline.orders import Order
from pipeline.output.folder import request_of
from pipeline.output.results import read_record
from pipeline.plan.plan import Plan, load_plan
from pipeline.system import late


def check_computed(order: Order, events: Events) -> None:
    """Refuse to make files of an image of which blocks are missing; other machines' may be seen late.

    Raises:
        Unfinished: says how many, and what to do.
    """
    if read_record(order.folder) is not None and not order.work.plan.exists():
        return
    if request_of(order.work)[0] not in ("", order.request):
        # no share of this config, or of what its input holds now, would ever complete it: who claims the folder says so
        return
    missing, blocks = 0, 0

    def complete() -> bool:
        nonlocal missing, blocks
        try:
            plan = load_plan(order.work)
        except IntegrityError:
            return False
        blocks = len(plan.blocks)
        missing = blocks - len(journal.numbers(order.work.journal, plan.digest, blocks))
        return not missing

    if not (there := complete()) and order.work.path.exists():
        what = f"{missing} of {blocks} blocks are" if blocks else "the plan is"
        longest = f"{late.LONGEST_S:.0f} s"
        events.notice(order.stem, f"{what} not seen here; other machines' files may come late: waiting up to {longest}")
        there = late.seen_in_time(complete)
    if there:
        return
    if not blocks:
        raise Unfinished(
            f"{order.work.path}: there is no plan yet; `shard I/N` makes it and computes the blocks, `run` does all"
        )
    raise Unfinished(
        f"{order.stem}: {missing} of {blocks} blocks are not computed; run their `shard I/N` again (each computes only "
        "what is missing), or `run`, which computes them here"
    )


def finished_blocks(order: Order, plan: Plan, events: Events, *, elsewhere: bool) -> tuple[Committed, list[int]]:
    """Return the facts of all finished blocks, and the blocks that are not there as they were written.

    Args:
        order: the image.
        plan: its plan.
        events: hears if something is waited for.
        elsewhere: other machines have computed blocks, which may be seen late.
    """
    found = _finished(order, plan)
    if found[1] and (elsewhere or journal.of_other_hosts(order.work.journal)):
        events.notice(order.stem, f"{len(found[1])} blocks that other machines computed are not seen here yet")

        def complete() -> bool:
            nonlocal found
            found = _finished(order, plan)
            return not found[1]

        late.seen_in_time(complete)
    return found


def _finished(order: Order, plan: Plan) -> tuple[Committed, list[int]]:
    done = journal.committed(order.work.journal, plan.digest, len(plan.blocks))
    # a line of the journal may be damaged, too
    return done, sorted({*damaged(plan, done), *(set(range(len(plan.blocks))) - set(done))})
