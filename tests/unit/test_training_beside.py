"""What lies where a training writes: files of others stay, and what was stopped is not begun anew."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from pipeline.errors import ConfigError, OutputConflict
from pipeline.training.beside import read_checkpoint, require_nothing_unfinished
from pipeline.training.config import read_config
from pipeline.training.loop import train
from tests.helpers import small_training


@pytest.mark.parametrize(
    ("output", "foreign"),
    [
        ("scene.tif", "scene.tif"),
        ("mine.safetensors", "mine.yaml"),
        ("a.safetensors", "a.curve.csv"),
        ("a.safetensors", "a.log"),
    ],
)
def test_no_file_of_others_is_replaced(tmp_path, output, foreign):
    """An image, a config and a table with the names of an output are named, and stay."""
    (tmp_path / foreign).write_text("input: {source: mine.tif}")
    path = small_training(tmp_path, output=str(tmp_path / output))
    with pytest.raises(ConfigError, match=foreign):
        train(path)
    assert (tmp_path / foreign).read_text() == "input: {source: mine.tif}"


def test_a_training_that_was_stopped_is_not_begun_anew(tmp_path):
    """Without `--resume` the checkpoint would be lost; one that was finished, or is damaged, is none to lose."""
    weights = tmp_path / "mine.safetensors"
    path = tmp_path / "mine.checkpoint.pt"
    for state, kept in (
        ({"bests": [], "step": 3, "stale": 1}, True),
        ({"bests": [], "step": 9, "stale": 1}, False),
        ({"bests": [], "step": 3, "stale": 4}, False),
    ):
        torch.save(state, path)
        if kept:
            with pytest.raises(OutputConflict, match=r"step 3 of 9; --resume goes on"):
                require_nothing_unfinished(weights, 9, 4)
        else:
            require_nothing_unfinished(weights, 9, 4)
    path.write_bytes(b"damaged")
    require_nothing_unfinished(weights, 9, 4)


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_a_checkpoint_that_is_none_is_told_and_not_executed(tmp_path, monkeypatch):
    """Cut off, of other content, or with a program in it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.checkpoint.pt"
    torch.save({"bests": [_Evil()]}, path)
    whole = path.read_bytes()
    for content in (whole, whole[:100], whole[: len(whole) // 2], pickle.dumps(_Evil()), b""):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"mine\.checkpoint\.pt: is no checkpoint"):
            read_checkpoint(path, "cpu")
    assert not Path("executed").exists()


def test_a_training_that_leaves_all_bounds_is_an_error(tmp_path):
    """Nothing was exported, so there is nothing to end well with."""
    with pytest.raises(ConfigError, match=r"no weights: .* lower learning_rate, which is 1e\+30"):
        train(small_training(tmp_path, learning_rate=1e30))
    assert not list(tmp_path.glob("*.safetensors"))


def test_what_is_wrong_with_data_is_told_of_their_kind_alone(tmp_path):
    """Files are not told what synthetic scenes need; no words of pydantic."""
    path = small_training(tmp_path, train=[{"paths": ["a.tif"], "licence": 5}])
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    (line,) = str(caught.value).splitlines()
    assert "train.0.licence: unknown key - did you mean 'data_licence'?" in line
