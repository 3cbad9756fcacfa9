"""What a block has said is lost with its worker, if nobody has fetched it yet."""

from __future__ import annotations

from typing import Any
from unittest import mock

from distributed.scheduler import KilledWorker

from pipeline.blocks.block import BlockResult
from pipeline.execute import _drive

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


def _collected(monkeypatch, *answers: Any) -> tuple[dict[int, str | None], list[BlockResult], dict[Any, int]]:
    monkeypatch.setattr(_drive, "wait", lambda futures, **_: mock.Mock(done=set(futures)))
    pending: dict[Any, int] = {_Finished(*answers): 0}
    told: list[BlockResult] = []
    failed: dict[int, str | None] = {}
    for _ in answers:
        failed |= _drive._collect(pending, told.append)
    return failed, told, pending


def test_a_result_that_is_lost_is_waited_for_with_a_bound(monkeypatch):
    """Another worker makes it again; without a bound nobody would notice that no worker is left."""
    assert _collected(monkeypatch, TimeoutError()) == ({}, [], mock.ANY)
    failed, told, pending = _collected(monkeypatch, TimeoutError(), _RESULT)
    assert (failed, told, pending) == ({}, [_RESULT], {})


def test_a_block_whose_workers_all_died_is_tried_alone(monkeypatch):
    """None says that it may not have been this block's fault; a text says what went wrong in it."""
    assert _collected(monkeypatch, KilledWorker("block", None, 3)) == ({0: None}, [], {})
    assert _collected(monkeypatch, "block 0: no") == ({0: "block 0: no"}, [], {})
