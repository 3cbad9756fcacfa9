"""Training configs: those of the repository are valid, the page shows the real defaults, weights lend theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ConfigError
from pipeline.models.base import find_weights, read_card
from pipeline.training.config import Search, read_config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("train_*.yaml")), ids=lambda path: path.stem)
def test_shipped_training_configs_are_valid(path, monkeypatch):
    """They name their licence and notes, and validate on something they do not train on."""
    monkeypatch.setenv("INPAINT_DATA", "/data")
    config = read_config(path)
    assert config.name == path.stem.removeprefix("train_")
    assert config.licence == "Apache-2.0"
    assert config.notes
    assert not set(config.train) & set(config.validate_on)


def test_the_page_shows_the_defaults_of_the_search():
    """docs/training.md does not drift from the code."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(search:.*?)```", page, re.DOTALL)
    assert block is not None
    shown = Search.model_validate(YAML(typ="safe").load(block[1])["search"])
    default = Search()
    assert shown.rungs == pytest.approx(default.rungs, abs=1e-3)
    assert shown.keep == pytest.approx(default.keep, abs=1e-3)
    same = {"rungs", "keep"}
    assert shown.model_dump(exclude=same) == default.model_dump(exclude=same)


def _written(folder: Path, **changes: object) -> Path:
    path = folder / "train.yaml"
    lines = {"name": "mine", "train": [{"paths": ["a.tif"]}], "output": "mine.safetensors"} | changes
    with path.open("w") as file:
        YAML().dump(lines, file)
    return path


def test_shipped_weights_lend_their_card_and_what_is_written_wins(tmp_path):
    """Dimensions, network, base fill and holes; a short, careful adaptation by default."""
    card = read_card(find_weights("optical"))
    config = read_config(_written(tmp_path, start="optical"))
    assert list(config.network.widths) == card.architecture["widths"]
    assert config.base_fill == card.base_fill
    assert config.patience is not None
    assert config.steps < 1000
    assert config.learning_rate < 5e-4
    assert config.train[0].observed < 0.9
    assert read_config(_written(tmp_path, start="optical", steps=7, masks={"points": 1})).shares == {"points": 1.0}


def test_weights_in_a_file_are_found_beside_the_config(tmp_path):
    """A relative path is relative to the config; a wrong name lists the shipped ones."""
    for suffix in (".safetensors", ".yaml"):
        (tmp_path / f"own{suffix}").write_bytes(find_weights("t1").with_suffix(suffix).read_bytes())
    config = read_config(_written(tmp_path, start="own.safetensors"))
    assert config.start == str(tmp_path / "own.safetensors")
    assert config.ndim == 3
    with pytest.raises(ConfigError, match=r"shipped: .*optical"):
        read_config(_written(tmp_path, start="optical2"))


def test_a_card_does_not_take_the_place_of_the_config(tmp_path):
    """Refused before anything is trained; another name of the config is all it takes."""
    text = "name: mine\nstart: optical\ntrain: [{synthetic: optical, count: 2}]\noutput: mine.safetensors\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml: output: the card of mine\.safetensors"):
        read_config(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").rename(tmp_path / "train_mine.yaml")
    assert read_config(tmp_path / "train_mine.yaml").output == str(tmp_path / "mine.safetensors")
