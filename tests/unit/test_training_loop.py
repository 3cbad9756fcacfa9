"""Training: learns, repeats, resumes, and says what is wrong with a config."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.errors import ConfigError, OutputConflict, PlanRefused
from pipeline.fills.base import FillSpec, Window
from pipeline.models.autoencoder import _prepare, open_model
from pipeline.models.base import Patch, read_card
from pipeline.synthetic.demo import write_demo_brain, write_demo_sentinel
from pipeline.training.batches import crop
from pipeline.training.config import read_config
from pipeline.training.data import DEPTH, HOLE, TARGET, VALID, cut, samples
from pipeline.training.device import mixed
from pipeline.training.loop import train
from pipeline.training.tiles import tiles
from pipeline.training.validation import Gains
from tests.helpers import small_training


def test_the_number_of_processes_changes_no_byte(tmp_path, monkeypatch):
    """Fills and batches depend on the seed and their place, not on who computes them; `auto` is a cpu without a GPU."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    written = []
    for loaders, device in ((1, "cpu"), (3, "cpu" if torch.cuda.is_available() else "auto")):
        folder = tmp_path / str(loaders)
        folder.mkdir()
        written.append(Path(train(small_training(folder, loaders=loaders, device=device))["weights"]))
    assert written[0].read_bytes() == written[1].read_bytes()
    assert read_card(written[1]).model_extra["training"]["device"] == "cpu"


def test_training_beats_the_base_fill_on_held_out_scenes(tmp_path):
    """A few seconds suffice to improve on a membrane for lost pixels."""
    held = [{"synthetic": "optical", "count": 4, "seed": 50}]
    changes = {"masks": {"points": 1}, "validate_on": held, "learning_rate": 0.005, "batch": 8}
    result = train(small_training(tmp_path, base_fill={"kind": "harmonic"}, steps=80, validate_every=80, **changes))
    assert result["gain_db"]["points"] > 0.15
    assert result["gain_db"]["mean"] == result["gain_db"]["points"]
    assert result["cases_worse"] < 0.5
    assert result["step"] == 80


def test_the_weights_open_as_a_model_and_the_card_tells_their_story(trained):
    """What training writes, inference reads; nothing is left half-written."""
    model = open_model(trained, ndim=2, device="cpu", options={})
    filled = np.random.default_rng(0).normal(100, 9, (1, 40, 40)).astype(np.float32)
    patch = Patch(filled=filled, valid=filled > 95, spacing=(1.0, 1.0), floor=np.ones(1, np.float32))
    assert np.isfinite(model.predict([patch])[0].mean).all()
    card = read_card(trained)
    assert card.base_fill == {"kind": "tension", "t": 0.5}
    assert card.training["seed"] == 0
    assert any("medical device" in line for line in card.limits)
    assert not list(trained.parent.glob(".*.part*"))


