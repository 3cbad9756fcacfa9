"""A small network learns what a larger one says of the same holes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ConfigError
from pipeline.models._unet import ResidualUNet
from pipeline.models.autoencoder import load_network
from pipeline.models.base import read_card
from pipeline.training.batches import crop
from pipeline.training.config import read_config
from pipeline.training.data import DEPTH, HOLE, NORMALISED, TARGET, TAUGHT
from pipeline.training.loop import train
from pipeline.training.teacher import taught_samples
from tests.helpers import small_training, tiny_weights

_FEW = {"train": [{"synthetic": "optical", "count": 2}], "masks_per_tile": 2, "bands_per_mask": 1}


def _teacher(folder, ndim=2, kind="tension"):
    weights = tiny_weights(folder, ndim)
    card = weights.with_suffix(".yaml")
    card.write_text(json.dumps(json.loads(card.read_text()) | {"base_fill": {"kind": kind}}))
    return weights


def _prepared(folder):
    path = small_training(folder, teacher=str(_teacher(folder)), **_FEW)
    return taught_samples(read_config(path), path)


def test_the_teacher_answers_for_every_training_hole_and_no_other(tmp_path, monkeypatch):
    """The mean of a tile as it is and mirrored; cases of the validation know the truth alone."""
    monkeypatch.setattr("pipeline.training.teacher.has_bfloat16", lambda: False)
    training, cases = _prepared(tmp_path)
    assert all(len(case.planes()) == TAUGHT for case in cases)
    network = load_network(tmp_path / "tiny2.safetensors", read_card(tmp_path / "tiny2.safetensors"))
    for sample in (training[0], training[-1]):
        planes = sample.planes()
        x = torch.from_numpy(planes[None, : DEPTH + 1].astype(np.float32))
        with torch.inference_mode():
            mirrored = network(x.flip(2, 3)).flip(2, 3)
            said = ((network(x) + mirrored) / 2)[0, 0].numpy()
        assert np.abs(said).max() > 0.01
        assert np.allclose(planes[TAUGHT], said, atol=1e-2)


def test_a_turned_sample_has_the_answer_turned(tmp_path):
    """What the teacher says lies where the truth lies, and changes its sign with it."""
    planes = _prepared(tmp_path)[0][0].planes()
    planes[TAUGHT] = planes[TARGET]
    for seed in range(8):
        patch = crop(planes, 32, np.random.default_rng(seed))
        assert np.array_equal(patch[TAUGHT], patch[TARGET])


def test_what_is_learnt_comes_closer_to_the_teacher(tmp_path):
    """In the holes of the training, closer than what the same steps learn from the truth alone."""
    steps = _FEW | {"steps": 40, "validate_every": 40, "learning_rate": 0.005, "ema": 0.9}
    apart = {}
    for name, weight in (("with", 3.0), ("without", 0.0)):
        folder = tmp_path / name
        path = small_training(folder, teacher=str(_teacher(folder)), loss={"taught": weight}, **steps)
        train(path)
        config = read_config(path)
        network = ResidualUNet(2, **config.network.model_dump())
        network.load_state_dict(load_file(config.output))
        apart[name] = np.mean([_unlike(network, sample) for sample in taught_samples(config, path)[0]])
        assert read_card(Path(config.output)).training["teacher"]["name"] == "tiny"

    assert apart["with"] < 0.8 * apart["without"]


@torch.inference_mode()
def _unlike(network, sample):
    planes = sample.planes().astype(np.float32)
    said = network(torch.from_numpy(planes[None, NORMALISED : DEPTH + 1]))[0, 0].numpy()
    return float(np.abs(said - planes[TAUGHT])[planes[HOLE] > 0].mean())


def test_a_teacher_of_something_else_is_refused(tmp_path, monkeypatch):
    """Volumes for images, or what corrects another fill; said before a hole is cut."""
    monkeypatch.setattr("pipeline.training.teacher.samples", lambda *_: pytest.fail("holes were cut"))
    for teacher, words in (
        (str(_teacher(tmp_path, 3)), "teacher 'tiny': is for 3-D images"),
        (
            str(_teacher(tmp_path, 2, "harmonic")),
            "teacher 'tiny': corrects harmonic, the config fills holes by tension",
        ),
        ("nobody", "nobody"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(small_training(tmp_path, teacher=teacher))
