"""What calls say: notices, and messages in the words of Python."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from typing import Any

import numpy as np
import pytest

from pipeline.api import plan, restore
from pipeline.blocks.events import Events
from pipeline.errors import ConfigError, Interrupted, OutputConflict, PipelineError, PlanRefused, SourceError
from tests.helpers import blobs, smooth

CHEAP: dict[str, Any] = {"model": {"kind": "constant", "options": {"value": 7}}, "compute": {"executor": "serial"}}
SHAPE = (1, 40, 46)
HOLE = blobs(SHAPE[1:], n=3, radius=4)


def test_results_of_another_call_are_replaced_where_that_is_said(tmp_path):
    """A cell that is run again with something else: the message names the argument, which does it."""
    image = smooth(SHAPE)
    restore(image, HOLE, folder=tmp_path, **CHEAP)
    with pytest.raises(OutputConflict, match="use overwrite=True to replace it, or another folder=") as refused:
        restore(image + 1, HOLE, folder=tmp_path, **CHEAP)
    assert "--overwrite" not in str(refused.value)
    again = restore(image + 1, HOLE, folder=tmp_path, overwrite=True, **CHEAP)
    np.testing.assert_array_equal(again.values[:, HOLE == 0], (image + 1)[:, HOLE == 0])


_ENDLESS: dict[str, object] = {}
_ENDLESS["size"] = _ENDLESS


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"holes": None}, ConfigError, r"^the image: nothing says .*; give `holes`.* such as `numpy\.isnan\(values\)`"),
        ({"holes": None, "mask": HOLE}, ConfigError, "^mask: is for entries .* as `holes`"),
        ({"holes": np.ones(SHAPE[1:])}, PlanRefused, "^the image: the masks cover everything"),
        ({"colour": {}}, ConfigError, "^colour: unknown key"),
        ({"model": "tension"}, ConfigError, "^model: must be a section with keys of its own"),
        ({"references": [smooth((1, 9, 9))]}, ConfigError, "^reference in memory lies on another grid"),
        ({"references": [(smooth(SHAPE), HOLE, HOLE)]}, TypeError, "a pair .image, its holes., found a tuple of 3"),
        ({"patch": _ENDLESS}, ConfigError, "^patch: is nested without end"),
        ({"folder": "a\0b"}, ConfigError, "^folder: .* has a character that no path can have"),
        ({"folder": ""}, ConfigError, "^folder: the path is empty"),
        ({"folder": "a\udc80"}, ConfigError, "^folder: .* is not UTF-8"),
        ({"holes": "a\0b"}, ConfigError, "^holes: .* has a character that no path can have"),
    ],
)
def test_messages_name_arguments(arguments, error, said):
    """Neither a config nor temporary files, which nobody has seen."""
    with pytest.raises(error, match=said) as refused:
        restore(smooth(SHAPE), **{"holes": HOLE, **CHEAP, **arguments})
    assert "/inputs/" not in str(refused.value)


def test_an_array_in_a_file_is_read_by_who_has_it(tmp_path):
    """`restore("a.npy", holes)`: not that holes must be a path, too, but how to give the array."""
    np.save(tmp_path / "a.npy", smooth(SHAPE))
    with pytest.raises(SourceError, match=r"restore\(numpy\.load\('a\.npy'\), holes\)"):
        restore(tmp_path / "a.npy", HOLE)


def test_many_planes_are_bands_and_that_is_said(caplog):
    """An array has no axes by name: a head would be restored plane by plane without a word."""
    with caplog.at_level(logging.WARNING, "pipeline.api"):
        plan(np.zeros((20, 24, 24), np.float32), np.ones((24, 24), np.uint8) - np.eye(24, dtype=np.uint8))
    assert "taken for 20 bands of a raster" in caplog.text
    assert "nibabel.Nifti1Image" in caplog.text


def test_a_pair_alone_is_one_reference(caplog):
    """`(image, its holes)` without a list around it; None is none. Notices speak of arguments, too."""
    with caplog.at_level(logging.WARNING, "pipeline.api"):
        found = restore(smooth(SHAPE), HOLE, references=(smooth(SHAPE), HOLE > 0), auxiliary=None, **CHEAP)
        assert len(found.record["references"]) == 1
        restore(smooth(SHAPE), HOLE, references=smooth(SHAPE) + 1, **CHEAP)
    assert "reference in memory: it has no mask" in caplog.text
    assert "/inputs/" not in caplog.text
    assert "give it as a pair (image, its holes)" in caplog.text


def test_the_home_folder_is_that_of_the_shell(tmp_path, monkeypatch):
    """`~/results` made a folder called `~` in the working folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert restore(smooth(SHAPE), HOLE, folder="~/results", **CHEAP).folder == tmp_path / "results" / "image"


def test_notices_are_logged(caplog):
    """A mask that marks nearly all is done as it is told, and said."""
    with caplog.at_level(logging.WARNING, "pipeline.api"):
        restore(smooth(SHAPE), 1 - HOLE, **CHEAP)
    assert "`invert: true`" in caplog.text


@pytest.mark.parametrize("kept", [True, False])
def test_a_stopped_call_says_what_is_left_of_it(tmp_path, monkeypatch, kept):
    """Ctrl-C in a notebook: with a folder the same call continues, without one nothing was kept."""

    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("pipeline.api.messages.Logged.stage", stop)
    said = "call it again to continue" if kept else "nothing was kept, as no folder= was given"
    with pytest.raises(Interrupted, match=said):
        restore(smooth(SHAPE), HOLE, folder=tmp_path if kept else None, **CHEAP)
    if kept:
        monkeypatch.setattr("pipeline.api.messages.Logged.stage", Events.stage)
        assert restore(smooth(SHAPE), HOLE, folder=tmp_path, **CHEAP).folder is not None


def _call(answers: Any) -> None:
    try:
        restore(smooth(SHAPE), HOLE, **CHEAP)
        answers.put("done")
    except PipelineError as error:
        answers.put(str(error))


def test_a_process_that_was_forked_after_a_call_is_refused():
    """Threads that GDAL waits for are not there any more: without a word it would hang for ever."""
    restore(smooth(SHAPE), HOLE, **CHEAP)
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    process = fork.Process(target=_call, args=(answers,))
    process.start()
    try:
        assert "get_context('spawn')" in answers.get()
    finally:
        process.kill()
        process.join()
