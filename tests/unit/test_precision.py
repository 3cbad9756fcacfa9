"""The network in bfloat16: where it is allowed, who decides, and that nothing else depends on it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError, PlanRefused
from pipeline.execute import _checks
from pipeline.execute.base import Work
from pipeline.fills.base import FillSpec
from pipeline.models import autoencoder
from pipeline.models._unet import ResidualUNet
from pipeline.models.base import AUTO, BFLOAT16, FLOAT32, Patch, Prediction, require_precision
from pipeline.numerics.situation import flat
from pipeline.restore.recipe import Recipe, narrowed
from pipeline.selftest.network import refined_by
from pipeline.selftest.precision import unless_small, with_precision
from pipeline.synthetic.noise import fractal
from pipeline.system.bfloat16 import has_bfloat16
from tests.helpers import blobs, command, layer, pixels, run_config, smooth, tiny_weights, use_everything, write_image
from tests.support_trials import refined, trials_of

in_hardware = pytest.mark.skipif(not has_bfloat16(), reason="this processor does not compute in bfloat16")
RECIPE = Recipe(
    fill=FillSpec("nearest"),
    network=flat(0.5),
    network_precision=(AUTO, AUTO),
    floor=(1, 1),
    typical=(100, 100),
    low=(-99, -99),
    high=(99, 99),
)


@pytest.fixture
def _old_processor(monkeypatch):
    """A processor without such arithmetic."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)


class Rounding:
    """A network that says 0 in float32, and in bfloat16 is off by `shift` in a share of the columns."""

    blind = True
    """Nothing has to be observed for it."""

    def __init__(self, shift: float, columns: int) -> None:
        self.shift, self.columns = shift, columns

    def predict(self, patches: list[Patch]) -> list[Prediction]:
        """Return one prediction a patch."""
        said = []
        for patch in patches:
            mean = np.zeros_like(patch.filled)
            if patch.precision == (BFLOAT16,) * len(mean):
                mean[..., : self.columns] = self.shift
            said.append(Prediction(mean=mean, scale=np.full_like(mean, 100)))
        return said


@pytest.mark.parametrize(
    ("quantum", "shift", "columns", "expected"),
    [
        (1.0, 1.9, 64, BFLOAT16),  # half a network that moves by 1.9 moves the estimate by 0.95 of a stored step
        (1.0, 2.1, 64, FLOAT32),
        (1.0, 2.1, 1, FLOAT32),  # one pixel in 64 is more than one in a thousand
        (1.0, 2.1, 0, BFLOAT16),
        (0.0, 1.9, 64, BFLOAT16),  # continuous values: one percent of a standard error of 100
        (0.0, 2.1, 64, FLOAT32),
        (4.0, 7.9, 64, BFLOAT16),
    ],
)
def test_it_is_used_where_estimates_move_by_less_than_a_step(quantum, shift, columns, expected):
    """On 99.9 % of the hidden pixels, with the weight that the network has there."""
    trials = trials_of(np.ones((2, 2, 64, 64)))
    found = with_precision(Rounding(shift, columns), refined(trials, 0.0), replace(RECIPE, quantum=quantum))
    assert found.network_precision == (expected, expected)


def test_each_channel_has_its_own():
    """The network is tested in one channel a window; where values scatter more, it errs by more of their steps."""
    proposals = refined(trials_of(np.ones((2, 1, 64, 64))), 0.0)
    for quantum, expected in ((1, (BFLOAT16, FLOAT32)), (0, (BFLOAT16, BFLOAT16))):
        recipe = replace(RECIPE, quantum=quantum, typical=(100, 900))
        assert with_precision(Rounding(1.0, 64), proposals, recipe).network_precision == expected
    drafts = narrowed(replace(RECIPE, network_precision=(BFLOAT16, FLOAT32)), [1])
    assert drafts.network_precision == (FLOAT32,)


@pytest.mark.parametrize("asked", [FLOAT32, BFLOAT16])
def test_a_precision_that_was_asked_for_is_not_looked_at(asked):
    """The network is shown nothing."""
    recipe = replace(RECIPE, network_precision=(asked, asked))
    assert with_precision(SimpleNamespace(), refined(trials_of(np.ones((2, 1, 8, 8))), 0.0), recipe) is recipe


def test_small_images_are_not_worth_a_decision():
    """It looks at all windows once more; what was asked for stays."""
    assert unless_small(RECIPE, values=399, tested=100).network_precision == (FLOAT32, FLOAT32)
    assert unless_small(RECIPE, values=400, tested=100) is RECIPE
    asked = replace(RECIPE, network_precision=(BFLOAT16, BFLOAT16))
    assert unless_small(asked, values=1, tested=100) is asked


