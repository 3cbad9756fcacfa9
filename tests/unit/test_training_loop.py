"""Training: learns, repeats, resumes, and says what is wrong with a config."""

from __future__ import annotations

import csv
import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.errors import ClusterGone, ConfigError, Interrupted, OutputConflict, PlanRefused
from pipeline.fills.base import FillSpec, Window
from pipeline.models.autoencoder import _prepare, open_model
from pipeline.models.base import Patch, read_card
from pipeline.synthetic.demo import write_demo_brain, write_demo_sentinel
from pipeline.training.batches import crop
from pipeline.training.config import read_config
from pipeline.training.data import DEPTH, HOLE, TARGET, VALID, cut, samples
from pipeline.training.data import _store as store
from pipeline.training.device import mixed
from pipeline.training.loop import train
from pipeline.training.search import search
from pipeline.training.tiles import tiles
from pipeline.training.validation import Gains

SMALL = {
    "name": "small",
    "base_fill": {"kind": "tension", "t": 0.5},
    "tensions": {},
    "kriging": {},
    "masks": {"points": 1, "stripes": 1},
    "train": [{"synthetic": "optical", "count": 4}],
    "validate_on": [{"synthetic": "optical", "count": 1, "seed": 50}],
    "tile": 64,
    "masks_per_tile": 4,
    "bands_per_mask": 2,
    "network": {"widths": [8, 12], "bottom_units": 1},
    "patch": 32,
    "batch": 4,
    "steps": 6,
    "ema": 0.5,
    "bfloat16": False,
    "validate_every": 3,
    "checkpoint_every": 3,
    "output": "weights/small.safetensors",
    "cache": "cache",
}


def _config(folder: Path, **changes: object) -> Path:
    path = folder / "train.yaml"
    with path.open("w") as file:
        YAML().dump({k: v for k, v in (SMALL | changes).items() if v is not None}, file)
    return path


