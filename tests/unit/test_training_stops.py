"""Training that ends early: told to stop, killed, continued, or started anew over what another left."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.errors import ClusterGone, ConfigError, Interrupted, OutputConflict
from pipeline.models.base import read_card
from pipeline.system.signals import Stop
from pipeline.training import workers
from pipeline.training.beside import alone
from pipeline.training.data import _store as store
from pipeline.training.log import logged
from pipeline.training.loop import train
from pipeline.training.search import search
from pipeline.training.workers import loaders_watched
from tests.helpers import command, small_training


def test_a_resumed_run_ends_like_one_that_never_stopped(tmp_path, monkeypatch):
    """Stop after the checkpoint at step 4, between two validations, resume, compare with the straight run."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for folder in (straight, stopped):
        folder.mkdir()
    expected = train(small_training(straight, checkpoint_every=2))
    from pipeline.training import loop

    one_step, seen = loop._one_step, []

    def until_five(state, *rest):
        seen.append(state.step)
        if state.step == 5 and len(seen) == 6:
            raise KeyboardInterrupt
        return one_step(state, *rest)

    monkeypatch.setattr(loop, "_one_step", until_five)
    path = small_training(stopped, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(path)
    result = train(path, resume=True)
    assert seen[6:] == [4, 5]
    assert read_card(Path(result["weights"])).sha256 == read_card(Path(expected["weights"])).sha256
    assert result["gain_db"] == expected["gain_db"]
    with (stopped / "weights" / "small.curve.csv").open() as file:
        assert file.read() == (straight / "weights" / "small.curve.csv").read_text()


def _dies(*_: object, **__: object) -> None:
    os._exit(9)


@pytest.mark.parametrize(("part", "words"), [("data._store", "fills holes"), ("batches.batch", "cuts batches")])
def test_a_process_that_dies_says_what_to_do(tmp_path, monkeypatch, part, words):
    """As when memory runs out: no hang, no bare traceback, no process left; `resume` goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(f"pipeline.training.{part}", _dies)
        with pytest.raises(ClusterGone, match=f"a process that {words} died.*fewer loaders") as error:
            train(small_training(tmp_path, loaders=2))
    assert error.value.exit_code == 75
    assert not multiprocessing.active_children()
    assert train(small_training(tmp_path), resume=True)["weights"]


def _stores_and_asks_to_stop(*arguments, **options):
    stored = store(*arguments, **options)
    asked = options["folder"].parent / "asked"
    if not asked.exists():
        asked.touch()
        os.kill(os.getppid(), signal.SIGTERM)
    return stored


@pytest.mark.parametrize("when", ["the only tile", "the validation at the start", "the last step of a trial"])
def test_a_request_to_stop_is_never_forgotten(tmp_path, monkeypatch, when):
    """SIGTERM while nobody looks is noticed at the next occasion, and what was reached is kept."""
    from pipeline.training import loop

    if when == "the only tile":
        monkeypatch.setattr("pipeline.training.data._store", _stores_and_asks_to_stop)
        with pytest.raises(Interrupted, match="while holes were filled"):
            train(small_training(tmp_path, train=[{"synthetic": "optical", "count": 1}]))
        return
    asked = []

    def asking(function, moment):
        def asks(*arguments):
            result = function(*arguments)
            if not asked and arguments[0].step == moment:
                asked.append(arguments[0].step)
                os.kill(os.getpid(), signal.SIGTERM)
            return result

        return asks

    if when == "the validation at the start":
        train(small_training(tmp_path, output="first.safetensors"))
        monkeypatch.setattr(loop, "_judge", asking(loop._judge, 0))
        with pytest.raises(Interrupted, match="stopped at step 0; --resume"):
            train(small_training(tmp_path, start="first.safetensors"))
        assert torch.load(tmp_path / "weights" / "small.checkpoint.pt", weights_only=True)["step"] == 0
    else:
        monkeypatch.setattr(loop, "_one_step", asking(loop._one_step, 2))
        with pytest.raises(Interrupted, match="stopped at step 0; --resume"):
            search(small_training(tmp_path, search={"rungs": [0.5]}), 3)
        trials = tmp_path / "weights" / "small.search"
        steps = [torch.load(c, weights_only=True)["step"] for c in sorted(trials.rglob("*.checkpoint.pt"))]
        assert steps == [3, 0]
    assert asked


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_training_whose_time_is_up_says_so(tmp_path, monkeypatch, number):
    """A scheduler submits it again: exit 75 with the checkpoint kept, as a run does; 130 on request."""
    from pipeline.training import loop

    def asking(*arguments):
        os.kill(os.getpid(), number)
        return one_step(*arguments)

    one_step = loop._one_step
    monkeypatch.setattr(loop, "_one_step", asking)
    outcome = command("train", small_training(tmp_path), "--quiet")
    assert "stopped at step 1; --resume continues from there" in outcome.err
    assert outcome.code == (75 if number == signal.SIGUSR1 else 130)
    assert ("time is nearly up" in outcome.err) == (number == signal.SIGUSR1)


@pytest.mark.parametrize("name", ["weights/small.search.csv", "weights/small.search.log", "train.best.yaml"])
def test_a_search_replaces_nothing_of_somebody_else(tmp_path, name):
    """Told before any work is done."""
    config = small_training(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / name).write_text("mine: 1\n")
    with pytest.raises(ConfigError, match=r"was not written by a search"):
        search(config, 2)
    assert (tmp_path / name).read_text() == "mine: 1\n"


def test_a_search_replaces_no_training_that_was_stopped(tmp_path, monkeypatch):
    """Its checkpoint would make way for that of the best trial; one that a search has put there may go."""
    from pipeline.training import loop

    config = small_training(tmp_path, search={"rungs": [0.5]})
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_one_step", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or 1.0)
        with pytest.raises(Interrupted):
            train(config)
    checkpoint = tmp_path / "weights" / "small.checkpoint.pt"
    before = checkpoint.read_bytes()
    with pytest.raises(OutputConflict, match="a training was stopped here at step 1 of 6"):
        search(config, 2)
    assert checkpoint.read_bytes() == before
    checkpoint.unlink()
    for _ in range(2):
        search(config, 2)
        assert checkpoint.exists()
    train(tmp_path / "train.best.yaml", resume=True)


def test_a_full_disk_ends_a_training_with_a_word(tmp_path, monkeypatch):
    """Exit 6, and no process is left that cuts batches nobody takes: Python would wait for it for ever at its end."""
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "checkpoint" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputConflict, match="No space left on device; free some space"):
        train(small_training(tmp_path, steps=40, loaders=1))
    assert not multiprocessing.active_children()
    assert "No space left" in (tmp_path / "weights" / "small.log").read_text()


def _waits(begun: Connection) -> None:
    workers.begin()
    begun.send(True)
    threading.Event().wait()


def test_python_ends_what_hears_no_signal():
    """As it does with all processes at its own end; it waits for them then."""
    here, there = multiprocessing.Pipe()
    process = workers.Forked().Process(target=_waits, args=(there,), daemon=True)
    process.start()
    assert here.recv()
    process._popen.terminate()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_two_trainings_do_not_share_an_output(tmp_path):
    """The second one would drop the checkpoint of the first, and write into its log and curve."""
    config = small_training(tmp_path)
    weights = tmp_path / "weights" / "small.safetensors"
    with alone(weights), pytest.raises(OutputConflict, match=f"{weights} is in use by process {os.getpid()}"):
        train(config)
    with alone(weights), pytest.raises(OutputConflict, match="in use by process"):
        search(config, 2)
    assert not any(weights.parent.iterdir())


def test_a_log_on_a_full_disk_ends_no_training(capsys):
    """Nor are there tracebacks of every line."""
    with logged(Path("/dev/full"), append=True, quiet=True):
        logging.getLogger("pipeline.training").info("step 1")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("told", "error"), [(True, Interrupted), (False, ClusterGone)])
def test_a_signal_to_a_whole_job_is_a_stop_even_if_it_comes_last(monkeypatch, told, error):
    """The kernel may end the processes that cut batches before it tells the training, which waits a moment for that."""
    monkeypatch.setattr(workers, "_GROUP_SECONDS", 600.0 if told else 0.1)
    if told:
        told_late = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: os.kill(os.getpid(), signal.SIGTERM))
        monkeypatch.setattr(workers, "time", told_late)
    with Stop() as stop, pytest.raises(error), loaders_watched(stop):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")


def _fails(*_: object) -> None:
    raise RuntimeError("the real cause")


def test_a_process_that_fails_keeps_its_cause(tmp_path, monkeypatch):
    """A mistake in a process is no want of memory."""
    monkeypatch.setattr("pipeline.training.batches.batch", _fails)
    with pytest.raises(RuntimeError, match="the real cause"):
        train(small_training(tmp_path))


def test_a_change_of_device_or_precision_is_told(tmp_path, trained, capsys):
    """Continued with other arithmetic, the bytes differ, and the card can name only one."""
    checkpoint = trained.with_name("small.checkpoint.pt")
    saved = torch.load(checkpoint, weights_only=True)
    torch.save(saved | {"arithmetic": "bfloat16 on cuda"}, checkpoint)
    train(small_training(tmp_path, device="cpu"), resume=True)
    assert "made with bfloat16 on cuda, training continues with float32 on cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"network": {"widths": [8, 16], "bottom_units": 1}}, "network"),
        ({"steps": 90}, "steps"),
        ({"weight_decay": 0.1}, "weight_decay"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_a_checkpoint_of_another_config_is_refused(tmp_path, change, key):
    """Whatever moves the weights must be as it was; the error names it and a way out."""
    with pytest.raises(ConfigError, match=f"another {key} .*set start to"):
        train(small_training(tmp_path, **change), resume=True)


def test_a_checkpoint_of_an_older_version_is_refused(tmp_path, trained):
    """It lacks what a resumed run needs; the error says so."""
    checkpoint = trained.with_name("small.checkpoint.pt")
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({key: value for key, value in saved.items() if key != "bests"}, checkpoint)
    with pytest.raises(ConfigError, match="older version"):
        train(small_training(tmp_path), resume=True)


def test_a_new_start_leaves_nothing_of_an_old_run(tmp_path, trained, monkeypatch):
    """Stopped before its own first checkpoint, it must not be continued from that of the run before."""
    folder = trained.parent
    assert (folder / "small.checkpoint.pt").is_file()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.training.loop._one_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(small_training(tmp_path))
    assert not (folder / "small.checkpoint.pt").exists()
    assert not (folder / "small.curve.csv").exists()
