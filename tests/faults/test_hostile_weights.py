"""Cards and weights made to harm: refused before they take memory, with exit code 2, and nothing is published."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import struct
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ConfigError
from pipeline.models import autoencoder
from pipeline.models.base import find_weights, read_card, require_bounded
from tests.helpers import blobs, command, run_config, small_training, smooth, tiny_weights, write_image

SHAPE = (40, 46)


def _card(weights: Path, **changes: object) -> Path:
    """Change the card of some weights, its hash to that of the file unless told otherwise."""
    path = weights.with_suffix(".yaml")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": sha256} | changes))
    return path


def _open(weights: Path) -> autoencoder.Autoencoder:
    return autoencoder.open_model(weights, ndim=2, device="cpu", options={})


def _run(folder: Path, weights: Path | str, verb: str = "run"):
    """Run or plan with weights that must be refused before anything is computed or published."""
    image = write_image(folder / "image.tif", smooth((1, *SHAPE)))
    hole = write_image(folder / "hole.tif", blobs(SHAPE, n=2, radius=4)[None])
    model = {"kind": "autoencoder", "weights": str(weights)}
    with mock.patch("pipeline.survey.survey.self_test", side_effect=AssertionError("something was computed")):
        outcome = command(verb, run_config(folder, image, hole, model=model))
    assert not list((folder / "out").glob("image/*"))
    return outcome


# --- cards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ({"widths": [4, 6], "bottom_units": 1_000_000}, "bottom_units 1000000 must be a whole number from 0 to 64"),
        ({"widths": [4, 6], "bottom_units": -1}, "bottom_units -1"),
        ({"widths": [4, 6], "bottom_units": 2.5}, r"bottom_units 2\.5"),
        ({"widths": [4, 6], "bottom_units": True}, "bottom_units True"),
        ({"widths": [4, 6], "bottom_units": "2"}, "bottom_units '2'"),
        ({"widths": [4, 6], "unshuffle": 3}, "unshuffle 3 must be one of 1, 2, 4"),
        ({"widths": [4, 6], "unshuffle": True}, "unshuffle True"),
        ({"widths": [6000, 6000]}, r"make \d+ parameters, more than"),
        ({"widths": [4, 10**30]}, "parameters, more than"),
        ({"widths": [1] * 7}, "at most 6"),
        ({"widths": [4] * 5000}, "at most 6"),
        ({"widths": [4, -6]}, "above 0"),
        ({"widths": [4, 0]}, "above 0"),
        ({"widths": [4.0, 6.0]}, "all of them whole"),
        ({"widths": "46"}, "two numbers"),
        ({"widths": {"4": 6}}, "two numbers"),
        ({"widths": [4]}, "two numbers"),
        ({}, "widths"),
        ({"widths": [4, 6], "ndim": 3}, "ndim"),
        ({"widths": [4, 6], "": 3}, "does not fit the architecture"),
    ],
)
def test_networks_that_no_image_needs(tmp_path, architecture, words, monkeypatch):
    """Refused before a layer is made; the message names the weights and what is possible."""
    weights = tiny_weights(tmp_path)
    _card(weights, architecture=architecture)

    def built(*_: object, **__: object) -> None:
        pytest.fail("a network was built")

    monkeypatch.setattr("pipeline.models._unet.Convolution", built)
    with pytest.raises(ConfigError, match=words) as error:
        _open(weights)
    assert str(weights) in str(error.value)
    assert len(str(error.value)) < 1500


def test_the_bound_of_a_network_counts_its_parameters():
    """The count is that of the network but for its biases and heads, and the bound leaves room for any real one."""
    from pipeline.models._unet import ResidualUNet

    with pytest.raises(ValueError, match=r"make (\d+) parameters") as error:
        require_bounded(2, [640, 1280, 1280], 2)
    said = int(str(error.value).split("make ")[1].split()[0])
    small = sum(p.numel() for p in ResidualUNet(2, [64, 128, 128], 2).parameters())
    assert said / 100 == pytest.approx(small, rel=0.02)
    require_bounded(3, [32, 64, 128, 256, 320], 8)


def test_training_is_bounded_like_a_card(tmp_path):
    """A training config, or the card of the weights it starts from, cannot ask for a network of any size."""
    outcome = command("train", small_training(tmp_path, network={"widths": [6000, 6000]}))
    assert outcome.code == 2, outcome.err
    assert "parameters, more than" in outcome.err
    weights = tiny_weights(tmp_path)
    _card(weights, architecture={"widths": [4, 6], "bottom_units": 10**6})
    outcome = command("train", small_training(tmp_path, network=None, start=str(weights)))
    assert outcome.code == 2, outcome.err
    assert "bottom_units 1000000" in outcome.err


@pytest.mark.parametrize("changes", [{"ndim": 10**30}, {"ndim": -1}, {"ndim": "x"}, {"sha256": ""}, {"name": None}])
def test_cards_that_make_no_sense(tmp_path, changes):
    """The card is named, and the key."""
    weights = tiny_weights(tmp_path)
    card = _card(weights, **changes)
    with pytest.raises(ConfigError, match=f"{card}: {next(iter(changes))}: .*correct the card"):
        _open(weights)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "missing", "binary", "large"])
def test_a_card_that_is_no_card(tmp_path, kind):
    """By `run`, `models show` and the reader alike; exit 2."""
    weights = tiny_weights(tmp_path)
    card = weights.with_suffix(".yaml")
    card.unlink()
    if kind == "pipe":
        os.mkfifo(card)
    elif kind == "folder":
        card.mkdir()
    elif kind == "device":
        card.symlink_to("/dev/zero")
    elif kind == "binary":
        card.write_bytes(b"\xff\xfe\x00")
    elif kind == "large":
        card.write_text("name: x\n" + "#\n" * 10**6)
    with pytest.raises(ConfigError, match=r"tiny2\.yaml"):
        read_card(weights)
    for outcome in (_run(tmp_path, weights), command("models", "show", weights)):
        assert outcome.code == 2, outcome.err
        assert "tiny2.yaml" in outcome.err


@pytest.mark.parametrize("name", ["no-such", "", "~nouser", "/", "x" * 5000, "opticall"])
def test_the_card_of_no_weights(name):
    """Exit 2; the names that exist are listed."""
    outcome = command("models", "show", name)
    assert outcome.code == 2, outcome.err
    assert "optical" in outcome.err
    assert len(outcome.err) < 1500


def test_the_card_of_shipped_weights():
    """It is printed as it stands in its file."""
    outcome = command("models", "show", "optical")
    assert outcome.code == 0
    assert outcome.out.rstrip("\n") == find_weights("optical").with_suffix(".yaml").read_text().rstrip("\n")


# --- weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("share", ["all", "one"])
def test_weights_that_are_not_finite(tmp_path, value, share):
    """Refused when they are opened: exit 2 names file and layer, nothing is computed or published."""
    weights = tiny_weights(tmp_path)
    tensors = load_file(weights)
    for name, tensor in tensors.items():
        if share == "all":
            tensor.fill_(value)
        elif name.startswith("residual_head"):
            tensor.view(-1)[-1] = value
    save_file(tensors, weights)
    _card(weights)
    for verb in ("plan", "run"):
        outcome = _run(tmp_path, weights, verb)
        assert outcome.code == 2, outcome.err
        assert "not finite" in outcome.err
        assert str(weights) in outcome.err or "/dev/zero" in outcome.err


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e12, 1e30])
def test_weights_that_explode(tmp_path, scale):
    """Finite numbers that make of a simple image what none holds are no better than infinite ones."""
    weights = tiny_weights(tmp_path)
    save_file({n: (scale * tensor).clamp(-3e38, 3e38) for n, tensor in load_file(weights).items()}, weights)
    _card(weights)
    outcome = _run(tmp_path, weights)
    assert outcome.code == 2, outcome.err
    assert "corrects a simple image by" in outcome.err


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_weights_of_another_type(tmp_path, dtype):
    """Numbers of a network are real and have fractions."""
    weights = tiny_weights(tmp_path)
    save_file({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights)
    _card(weights)
    with pytest.raises(ConfigError, match=str(dtype)):
        _open(weights)


def test_weights_too_large_for_float32(tmp_path):
    """What becomes infinite when it is loaded is not finite."""
    weights = tiny_weights(tmp_path)
    save_file({name: tensor.double() * 1e300 for name, tensor in load_file(weights).items()}, weights)
    _card(weights)
    with pytest.raises(ConfigError, match="not finite"):
        _open(weights)


def _header(claims: dict[str, object], length: int | None = None) -> bytes:
    text = json.dumps(claims).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


_TERA = {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\0" * 4096,
        _header({}, 2**63),
        _header({}, 2**40),
        _header({"w": _TERA}),
        _header({"w": _TERA}) + b"\0" * 4096,
        _header({"w": _TERA | {"data_offsets": [2**42, 0]}}),
        _header({"w": _TERA | {"shape": [2**62, 2**62]}}),
        _header({"w": _TERA | {"shape": [-1]}}),
        _header({"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
        _header({"w": 3}),
        b"PK\3\4 a pickle, perhaps",
    ],
)
def test_files_that_claim_to_be_weights(tmp_path, content):
    """A header that claims terabytes, or makes no sense, is not believed, even with the hash on its card."""
    weights = tiny_weights(tmp_path)
    weights.write_bytes(content)
    _card(weights)
    outcome = _run(tmp_path, weights)
    assert outcome.code == 2, outcome.err
    assert str(weights) in outcome.err


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "huge", "loop"])
def test_weights_that_are_no_file(tmp_path, kind, monkeypatch):
    """Nothing is waited for, hashed or read; exit 2."""
    weights = tiny_weights(tmp_path)
    weights.unlink()
    if kind == "pipe":
        os.mkfifo(weights)
    elif kind == "socket":
        # the whole path may be too long for one
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(weights.name)
    elif kind == "folder":
        weights.mkdir()
    elif kind == "device":
        weights.symlink_to("/dev/zero")
    elif kind == "loop":
        weights.symlink_to(weights)
    else:
        with weights.open("wb") as file:
            file.truncate(2**40)
    for outcome in (_run(tmp_path, weights), command("models", "show", weights)):
        assert outcome.code == 2, outcome.err
        assert str(weights) in outcome.err or "/dev/zero" in outcome.err


# --- anything ---------------------------------------------------------------------------------------------------


def read_hostile_weights(folder: Path, original: bytes, seed: int) -> bool:
    """Open mutated weights that have the hash on their card; return True if they were refused in a sentence."""
    rng = random.Random(seed)
    content = bytearray(original)
    header = 8 + struct.unpack("<Q", original[:8])[0]
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(rng.choice([8, header, len(content)]))
        content[place : place + rng.choice([0, 1, 1, 1, 8])] = rng.randbytes(rng.choice([0, 1, 1, 1, 8]))
    if rng.random() < 0.2:
        del content[rng.randrange(len(content)) :]
    weights = folder / "tiny2.safetensors"
    weights.write_bytes(bytes(content))
    _card(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            _open(weights)
        except ConfigError:
            return True
    return False


def test_mutated_weights_are_opened_or_refused(tmp_path):
    """A hundred seeds: never anything but a network or an error of ours."""
    original = tiny_weights(tmp_path).read_bytes()
    refused = sum(read_hostile_weights(tmp_path, original, seed) for seed in range(100))
    assert 20 < refused < 99
