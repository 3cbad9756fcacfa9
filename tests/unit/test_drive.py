"""What a block has said is lost with its worker, if nobody has fetched it yet."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import dask
import pytest
from distributed.scheduler import KilledWorker

from pipeline.blocks.block import BlockResult
from pipeline.errors import ClusterGone
from pipeline.execute import _drive, local
from pipeline.execute._processes import UNWATCHED
from pipeline.execute.base import Work

_RESULT = BlockResult(block=0, patches=1, by_source={}, seconds={}, peak_rss_bytes=0)


class _Finished:
    """A finished task; each answer is what one attempt to fetch its result gives."""

    status = "finished"

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)

    def cancelled(self) -> bool:
        return False

    def result(self, timeout: float) -> Any:
        assert timeout < 60
        answer = next(self._answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _collected(
    monkeypatch, *answers: Any, blocks: tuple[int, ...] = (0,)
) -> tuple[dict[int, str | None], list[BlockResult], dict[Any, Any]]:
    monkeypatch.setattr(_drive, "wait", lambda futures, **_: mock.Mock(done=set(futures)))
    pending: dict[Any, tuple[int, ...]] = {_Finished(*answers): blocks}
    told: list[BlockResult] = []
    failed: dict[int, str | None] = {}
    for _ in answers:
        failed |= _drive._collect(pending, told.append)
    return failed, told, pending


def test_a_result_that_is_lost_is_waited_for_with_a_bound(monkeypatch):
    """Another worker makes it again; without a bound nobody would notice that no worker is left."""
    assert _collected(monkeypatch, TimeoutError()) == ({}, [], mock.ANY)
    failed, told, pending = _collected(monkeypatch, TimeoutError(), [_RESULT])
    assert (failed, told, pending) == ({}, [_RESULT], {})


def test_a_block_whose_workers_all_died_is_tried_alone(monkeypatch):
    """None says that it may not have been this block's fault; a text says what went wrong in it."""
    assert _collected(monkeypatch, KilledWorker("block", None, 3)) == ({0: None}, [], {})
    assert _collected(monkeypatch, ["block 0: no"]) == ({0: "block 0: no"}, [], {})


def test_a_task_says_what_became_of_each_of_its_blocks(monkeypatch):
    """One that fails takes no other with it; if the worker is lost, any of them may have ended it."""
    others = [replace(_RESULT, block=block) for block in (4, 6)]
    found = _collected(monkeypatch, [others[0], "block 5: no", others[1]], blocks=(4, 5, 6))
    assert found == ({5: "block 5: no"}, others, {})
    assert _collected(monkeypatch, KilledWorker("block", None, 3), blocks=(4, 5)) == ({4: None, 5: None}, [], {})


@pytest.mark.parametrize(("seconds", "largest"), [(2.0, 1), (0.05, 5), (0.0, 31)])
def test_short_blocks_share_a_task(seconds, largest):
    """As many as take a quarter of a second, in the order given, each once; at the end one by one, for all workers."""
    queue = _drive._Queue(tuple(range(1000)))
    given = [queue.following(2)]
    assert len(given[0]) == 1, "nobody knows how long one takes"
    heard = queue.heard_by(lambda _: None)
    while given[-1]:
        heard(replace(_RESULT, seconds={"read": seconds / 2, "compute": seconds / 2}))
        given.append(queue.following(2))
    assert [block for task in given for block in task] == list(range(1000))
    assert max(map(len, given)) == largest
    assert {len(task) for task in given[-33:-1]} == {1}


def test_workers_that_are_all_gone_are_replaced_once(monkeypatch):
    """What they had done is not done again; if those are gone, too, or a stop is asked for, it is said."""
    given: list[tuple[int, ...]] = []

    def driven(client: object, work: Work, on_done: Any, *_: Any, **__: Any) -> dict[int, str]:
        given.append(work.blocks)
        on_done(replace(_RESULT, block=work.blocks[0]))
        if len(given) in gone:
            raise ClusterGone("all dask workers are gone")
        return {}

    monkeypatch.setattr(local, "cluster", lambda *_: nullcontext(mock.Mock()))
    monkeypatch.setattr(local, "drive", driven)
    work, told = Work(workdir="", digest="", blocks=(0, 1, 2)), []
    for gone, stop, clusters in (({1}, False, 2), ({1, 2}, False, 2), ({1}, True, 1)):
        given.clear()
        told.clear()
        with local.opened(work, lambda: False) as crew:
            if clusters == len(gone):
                with pytest.raises(ClusterGone):
                    crew.execute(work, told.append, lambda stop=stop: stop)
            else:
                assert crew.execute(work, told.append, lambda stop=stop: stop) == {}
        assert given == [(0, 1, 2), (1, 2)][:clusters]
        assert [result.block for result in told] == [0, 1][:clusters]


def test_only_a_worker_of_the_runs_own_ends_at_once(monkeypatch):
    """One of a cluster that others use puts itself in order."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    for own in (False, True):
        _drive.Warm("", "", own=own).teardown(None)
    assert ended == [0]


@pytest.mark.parametrize("key", UNWATCHED)
def test_dask_knows_what_it_is_told(key):
    """It takes any name: one that it has no more would change nothing, and nobody would see it."""
    assert dask.config.get(key) is not None