def test_the_number_of_processes_changes_no_byte(tmp_path, monkeypatch):
    """Fills and batches depend on the seed and their place, not on who computes them; `auto` is a cpu without a GPU."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    written = []
    for loaders, device in ((1, "cpu"), (3, "cpu" if torch.cuda.is_available() else "auto")):
        folder = tmp_path / str(loaders)
        folder.mkdir()
        written.append(Path(train(_config(folder, loaders=loaders, device=device))["weights"]))
    assert written[0].read_bytes() == written[1].read_bytes()
    assert read_card(written[1]).model_extra["training"]["device"] == "cpu"


def test_training_beats_the_base_fill_on_held_out_scenes(tmp_path):
    """A few seconds suffice to improve on a membrane for lost pixels."""
    held = [{"synthetic": "optical", "count": 4, "seed": 50}]
    changes = {"masks": {"points": 1}, "validate_on": held, "learning_rate": 0.005, "batch": 8}
    result = train(_config(tmp_path, base_fill={"kind": "harmonic"}, steps=80, validate_every=80, **changes))
    assert result["gain_db"]["points"] > 0.15
    assert result["gain_db"]["mean"] == result["gain_db"]["points"]
    assert result["cases_worse"] < 0.5
    assert result["step"] == 80


def test_the_weights_open_as_a_model_and_the_card_tells_their_story(tmp_path):
    """What training writes, inference reads; nothing is left half-written."""
    result = train(_config(tmp_path))
    weights = Path(result["weights"])
    model = open_model(weights, ndim=2, device="cpu", options={})
    filled = np.random.default_rng(0).normal(100, 9, (1, 40, 40)).astype(np.float32)
    patch = Patch(filled=filled, valid=filled > 95, spacing=(1.0, 1.0), floor=np.ones(1, np.float32))
    assert np.isfinite(model.predict([patch])[0].mean).all()
    card = read_card(weights)
    assert card.base_fill == {"kind": "tension", "t": 0.5}
    assert card.training["seed"] == 0
    assert any("medical device" in line for line in card.limits)
    assert not list(weights.parent.glob(".*.part"))


def test_the_same_seed_gives_the_same_weights(tmp_path):
    """Training is a function of the config; another seed gives other weights."""
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = tmp_path / name
        folder.mkdir()
        result = train(_config(folder, seed=seed))
        hashes.append(read_card(Path(result["weights"])).sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_resumed_run_ends_like_one_that_never_stopped(tmp_path, monkeypatch):
    """Stop after the checkpoint at step 4, between two validations, resume, compare with the straight run."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for folder in (straight, stopped):
        folder.mkdir()
    expected = train(_config(straight, checkpoint_every=2))
    from pipeline.training import loop

    one_step, seen = loop._one_step, []

    def until_five(state, *rest):
        seen.append(state.step)
        if state.step == 5 and len(seen) == 6:
            raise KeyboardInterrupt
        return one_step(state, *rest)

    monkeypatch.setattr(loop, "_one_step", until_five)
    path = _config(stopped, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(path)
    result = train(path, resume=True)
    assert seen[6:] == [4, 5]
    assert read_card(Path(result["weights"])).sha256 == read_card(Path(expected["weights"])).sha256
    assert result["gain_db"] == expected["gain_db"]
    with (stopped / "weights" / "small.curve.csv").open() as file:
        assert file.read() == (straight / "weights" / "small.curve.csv").read_text()


def test_the_log_tells_what_ran_and_how_it_went(tmp_path, capsys):
    """Sizes, seed, device and every validation; a continuation adds to it, and `quiet` keeps stderr empty."""
    path = _config(tmp_path, device="cpu")
    train(path, quiet=False)
    lines = (tmp_path / "weights" / "small.log").read_text().splitlines()
    told = capsys.readouterr().err.splitlines()
    assert [line[len("2026-01-01 00:00:00 ") :] for line in lines] == told
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


def _dies(*_: object, **__: object) -> None:
    os._exit(9)


@pytest.mark.parametrize(("part", "words"), [("data._store", "fills holes"), ("batches.batch", "cuts batches")])
def test_a_process_that_dies_says_what_to_do(tmp_path, monkeypatch, part, words):
    """As when memory runs out: no hang, no bare traceback."""
    monkeypatch.setattr(f"pipeline.training.{part}", _dies)
    with pytest.raises(ClusterGone, match=f"a process that {words} died.*fewer loaders"):
        train(_config(tmp_path, loaders=2))


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
            train(_config(tmp_path, train=[{"synthetic": "optical", "count": 1}]))
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
        train(_config(tmp_path, output="first.safetensors"))
        monkeypatch.setattr(loop, "_judge", asking(loop._judge, 0))
        with pytest.raises(Interrupted, match="stopped at step 0; --resume"):
            train(_config(tmp_path, start="first.safetensors"))
        assert torch.load(tmp_path / "weights" / "small.checkpoint.pt", weights_only=True)["step"] == 0
    else:
        monkeypatch.setattr(loop, "_one_step", asking(loop._one_step, 2))
        with pytest.raises(Interrupted, match="stopped at step 0; --resume"):
            search(_config(tmp_path, search={"rungs": [0.5]}), 3)
        trials = tmp_path / "weights" / "small.search"
        steps = [torch.load(c, weights_only=True)["step"] for c in sorted(trials.rglob("*.checkpoint.pt"))]
        assert steps == [3, 0]
    assert asked


def _fails(*_: object) -> None:
    raise RuntimeError("the real cause")


def test_a_process_that_fails_keeps_its_cause(tmp_path, monkeypatch):
    """A mistake in a process is no want of memory."""
    monkeypatch.setattr("pipeline.training.batches.batch", _fails)
    with pytest.raises(RuntimeError, match="the real cause"):
        train(_config(tmp_path))


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
        train(_config(tmp_path, **changes))
    assert not (tmp_path / "cache").exists()


def test_a_change_of_device_or_precision_is_told(tmp_path, capsys):
    """Continued with other arithmetic, the bytes differ, and the card can name only one."""
    train(_config(tmp_path, device="cpu"))
    checkpoint = tmp_path / "weights" / "small.checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=True)
    torch.save(saved | {"arithmetic": "bfloat16 on cuda"}, checkpoint)
    train(_config(tmp_path, device="cpu"), resume=True)
    assert "made with bfloat16 on cuda, training continues with float32 on cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"network": {"widths": [8, 16], "bottom_units": 1}}, "network"),
        ({"steps": 90}, "steps"),
        ({"weight_decay": 0.1}, "weight_decay"),
    ],
)
def test_a_checkpoint_of_another_config_is_refused(tmp_path, change, key):
    """Whatever moves the weights must be as it was; the error names it and a way out."""
    train(_config(tmp_path))
    with pytest.raises(ConfigError, match=f"another {key} .*set start to"):
        train(_config(tmp_path, **change), resume=True)