class Listening(Rounding):
    """A network that keeps the precisions that it is asked for."""

    def __init__(self, precision: str) -> None:
        super().__init__(0.0, 0)
        self.precision, self.asked = precision, set[tuple[str, ...] | None]()

    def predict(self, patches: list[Patch]) -> list[Prediction]:
        """Return one prediction a patch."""
        self.asked.update(patch.precision for patch in patches)
        return super().predict(patches)


@pytest.mark.parametrize(
    ("ndim", "precision", "small", "expected"),
    [
        (3, AUTO, AUTO, BFLOAT16),
        (3, AUTO, FLOAT32, BFLOAT16),  # too small for a decision: blocks compute in float32
        (3, FLOAT32, FLOAT32, FLOAT32),
        (3, BFLOAT16, BFLOAT16, BFLOAT16),
        (2, AUTO, AUTO, AUTO),
        (2, AUTO, FLOAT32, FLOAT32),
    ],
)
def test_volumes_are_compared_in_it_where_the_network_may_choose(ndim, precision, small, expected):
    """What a self-test only compares need not be as exact as what is restored; what it asks of blocks stays."""
    trials, network = trials_of(np.ones((2, 1, *(8,) * ndim))), Listening(precision)
    recipe = replace(RECIPE, network_precision=(small, small))
    refined_by(network, trials, recipe)
    assert network.asked == {(expected,)}


def _patch(shape: tuple[int, ...], seed: int) -> Patch:
    rng = np.random.default_rng(seed)
    filled = np.stack([1000 + 200 * fractal(rng, shape, longest=40) for _ in range(2)])
    valid = rng.random(filled.shape) > 0.3
    ones = np.full(2, 5, np.float32)
    return Patch(filled=filled, valid=valid, spacing=(1.0,) * len(shape), floor=ones, precision=(BFLOAT16,) * 2)


@in_hardware
@pytest.mark.parametrize(("ndim", "shape"), [(2, (40, 36)), (3, (14, 12, 16))])
def test_company_changes_no_byte_of_it(tmp_path, ndim, shape):
    """Alone, together, beside patches in float32, from a model opened anew: the same bytes; other ones in float32."""
    weights = tiny_weights(tmp_path, ndim)
    model, other = (autoencoder.open_model(weights, ndim=ndim, device="cpu", options={}) for _ in range(2))
    a, b = _patch(shape, 1), _patch(shape, 2)
    fine = replace(a, precision=(FLOAT32, AUTO))
    (alone,) = model.predict([a])
    together = other.predict([b, fine, a])
    assert np.array_equal(alone.mean, together[2].mean)
    assert np.array_equal(alone.scale, together[2].scale)
    with model.remembering():
        model.predict([replace(fine, views=1)])
        assert np.array_equal(model.predict([a])[0].mean, alone.mean), "what is remembered is of one precision"
    moved = np.abs(alone.mean - together[1].mean)[~a.valid]
    step = np.abs(together[1].mean - a.filled)[~a.valid]
    assert 0 < moved.mean() < 0.02 * step.mean()
    (mixed,) = model.predict([replace(a, precision=(BFLOAT16, FLOAT32))])
    assert np.array_equal(mixed.mean[0], alone.mean[0])
    assert np.array_equal(mixed.mean[1], together[1].mean[1])


@in_hardware
def test_its_first_and_last_convolution_stay_exact():
    """Half of the rounding errors would arise there; the network it was made of is not touched."""
    torch.manual_seed(0)
    network = ResidualUNet(2, (8, 12)).eval()
    lowered = network.lowered()
    kinds = {name: {p.dtype for p in part.parameters()} for name, part in lowered.named_children()}
    assert kinds["stem"] == kinds["residual_head"] == {torch.float32}
    assert all(found == {torch.bfloat16} for name, found in kinds.items() if name not in ("stem", "residual_head"))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    with torch.inference_mode():
        assert lowered(torch.zeros(1, 3, 8, 8)).dtype == torch.float32


