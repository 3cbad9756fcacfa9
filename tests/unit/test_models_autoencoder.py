"""The autoencoder: loading, refusing, and the same bytes in any batch."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file

from pipeline.errors import ConfigError, PlanRefused
from pipeline.models import autoencoder
from pipeline.models._unet import ResidualUNet
from pipeline.models.base import Patch, find_weights, read_card, shipped
from pipeline.numerics.parts import parts_of
from pipeline.synthetic.noise import fractal

WIDTHS = {2: (8, 12), 3: (4, 6)}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _weights(folder: Path, ndim: int, changes: dict[str, object] | None = None) -> Path:
    torch.manual_seed(0)
    network = ResidualUNet(ndim, WIDTHS[ndim])
    torch.nn.init.normal_(network.residual_head.weight, std=0.3)
    path = folder / f"small{ndim}.safetensors"
    save_file(network.state_dict(), path)
    card = {
        "name": "small",
        "ndim": ndim,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "architecture": {"widths": list(WIDTHS[ndim])},
    }
    with path.with_suffix(".yaml").open("w") as file:
        YAML().dump({k: v for k, v in (card | (changes or {})).items() if v is not None}, file)
    return path


def _patch(shape: tuple[int, ...], seed: int, channels: int = 2) -> Patch:
    rng = np.random.default_rng(seed)
    filled = np.stack([1000 + 200 * fractal(rng, shape, longest=40) for _ in range(channels)])
    valid = rng.random(filled.shape) > 0.3
    return Patch(filled=filled, valid=valid, spacing=(1.0,) * len(shape), floor=np.full(channels, 5, np.float32))


@pytest.mark.parametrize(("ndim", "shape"), [(2, (40, 36)), (3, (14, 12, 16))])
def test_a_prediction_does_not_depend_on_its_company(tmp_path, ndim, shape):
    """Alone, together, in another order: the same bytes."""
    model = autoencoder.open_model(_weights(tmp_path, ndim), ndim=ndim, device="cpu", options={})
    patches = [_patch(shape, seed, channels=1 + seed % 3) for seed in range(5)]
    together = model.predict(patches)
    alone = [model.predict([p])[0] for p in patches]
    backwards = model.predict(patches[::-1])[::-1]
    for one, two, three, patch in zip(together, alone, backwards, patches, strict=True):
        assert one.mean.tobytes() == two.mean.tobytes() == three.mean.tobytes()
        assert one.scale.tobytes() == two.scale.tobytes() == three.scale.tobytes()
        assert one.mean.shape == patch.filled.shape
        assert one.mean.dtype == one.scale.dtype == np.float32
        assert (one.scale > 0).all()
        assert not np.array_equal(one.mean, patch.filled)


@pytest.mark.parametrize(("ndim", "shape"), [(2, (96, 80)), (3, (24, 40, 32))])
def test_what_is_asked_for_is_seen_with_its_surroundings(tmp_path, ndim, shape):
    """Of a speck the network sees a part of the patch, as if there were no more; elsewhere it says the fill."""
    model = autoencoder.open_model(_weights(tmp_path, ndim), ndim=ndim, device="cpu", options={})
    patches = []
    for seed in range(3):
        patch = _patch(shape, seed)
        asked = np.zeros(patch.valid.shape, dtype=bool)
        asked[0, *(n // 2 for n in shape)] = asked[1, *(seed for _ in shape)] = True
        patches.append(replace(patch, asked=asked, views=1))
    said = model.predict(patches)
    for one, patch, alone in zip(said, patches, (model.predict([p])[0] for p in patches), strict=True):
        assert one.mean.tobytes() == alone.mean.tobytes()
        assert np.array_equal(one.mean != patch.filled, patch.asked)
        assert np.isfinite(one.scale).all()
        assert (one.scale > 0).all()
        (part,) = parts_of(patch.asked[0])
        x, local = autoencoder._prepare(patch)[0]
        seen = x[:, *part.box].copy()
        assert seen[0].size < patch.filled[0].size / 2
        with torch.inference_mode():
            answer = model._seen(torch.from_numpy(seen)[None], model._network)[0].numpy()
        step = (one.mean[0] - patch.filled[0])[part.box][part.own]
        assert step == pytest.approx(local.scale[part.box][part.own] * answer[0][part.own], rel=1e-3)


def test_an_untrained_network_returns_the_fill(tmp_path):
    """The residual head starts at zero, so training starts at the baseline."""
    path = _weights(tmp_path, 2)
    network = ResidualUNet(2, WIDTHS[2])
    save_file(network.state_dict(), path)
    card = path.with_suffix(".yaml")
    text = card.read_text().replace(read_card(path).sha256, hashlib.sha256(path.read_bytes()).hexdigest())
    card.write_text(text)
    patch = _patch((32, 32), 0)
    prediction = autoencoder.open_model(path, ndim=2, device="cpu", options={}).predict([patch])[0]
    assert np.array_equal(prediction.mean, patch.filled)


def test_data_units_carry_through(tmp_path):
    """Ten times the data, ten times mean and scale."""
    model = autoencoder.open_model(_weights(tmp_path, 2), ndim=2, device="cpu", options={})
    patch = _patch((48, 48), 3)
    bigger = Patch(filled=patch.filled * 8, valid=patch.valid, spacing=patch.spacing, floor=patch.floor * 8)
    one, two = model.predict([patch, bigger])
    assert np.allclose(two.mean, 8 * one.mean, rtol=1e-4)
    assert np.allclose(two.scale, 8 * one.scale, rtol=1e-3)


@pytest.mark.parametrize(("ndim", "shape"), [(2, (48, 64)), (3, (16, 16, 32))])
def test_a_mirrored_image_gets_the_mirrored_result(tmp_path, ndim, shape):
    """A result does not depend on the end an image is looked at from; one look alone does, whatever the padding."""
    axes = tuple(range(1, 1 + ndim))
    patch = _patch(shape, 4)
    mirrored = Patch(
        filled=np.flip(patch.filled, axes), valid=np.flip(patch.valid, axes), spacing=patch.spacing, floor=patch.floor
    )
    path = _weights(tmp_path, ndim)
    both = autoencoder.open_model(path, ndim=ndim, device="cpu", options={})
    alone = autoencoder.open_model(path, ndim=ndim, device="cpu", options={"test_time_augmentation": False})
    for model, equal in ((both, True), (alone, False)):
        one, other = model.predict([patch, mirrored])
        assert np.allclose(np.flip(other.mean, axes), one.mean, rtol=1e-5) == equal
        assert np.allclose(np.flip(other.scale, axes), one.scale, rtol=1e-4) == equal


def test_what_was_seen_is_not_looked_at_again(tmp_path, monkeypatch):
    """A mirrored look after a plain one takes one pass, with the bytes of both; later it is forgotten."""
    model = autoencoder.open_model(_weights(tmp_path, 2), ndim=2, device="cpu", options={})
    plain, other = replace(_patch((40, 36), 2), views=1), _patch((36, 40), 3)
    both = replace(plain, views=2)
    expected = model.predict([both, other])
    passes = []
    forward = ResidualUNet.forward

    def counting(network, x):
        passes.append(tuple(x.shape))
        return forward(network, x)

    monkeypatch.setattr(ResidualUNet, "forward", counting)
    with model.remembering():
        model.predict([plain])
        assert len(passes) == 1
        found = model.predict([both, other])
        assert len(passes) == 1 + 1 + 2
    for one, two in zip(found, expected, strict=True):
        assert one.mean.tobytes() == two.mean.tobytes()
        assert one.scale.tobytes() == two.scale.tobytes()
    model.predict([plain])
    assert len(passes) == 4 + 1


def test_what_is_asked_of_a_patch_goes_through_together(tmp_path, monkeypatch):
    """All channels of parts of one shape, as many as fit a pass of a processor; another patch changes nothing."""
    model = autoencoder.open_model(_weights(tmp_path, 2), ndim=2, device="cpu", options={})
    patch = _patch((96, 96), 5, channels=3)
    asked = np.zeros(patch.valid.shape, dtype=bool)
    asked[:, [20, 70], [20, 70]] = True
    patch = replace(patch, asked=asked, views=1)
    passes = []
    forward = ResidualUNet.forward

    def counting(network, x):
        passes.append(len(x))
        return forward(network, x)

    monkeypatch.setattr(ResidualUNet, "forward", counting)
    (alone,) = model.predict([patch])
    assert passes == [6]
    other = replace(_patch((24, 24), 6, channels=2), views=1)
    _, among = model.predict([other, patch])
    assert passes == [6, 2, 6]
    assert among.mean.tobytes() == alone.mean.tobytes()
    monkeypatch.setattr(autoencoder, "_TOGETHER", 4 * 24 * 24)
    (fewer,) = model.predict([patch])
    assert passes[3:] == [4, 2]
    assert np.allclose(fewer.mean, alone.mean, rtol=1e-5)


@pytest.mark.parametrize(("ndim", "shape"), [(2, (12, 20)), (3, (8, 12, 16))])
def test_small_inputs_take_the_quick_way_to_the_same_result(ndim, shape):
    """What nothing is learnt from goes through another library than what is: they agree to rounding."""
    torch.manual_seed(1)
    network = ResidualUNet(ndim, WIDTHS[ndim])
    torch.nn.init.normal_(network.residual_head.weight, std=0.3)
    x = torch.randn(1, 3, *shape)
    slow = network(x).detach()
    with torch.inference_mode():
        quick = network(x)
    assert float(slow.abs().max()) > 0.1
    assert torch.allclose(slow, quick, atol=1e-5)


def test_padding_to_the_network_grid_keeps_the_shape(tmp_path):
    """Any patch extent is accepted."""
    model = autoencoder.open_model(_weights(tmp_path, 2), ndim=2, device="cpu", options={})
    assert model.predict([_patch((33, 47), 1)])[0].mean.shape == (2, 33, 47)


def test_no_patches_no_predictions(tmp_path):
    """A block without holes asks for nothing."""
    model = autoencoder.open_model(_weights(tmp_path, 2), ndim=2, device="cpu", options={})
    assert model.predict([]) == []


def test_another_hash_is_refused(tmp_path):
    """Both hashes are named."""
    path = _weights(tmp_path, 2, {"sha256": "0" * 64})
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match=found) as caught:
        autoencoder.open_model(path, ndim=2, device="cpu", options={})
    assert "0" * 64 in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": {"widths": [8, 16]}}, "architecture"),
        ({"architecture": {"width": 8}}, "architecture"),
        ({"ndim": 3}, "3-D"),
        ({"name": None}, "name"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tmp_path, changes, words):
    """Wrong widths, unknown arguments, other dimensions, missing keys."""
    path = _weights(tmp_path, 2, changes)
    with pytest.raises(ConfigError, match=words):
        autoencoder.open_model(path, ndim=2, device="cpu", options={})


def test_missing_parts_are_named(tmp_path):
    """No weights, no such file, no card, an unknown option: each says what to do."""
    with pytest.raises(ConfigError, match=r"set model\.weights"):
        autoencoder.open_model(None, ndim=2, device="cpu", options={})
    with pytest.raises(ConfigError, match="shipped:"):
        autoencoder.open_model(tmp_path / "none.safetensors", ndim=2, device="cpu", options={})
    path = _weights(tmp_path, 2)
    with pytest.raises(ConfigError, match="depth"):
        autoencoder.open_model(path, ndim=2, device="cpu", options={"depth": 3})
    with pytest.raises(ConfigError, match="'yes' is no value of it"):
        autoencoder.open_model(path, ndim=2, device="cpu", options={"test_time_augmentation": "yes"})
    path.with_suffix(".yaml").unlink()
    with pytest.raises(ConfigError, match="no card"):
        autoencoder.open_model(path, ndim=2, device="cpu", options={})


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_no_gpu_no_plan(tmp_path):
    """Asking for a GPU that is not there is refused before anything is computed."""
    with pytest.raises(PlanRefused, match=r"compute\.device: cpu"):
        autoencoder.open_model(_weights(tmp_path, 2), ndim=2, device="cuda", options={})


def test_names_of_shipped_weights_are_suggested():
    """A typing error gets the nearest name."""
    names = [s.name for s in shipped()]
    if not names:
        pytest.skip("no weights are shipped in this checkout")
    with pytest.raises(ConfigError, match=names[0]):
        find_weights(names[0] + "x")


def test_shipped_weights_open_and_are_small():
    """Every pair of weights and card in the package loads and stays under 10 MB."""
    for entry in shipped():
        model = autoencoder.open_model(entry.path, ndim=entry.ndim, device="cpu", options={})
        assert model.sha256.startswith(entry.card.sha256)
        assert entry.path.stat().st_size < 10e6
        assert find_weights(entry.name) == entry.path


def test_a_network_refuses_impossible_sizes():
    """Dimensions are 2 or 3, levels at least two."""
    with pytest.raises(ValueError, match="ndim 4"):
        ResidualUNet(4, (8, 16))
    with pytest.raises(ValueError, match="two numbers"):
        ResidualUNet(2, (8,))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("unshuffle", [2, 4])
def test_pixels_seen_as_channels_come_back_to_their_places(ndim, unshuffle):
    """A network whose finest level passes on what it sees, and whose coarse ones are silent, gives its input back."""
    pixels = unshuffle**ndim
    network = ResidualUNet(ndim, (pixels, 4), unshuffle=unshuffle)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    for channel in range(pixels):
        # channels of the stem's input are all pixels of the values first, those of validity and depth follow
        network.stem.conv.weight.data[(channel, channel, *(1,) * ndim)] = 1
        network.residual_head.weight.data[(channel, channel, *(0,) * ndim)] = 1
    extents = [network.multiple * n for n in (1, 2, 3)[:ndim]]
    x = torch.rand(2, 3, *extents)
    y = network(x)
    assert y.shape == (2, 2, *extents)
    assert torch.equal(y[:, 0], x[:, 0])
    assert not y[:, 1].any()


def test_the_scale_head_does_not_touch_the_mean():
    """Gradients of the stated scale stop at the shared features."""
    network = ResidualUNet(2, (8, 12))
    network(torch.randn(1, 3, 16, 16))[:, 1].sum().backward()
    assert not network.stem.conv.weight.grad.any()
    assert network.scale_head[1].weight.grad.any()


def test_working_in_place_changes_neither_input_nor_gradients():
    """What is overwritten is needed by nobody: results and gradients are those of a network that keeps everything."""
    torch.manual_seed(2)
    network = ResidualUNet(2, (8, 12))
    torch.nn.init.normal_(network.residual_head.weight, std=0.3)
    keeping = copy.deepcopy(network)
    activations = [part for part in keeping.modules() if isinstance(part, torch.nn.LeakyReLU)]
    assert activations
    assert all(part.inplace for part in activations)
    for part in activations:
        part.inplace = False
    x = torch.randn(1, 3, 16, 16)
    before = x.clone()
    for each in (network, keeping):
        each(x).square().sum().backward()
    assert torch.equal(x, before)
    assert torch.equal(network(x), keeping(x))
    for one, other in zip(network.parameters(), keeping.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
