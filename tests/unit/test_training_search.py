"""Search of hyper-parameters: repeatable, honest about the given config, and its best config trains."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ConfigError
from pipeline.models.base import read_card
from pipeline.training.config import read_config
from pipeline.training.loop import train
from pipeline.training.search import _trials, search
from pipeline.training.validation import Gains

CONFIG = """
name: small                # kept comment
masks: {points: 1}
train: [{synthetic: optical, count: 2}]
tile: 48
patch: 32
masks_per_tile: 2
bands_per_mask: 1
network: {widths: [6, 8], bottom_units: 1, unshuffle: 2}
batch: 2
steps: 8
validate_every: 2
checkpoint_every: 2
bfloat16: false
search: {rungs: [0.25, 0.5], keep: 0.34, bottom_units: [1]}
output: out/small.safetensors
cache: cache
"""


def _config(folder: Path, text: str = CONFIG) -> Path:
    path = folder / "train.yaml"
    path.write_text(text)
    return path


def test_the_better_ones_go_on_and_the_best_config_trains(tmp_path):
    """Three trials, then one; table and card agree; continuing the winner gives what training its config gives."""
    path = _config(tmp_path)
    found = search(path, 3)
    assert [(row["rung"], row["trial"]) for row in found["trials"][:3]] == [(1, 0), (1, 1), (1, 2)]
    first = {row["trial"]: row["score"] for row in found["trials"][:3]}
    goes_on = [row["trial"] for row in found["trials"][3:]]
    assert goes_on
    assert first[goes_on[0]] == max(first.values())
    with (tmp_path / "out" / "small.search.csv").open() as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [row["score"] for row in found["trials"]]
    best = Path(found["best"])
    assert "# kept comment" in best.read_text()
    continued = train(best, resume=True)
    card = read_card(Path(continued["weights"]))
    assert [row["trial"] for row in card.search] == [row["trial"] for row in found["trials"]]
    fresh = YAML().load(best.read_text()) | {"output": "again/small.safetensors"}
    with (tmp_path / "fresh.yaml").open("w") as file:
        YAML().dump(fresh, file)
    assert read_card(Path(train(tmp_path / "fresh.yaml")["weights"])).sha256 == card.sha256


def test_a_search_goes_on_with_the_ranks_it_had(tmp_path, monkeypatch):
    """What a trial reached later does not count where the first ones are compared."""
    scores = itertools.count()

    def rising(*_: object) -> Gains:
        score = float(next(scores))
        return Gains(families={"points": score, "mean": score}, worse=0.0)

    monkeypatch.setattr("pipeline.training.loop.validate", rising)
    path = _config(tmp_path)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in search(path, 3)["trials"]]
    assert [row["score"] for row in rows] == [0, 1, 2, 3, 4]
    again = search(path, 3, resume=True)["trials"]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in again] == rows


def test_trials_depend_on_seed_and_number_alone(tmp_path):
    """More trials change none of those before; the first is the config as given; networks fit the patch."""
    config = read_config(_config(tmp_path))
    few, many = _trials(config, 3), _trials(config, 6)
    assert [t.choice for t in few] == [t.choice for t in many[:3]]
    assert few[0].config.network == config.network
    assert len({(t.config.learning_rate, t.config.weight_decay) for t in many}) == 6
    assert len({t.config.network.widths for t in _trials(config, 30)}) > 2


def test_one_trial_is_no_search(tmp_path):
    """There is nothing to compare."""
    with pytest.raises(ConfigError, match="at least 2"):
        search(_config(tmp_path), 1)


def test_weights_to_start_from_fix_the_network(tmp_path):
    """Only what does not change its shape is searched."""
    weights = train(_config(tmp_path))["weights"]
    config = read_config(_config(tmp_path, CONFIG + f"start: {weights}\n"))
    assert {t.config.network.widths for t in _trials(config, 4)} == {(6, 8)}