@pytest.mark.usefixtures("_old_processor")
def test_without_the_hardware_it_is_never_computed(tmp_path):
    """`auto` is float32; asked for, or taken over from a plan, it is refused with the machine and what to do."""
    weights = tiny_weights(tmp_path)
    assert autoencoder.open_model(weights, ndim=2, device="cpu", options={}).precision == FLOAT32
    with pytest.raises(PlanRefused, match=r"does not compute in bfloat16.*leave precision out"):
        autoencoder.open_model(weights, ndim=2, device="cpu", options={"precision": BFLOAT16})
    with pytest.raises(PlanRefused, match=r"image\.tif: its run computes .* in bfloat16.*go on where it was begun"):
        require_precision((FLOAT32, BFLOAT16), "image.tif")
    require_precision((FLOAT32,), "image.tif")


@pytest.mark.parametrize("value", ["half", True, None])
def test_unknown_precisions_are_refused(tmp_path, value):
    """With those that there are."""
    with pytest.raises(ConfigError, match=r"precision.*auto, float32 or bfloat16"):
        autoencoder.open_model(tiny_weights(tmp_path), ndim=2, device="cpu", options={"precision": value})


def test_a_gpu_stays_with_float32():
    """Nothing was measured there."""
    assert autoencoder._precision("cuda", {}) == FLOAT32
    with pytest.raises(PlanRefused, match="a GPU computes in float32"):
        autoencoder._precision("cuda:1", {"precision": BFLOAT16})


def test_workers_with_other_processors_are_named(monkeypatch):
    """Before anything is computed; where the network is float32 anyway nobody asks."""
    own = _checks._here("/shared/work") | {"plan": True, "writes": True}
    client = SimpleNamespace(run=lambda *_, **__: {"tcp://10.0.0.7:1234": own})
    work = Work(workdir="/shared/work", digest="", blocks=(), in_bfloat16=True)
    with pytest.raises(PlanRefused, match=r"10\.0\.0\.7.* does not compute in bfloat16.*precision: float32"):
        _checks.check_workers(client, work)
    _checks.check_workers(client, replace(work, in_bfloat16=False))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert _checks._here("/shared/work", look_for_bfloat16=True)["bfloat16"]


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Return the config of a raster in several blocks; the network has a part in it."""
    use_everything(monkeypatch)
    image = write_image(tmp_path / "image.tif", smooth((2, 61, 83)))
    mask = write_image(tmp_path / "mask.tif", blobs((61, 83), n=6, radius=5)[None])
    model = {"kind": "autoencoder", "weights": str(tiny_weights(tmp_path))}
    return run_config(tmp_path, image, mask, model=model, patch={"size": 32, "overlap": 8})


def _restored(config, name, *settings):
    target = config.parent / name
    more = [part for one in (f"output.directory={target}", *settings) for part in ("--set", one)]
    outcome = command("run", config, "--quiet", *more)
    assert outcome.code == 0, outcome.err
    record = json.loads((target / "image" / "record.json").read_text())
    return {role: pixels(layer(target / "image", role)) for role in ("restored", "uncertainty", "source")}, record


@in_hardware
def test_cutting_changes_no_byte_of_it(config):
    """One result for any block size and batch; the record says in which precision."""
    lowered = "model.options={precision: bfloat16}"
    one, record = _restored(config, "one", lowered)
    assert record["recipe"]["network_precision"] == [BFLOAT16, BFLOAT16]
    assert record["hardware"]["precision"] == [BFLOAT16]
    other, _ = _restored(config, "two", lowered, "compute.block=[25, 40]", "compute.batch_size=3")
    assert all(np.array_equal(one[role], other[role]) for role in one)


@in_hardware
def test_a_run_goes_on_in_the_precision_it_began_with(config, monkeypatch):
    """Its plan says it: on a processor without it is refused at once, on the first one it ends in the same bytes."""
    monkeypatch.setattr("pipeline.selftest.precision._ALIKE", 0.0)
    monkeypatch.setattr("pipeline.selftest.precision._WORTH", 0)
    expected, record = _restored(config, "whole")
    assert record["recipe"]["network_precision"] == [BFLOAT16] * 2, "decided by the self-test"
    target = config.parent / "again"
    again = ("run", config, "--quiet", "--set", f"output.directory={target}")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.execute.serial.attempt", lambda *_: "block 0: lost")
        assert command(*again, "--set", "compute.executor=serial").code == 5
    with monkeypatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
        outcome = command(*again)
        assert outcome.code == PlanRefused.exit_code, outcome.err
        assert "go on where it was begun" in outcome.err
    found, record = _restored(config, "again")
    assert record["recipe"]["network_precision"] == [BFLOAT16] * 2
    assert all(np.array_equal(found[role], expected[role]) for role in found)
