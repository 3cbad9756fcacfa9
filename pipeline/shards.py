"""A run in shares, for job arrays: `shard I/N` computes every N-th block, `assemble` makes the files of all of them.

No process coordinates the shares: they meet in the work folder. Whoever comes first makes the plan while the others
wait; then each computes its own blocks, and the journal says which are done. A share that was killed is run again, or
`run` computes what is left.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.blocks import journal
from pipeline.blocks.events import Events
from pipeline.blocks.store import create_store, usable
from pipeline.config.schema import load_config
from pipeline.errors import BlockFailed, ConfigError, IntegrityError, Interrupted, OutputConflict, PipelineError
from pipeline.execute._workers import Workers
from pipeline.orders import Order, order_of
from pipeline.output.delivery import delivered_before
from pipeline.output.folder import shared
from pipeline.plan.facts import all_there
from pipeline.plan.plan import Plan, load_plan
from pipeline.provenance.failure import forget_failure, note_failure
from pipeline.run import images_and_cubes, plan_of
from pipeline.survey.unfinished import unfinished_plan
from pipeline.system.facts import inputs_hashed_once
from pipeline.system.room import explain_full_disk
from pipeline.system.signals import Stop, stoppable

_POLL_SECONDS = 0.5
_HERE = ("serial", "local")


@dataclass(frozen=True, slots=True)
class Share:
    """One of `count` equal shares of the blocks; `number` counts from 1."""

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> Share:
        """Read `3/8`.

        Raises:
            ConfigError: it is something else.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        share = cls(int(found[1]), int(found[2])) if found else None
        if share is None or not 1 <= share.number <= share.count:
            raise ConfigError(f"'{text}' is no share; write I/N with 1 <= I <= N, e.g. 3/8")
        return share

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.number}/{self.count}"

    def blocks(self, plan: Plan) -> list[int]:
        """Return the numbers of its blocks: long ones are dealt out first, so shares take about as long."""
        order = sorted(range(len(plan.blocks)), key=lambda b: (-plan.blocks[b].patches, b))
        return order[self.number - 1 :: self.count]


def shard(
    text: str,
    config_path: Path,
    overrides: Sequence[str] = (),
    *,
    overwrite: bool = False,
    events: Events | None = None,
) -> list[dict[str, Any]]:
    """Compute one share of the blocks of every image of a config; returns what was done, one entry an image.

    Args:
        text: the share, `I/N`.
        config_path: the config.
        overrides: `a.b=VALUE` for keys of the config.
        overwrite: results of another config or input may be replaced.
        events: hears of progress.

    Raises:
        PipelineError: as `run`; for a batch of which a part failed, `BlockFailed`.
    """
    share, events = Share.of(text), events or Events()
    config = load_config(config_path, overrides)
    specs, _ = images_and_cubes(config)
    # shares begin with different images, so that more than one is surveyed at a time
    first = (share.number - 1) * len(specs) // share.count
    entries: list[dict[str, Any]] = []
    failures: dict[str, PipelineError] = {}
    with Stop() as stop, inputs_hashed_once():
        for number, spec in enumerate((*specs[first:], *specs[:first]), start=1):
            events.image(spec.stem, number=number, count=len(specs))
            order: Order | None = None
            try:
                with explain_full_disk(config.folder):
                    with stoppable(stop.requested):
                        order = order_of(config, spec)
                    # a share is a job itself: it asks for no others
                    order = replace(order, executor=order.executor if order.executor in _HERE else "auto")
                    entries.append(_computed(order, share, events, stop.requested, overwrite=overwrite))
                if not entries[-1].get("left_to_others"):
                    forget_failure(config.folder, spec.stem)
            except Interrupted:
                raise Interrupted(f"stopped; run `shard {share}` again to continue") from None
            except PipelineError as error:
                failures[spec.stem] = error
                note_failure(config, spec, order, error)
                if len(specs) > 1:
                    events.failed(spec.stem, error)
    if failures:
        raise _of_all(failures, len(specs))
    return entries


def _of_all(failures: Mapping[str, PipelineError], count: int) -> PipelineError:
    """Return the one error that a share of `count` images ends with: what a single image says itself."""
    if count == 1:
        return next(iter(failures.values()))
    return BlockFailed(f"{len(failures)} of {count} images failed: {', '.join(failures)}")


def _computed(
    order: Order, share: Share, events: Events, should_stop: Callable[[], bool], *, overwrite: bool
) -> dict[str, Any]:
    said = False

    def wait() -> None:
        nonlocal said
        if should_stop():
            raise Interrupted("stopped")
        if not said:
            events.notice(order.stem, "waits for another process, which surveys the image or has it for itself")
            said = True
        time.sleep(_POLL_SECONDS)

    workers = Workers(order, events, should_stop)

    def prepare() -> None:
        with stoppable(should_stop):
            plan, _ = plan_of(order, events, workers)
            if not usable(plan, order.n_file_channels):
                journal.forget(order.work.journal)
                create_store(plan, order.n_file_channels)

    with stoppable(should_stop):
        there = delivered_before(order, overwrite=overwrite)
    if there is not None:
        return _finished(order, share, events)
    with workers, shared(order, prepare, lambda: _prepared(order), wait, overwrite=overwrite) as finished:
        if finished is not None:
            return _finished(order, share, events)
        plan = load_plan(order.work)
        own = share.blocks(plan)
        done = journal.numbers(order.work.journal, plan.digest, len(plan.blocks))
        left = [block for block in own if block not in done]
        events.blocks(order.stem, done=len(own) - len(left), total=len(own))
        workers.execute(plan, left)
        return {
            "image": order.stem,
            "share": str(share),
            "state": "done",
            "blocks": len(own),
            "computed": len(left),
            "left_to_others": len(set(range(len(plan.blocks))) - done - set(own)),
        }


def _finished(order: Order, share: Share, events: Events) -> dict[str, Any]:
    events.already_done(order.stem)
    return {"image": order.stem, "share": str(share), "state": "finished before", "blocks": 0}


def _prepared(order: Order) -> bool:
    """Say whether plan, survey and block store are there."""
    try:
        return all_there(order.work) and usable(unfinished_plan(order.job), order.n_file_channels)
    except (IntegrityError, OutputConflict):
        return False
