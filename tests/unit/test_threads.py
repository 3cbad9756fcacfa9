"""Several things at a time: the same results in the same order, and stops and errors as without threads."""

from __future__ import annotations

import threading

import pytest

from pipeline import orders
from pipeline.config.compute import ComputeConfig
from pipeline.errors import Interrupted
from pipeline.system.signals import stop_if_asked, stoppable
from pipeline.system.threads import each, threaded


def test_results_come_in_the_order_of_the_items() -> None:
    """Whichever ends first."""
    with threaded(3):
        assert each(lambda x: x * x, range(20)) == [x * x for x in range(20)]


def test_things_are_done_at_the_same_time() -> None:
    """Each waits for the other: one after the other would never end."""
    meet = threading.Barrier(2, timeout=300)
    with threaded(2):
        assert sorted(each(lambda _: meet.wait(), range(2))) == [0, 1]


def test_without_threads_everything_is_done_here() -> None:
    """No thread is started where none is asked for."""
    here = threading.get_ident()
    assert each(lambda _: threading.get_ident(), range(3)) == [here] * 3
    with threaded(1):
        assert each(lambda _: threading.get_ident(), range(3)) == [here] * 3


def test_what_is_called_has_no_threads_of_its_own() -> None:
    """Threads that wait for threads of the same pool would wait for ever."""

    def inner(_: int) -> set[int]:
        return set(each(lambda _: threading.get_ident(), range(4))) - {threading.get_ident()}

    with threaded(2):
        assert each(inner, range(8)) == [set()] * 8


def test_the_first_error_in_the_order_of_the_items_is_raised() -> None:
    """As without threads."""

    def fail(k: int) -> None:
        raise ValueError(str(k))

    with threaded(4), pytest.raises(ValueError, match=r"^0$"):
        each(fail, range(6))


def test_a_stop_that_is_asked_for_reaches_the_threads() -> None:
    """Context variables hold there, too."""
    with threaded(2), stoppable(lambda: True), pytest.raises(Interrupted):
        each(lambda _: stop_if_asked(), range(2))


@pytest.mark.parametrize(
    ("compute", "threads"),
    [
        ({}, 8),
        ({"executor": "serial"}, 1),
        ({"executor": "local", "workers": 3}, 3),
        ({"executor": "slurm", "workers": 3}, 8),
        ({"memory_per_worker": "1 GiB"}, 2),
        ({"memory_per_worker": "100 MiB"}, 1),
    ],
)
def test_a_survey_has_threads_for_workers_cores_and_memory(monkeypatch, compute, threads):
    """As many as blocks would have on this machine; none takes the memory of another."""
    monkeypatch.setattr(orders, "cores", lambda: 16)
    assert orders._threads(ComputeConfig.model_validate(compute)) == threads