def test_a_checkpoint_of_an_older_version_is_refused(tmp_path):
    """It lacks what a resumed run needs; the error says so."""
    train(_config(tmp_path))
    checkpoint = tmp_path / "weights" / "small.checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({key: value for key, value in saved.items() if key != "bests"}, checkpoint)
    with pytest.raises(ConfigError, match="older version"):
        train(_config(tmp_path), resume=True)


def test_a_new_start_leaves_nothing_of_an_old_run(tmp_path, monkeypatch):
    """Stopped before its own first checkpoint, it must not be continued from that of the run before."""
    train(_config(tmp_path))
    folder = tmp_path / "weights"
    assert (folder / "small.checkpoint.pt").is_file()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.training.loop._one_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(_config(tmp_path))
    assert not (folder / "small.checkpoint.pt").exists()
    assert not (folder / "small.curve.csv").exists()


def test_validation_scenes_are_never_trained_on(tmp_path):
    """Without scenes named for validation, whole scenes are held out."""
    path = _config(tmp_path, validate_on=None, train=[{"synthetic": "optical", "count": 6}])
    training, held = samples(read_config(path), path)
    assert held
    assert not {s.scene for s in training} & {s.scene for s in held}


def test_samples_hold_what_the_network_needs(tmp_path):
    """Holes are not valid, targets are zero outside holes, depth is zero on valid pixels."""
    path = _config(tmp_path)
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
    path = _config(tmp_path)
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
    path = _config(tmp_path, train=[data], validate_on=None, steps=2)
    config = read_config(path)
    training, held = samples(config, path)
    assert held
    assert {s.scene for s in training} == {f"{tmp_path.name}/{demo['image'].name}"}


def test_volumes_train_too(tmp_path):
    """The same loop in three dimensions, from a NIfTI file."""
    write_demo_brain(tmp_path, seed=3, shape=(48, 56, 48))
    path = _config(
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
        train(_config(tmp_path, **changes))


def test_no_clean_tile_is_an_error(tmp_path):
    """Images smaller than a patch teach nothing, and the message says so."""
    write_demo_sentinel(tmp_path, seed=2, shape=(24, 24))
    with pytest.raises(ConfigError, match="no clean tile"):
        train(_config(tmp_path, train=[{"paths": ["S2_20240612.tif"]}], validate_on=None))


def test_training_and_inference_see_the_same_input(tmp_path):
    """What a patch is turned into at inference is what the network was trained on, to half precision."""
    path = _config(tmp_path, augment={"share": 0})
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
    result = train(_config(tmp_path, steps=60, validate_every=2, patience=2, learning_rate=1e-9, ema=0))
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


def test_weights_of_a_network_that_does_not_fit_are_refused(tmp_path):
    """The message says how to take the network from the card."""
    start = train(_config(tmp_path))["weights"]
    with pytest.raises(ConfigError, match="leave out ndim and network"):
        train(_config(tmp_path, start=start, network={"widths": [8, 16]}))


def test_four_lines_adapt_weights_to_an_image(tmp_path):
    """Network, dimensions and holes come from the card; what is exported is never below the start."""
    general = Path(train(_config(tmp_path, bfloat16=True))["weights"])
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
    config = read_config(_config(tmp_path, bfloat16="auto"))
    assert mixed(config) is expected
    assert mixed(config.model_copy(update={"bfloat16": True}))