def test_the_same_seed_gives_the_same_weights(tmp_path, trained):
    """Training is a function of the config; another seed gives other weights."""
    hashes = [read_card(trained).sha256]
    for name, seed in (("b", 0), ("c", 1)):
        folder = tmp_path / name
        folder.mkdir()
        result = train(small_training(folder, seed=seed))
        hashes.append(read_card(Path(result["weights"])).sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_log_tells_what_ran_and_how_it_went(tmp_path, capsys):
    """Sizes, seed, device and every validation; a continuation adds to it, and `quiet` keeps stderr empty."""
    path = small_training(tmp_path, device="cpu")
    train(path, quiet=False)
    lines = (tmp_path / "weights" / "small.log").read_text().splitlines()
    told = capsys.readouterr().err.splitlines()
    assert [line[len("2026-01-01 00:00:00 ") :] for line in lines] == ["inpaint-pipeline training", *told]
    text = "\n".join(told)
    for words in ("synthetic optical x 4 for training: ", "small, seed 0:", "6 steps of 4", "float32 on cpu"):
        assert words in text
    with (tmp_path / "weights" / "small.curve.csv").open() as file:
        gains = {row["step"]: float(row["points"]) for row in csv.DictReader(file)}
    for step, gain in gains.items():
        assert f"step {step}: gain over the fill in dB: points {gain:+.2f}" in text
    train(path, resume=True)
    assert capsys.readouterr().err == ""
    longer = (tmp_path / "weights" / "small.log").read_text().splitlines()
    assert longer[: len(lines)] == lines
    assert any(line.endswith("continued from step 6") for line in longer[len(lines) :])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"device": "gpu"}, ConfigError, "'gpu' is no device; set auto"),
        ({"device": "cuda:63"}, PlanRefused, "'cuda:63': [0-9]+ CUDA devices are visible"),
        ({"output": "train.yaml/small.safetensors"}, OutputConflict, "cannot be written .*set another output"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(tmp_path, changes, error, words):
    """Fills take hours: the device and the place of the output are looked at first."""
    with pytest.raises(error, match=words):
        train(small_training(tmp_path, **changes))
    assert not (tmp_path / "cache").exists()


def test_validation_scenes_are_never_trained_on(tmp_path):
    """Without scenes named for validation, whole scenes are held out."""
    path = small_training(tmp_path, validate_on=None, train=[{"synthetic": "optical", "count": 6}])
    training, held = samples(read_config(path), path)
    assert held
    assert not {s.scene for s in training} & {s.scene for s in held}


def test_samples_hold_what_the_network_needs(tmp_path):
    """Holes are not valid, targets are zero outside holes, depth is zero on valid pixels."""
    path = small_training(tmp_path)
    training, _ = samples(read_config(path), path)
    for sample in training[:6]:
        planes = sample.planes()
        hole, valid = planes[HOLE] > 0, planes[VALID] > 0
        assert not (hole & valid).any()
        assert not planes[TARGET][~hole].any()
        assert not planes[DEPTH][valid].any()
        assert (planes[DEPTH][hole] > 0).all()


def test_crops_show_a_hole(tmp_path):
    """A crop always contains something to learn."""
    path = small_training(tmp_path)
    training, _ = samples(read_config(path), path)
    planes = training[0].planes()
    before = planes.copy()
    for size in (32, 64):
        for seed in range(10):
            patch = crop(planes, size, np.random.default_rng(seed))
            assert patch.shape == (6, size, size)
            assert patch[HOLE].any()
    assert np.array_equal(planes, before)


def test_files_train_too_without_nodata_and_masked_pixels(tmp_path):
    """Images and their masks are read through the same parts as in a run."""
    demo = write_demo_sentinel(tmp_path, seed=2, shape=(192, 192))
    data = {"paths": ["S2_20240612.tif"], "bands": ["B04", "B08"], "tiles": 4}
    path = small_training(tmp_path, train=[data], validate_on=None, steps=2)
    config = read_config(path)
    training, held = samples(config, path)
    assert held
    assert {s.scene for s in training} == {f"{tmp_path.name}/{demo['image'].name}"}


def test_volumes_train_too(tmp_path):
    """The same loop in three dimensions, from a NIfTI file."""
    write_demo_brain(tmp_path, seed=3, shape=(48, 56, 48))
    path = small_training(
        tmp_path,
        ndim=3,
        train=[{"paths": ["*truth_T1w.nii.gz"], "tiles": 6, "contrast": 0.1}],
        validate_on=None,
        masks={"blobs": 1, "slices": 1},
        base_fill={"kind": "tension", "t": 0.95},
        bfloat16=True,
        tile=24,
        patch=16,
        batch=2,
        steps=3,
        masks_per_tile=2,
        network={"widths": [4, 6], "bottom_units": 1},
    )
    result = train(path)
    assert open_model(Path(result["weights"]), ndim=3, device="cpu", options={}).ndim == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masks": {"clouds": 1}}, "no family 'clouds'"),
        ({"patch": 128}, "larger than tile"),
        ({"patch": 33}, "multiple of 2"),
        ({"stepz": 3}, "did you mean 'steps'"),
        ({"name": None}, "required"),
        ({"train": [{"paths": ["nothing-*.tif"]}]}, "matches no file"),
        ({"train": [{"synthetic": "optical", "count": 1}], "ndim": 2, "steps": 0}, "steps"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(tmp_path, changes, words):
    """Unknown names, sizes that do not fit, missing files."""
    with pytest.raises(ConfigError, match=words):
        train(small_training(tmp_path, **changes))


def test_no_clean_tile_is_an_error(tmp_path):
    """Images smaller than a patch teach nothing, and the message says so."""
    write_demo_sentinel(tmp_path, seed=2, shape=(24, 24))
    with pytest.raises(ConfigError, match="no clean tile"):
        train(small_training(tmp_path, train=[{"paths": ["S2_20240612.tif"]}], validate_on=None))


def test_training_and_inference_see_the_same_input(tmp_path):
    """What a patch is turned into at inference is what the network was trained on, to half precision."""
    path = small_training(tmp_path, augment={"share": 0})
    config = read_config(path)
    tile = next(tiles(config.train[0], config, path))
    whole = dataclasses.replace(tile, values=tile.values[:1], observed=tile.observed[:1], hidden=tile.hidden[:1])
    whole = dataclasses.replace(whole, extent=tile.extent[:1])
    _, (planes,) = cut(whole, config, np.random.default_rng(3))
    hole = planes[HOLE] > 0
    filled = np.where(hole, 0, whole.values[0]).astype(np.float32)
    window = Window(values=filled[None], valid=~hole[None], hole=hole[None], spacing=(1.0, 1.0))
    patch = Patch(
        filled=FillSpec("tension", {"t": 0.5})(window),
        valid=~hole[None],
        spacing=(1.0, 1.0),
        floor=0.01 * whole.extent,
    )
    ((seen, local),) = _prepare(patch)
    assert np.allclose(seen, planes[: DEPTH + 1], atol=4e-3)
    truth = patch.filled[0] + local.scale * planes[TARGET].astype(np.float32)
    assert np.allclose(truth, whole.values[0], atol=2e-3 * whole.extent[0])


def test_training_stops_when_it_no_longer_improves(tmp_path):
    """With a hopeless learning rate no validation beats the first; `patience` ends the run and the best stays."""
    result = train(small_training(tmp_path, steps=60, validate_every=2, patience=2, learning_rate=1e-9, ema=0))
    with (tmp_path / "weights" / "small.curve.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps[-1] < 60
    assert result["step"] == steps[-3]


def test_no_family_pays_for_another():
    """A lower mean without a loss beats a higher mean with one."""
    careful = Gains(families={"points": 0.3, "cloud": 0.0, "mean": 0.15}, worse=0.0)
    greedy = Gains(families={"points": 0.6, "cloud": -0.1, "mean": 0.25}, worse=0.4)
    assert careful.score == pytest.approx(0.15)
    assert greedy.score == pytest.approx(-0.05)


def test_weights_of_a_network_that_does_not_fit_are_refused(tmp_path, trained):
    """The message says how to take the network from the card."""
    with pytest.raises(ConfigError, match="leave out ndim and network"):
        train(small_training(tmp_path, start=str(trained), network={"widths": [8, 16]}))


def test_four_lines_adapt_weights_to_an_image(tmp_path):
    """Network, dimensions and holes come from the card; what is exported is never below the start."""
    general = Path(train(small_training(tmp_path, bfloat16=True))["weights"])
    demo = write_demo_sentinel(tmp_path, seed=2, shape=(160, 160))
    lines = {
        "name": "mine",
        "start": str(general),
        "train": [{"paths": [str(demo["truth"])]}],
        "output": "mine.safetensors",
    }
    path = tmp_path / "tune.yaml"
    with path.open("w") as file:
        YAML().dump(lines, file)
    config = read_config(path)
    assert config.network.widths == (8, 12)
    assert config.masks == {"points": 1, "stripes": 1}
    assert config.learning_rate < 1e-3
    short = {"steps": 4, "validate_every": 2, "patch": 32, "tile": 64, "masks_per_tile": 2}
    with path.open("w") as file:
        YAML().dump(lines | short, file)
    result = train(path)
    assert result["gain_db"]["mean"] >= result["gain_db_at_start"]["mean"]
    card = read_card(Path(result["weights"]))
    assert card.training["start"]["name"] == "small"
    assert card.data == [{"files": [f"{tmp_path.name}/{demo['truth'].name}"]}]


@pytest.mark.parametrize(("abilities", "expected"), [({"avx2": True}, False), ({"avx512_bf16": True}, True)])
def test_mixed_precision_is_used_where_the_processor_has_it(monkeypatch, tmp_path, abilities, expected):
    """Without such instructions bfloat16 is many times slower than float32; an explicit choice stands."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    config = read_config(small_training(tmp_path, bfloat16="auto"))
    assert mixed(config) is expected
    assert mixed(config.model_copy(update={"bfloat16": True}))
