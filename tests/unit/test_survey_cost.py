"""How long a run takes: counts of work times the speed of this machine, with what cannot be known as a span."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from pipeline.image.scene import Clock, open_scene
from pipeline.models.base import BFLOAT16, FLOAT32
from pipeline.numerics.situation import flat
from pipeline.plan.cost import Cost, Span
from pipeline.survey import cost
from pipeline.survey.counts import block_counts, likely_consulted
from pipeline.survey.survey import Survey, outline
from tests.helpers import blobs, order_of, run_config, smooth, tiny_weights, write_image


@pytest.fixture(autouse=True)
def steady() -> Iterator[None]:
    """Be a machine of known speed, so that only counts are compared."""
    with (
        mock.patch.object(cost, "_speed", return_value=1.0),
        mock.patch.object(cost, "_look_seconds", return_value=1e-5),
    ):
        yield


def _outline(folder: Path, n: int, *, bands: int = 1, holes: int = 3, **sections: object) -> Survey:
    folder.mkdir()
    image = write_image(folder / "image.tif", smooth((bands, n, n)))
    mask = write_image(folder / "mask.tif", blobs((n, n), n=holes)[None])
    if sections.pop("network", False):
        weights = tiny_weights(folder / "weights")
        sections["model"] = {"kind": "autoencoder", "weights": str(weights)}
    sections = {"patch": {"size": 256}, **sections}
    return outline(order_of(run_config(folder, image, mask, **sections)).job)


def _likely(found: Survey) -> float:
    assert found.cost is not None
    return found.cost.total().likely


def test_more_work_takes_longer(tmp_path: Path) -> None:
    """Larger images, more bands, a reference, a network: each adds to the time."""
    small = _outline(tmp_path / "a", 64)
    other = write_image(tmp_path / "other.tif", smooth((1, 64, 64), seed=1))
    more = [
        _outline(tmp_path / "b", 160, holes=20),
        _outline(tmp_path / "c", 64, bands=4),
        _outline(tmp_path / "d", 64, input={"references": [{"path": str(other)}]}),
        _outline(tmp_path / "e", 64, network=True),
    ]
    assert all(_likely(found) > _likely(small) for found in more)


def test_where_nothing_is_hidden_little_is_done(tmp_path: Path) -> None:
    """Such blocks are only moved: a nearly empty image takes less time than one with holes all over it."""
    costs = []
    for name, step in (("a", 256), ("b", 20)):
        (tmp_path / name).mkdir()
        hole = np.zeros((1, 256, 256), dtype=np.uint8)
        hole[0, ::step, ::step] = 1
        image = write_image(tmp_path / name / "image.tif", smooth((1, 256, 256)))
        mask = write_image(tmp_path / name / "mask.tif", hole)
        sections = {"patch": {"size": 64}, "compute": {"block": 64}}
        costs.append(outline(order_of(run_config(tmp_path / name, image, mask, **sections)).job).cost)
    few, many = costs
    assert few is not None
    assert many is not None
    assert few.files.likely < many.files.likely
    assert few.blocks.likely < many.blocks.likely


def test_what_the_self_test_decides_is_the_span(tmp_path: Path) -> None:
    """Before it, blocks may take anything from no network to all its looks; after it that is known."""
    found = _outline(tmp_path / "a", 96, network=True)
    assert found.cost is not None
    blocks = found.cost.blocks
    assert blocks.low < blocks.likely < blocks.high
    ahead = cost.Forecast(cost=found.cost, look_s=1e-5, extent=(96, 96), values=float(96 * 96), seen=float(96 * 96))
    without = ahead.decided(found.plan, None).blocks
    model = mock.Mock(views=2)
    used = replace(found.plan, recipe=replace(found.plan.recipe, network=flat(0.5)))
    once = replace(used, recipe=replace(used.recipe, network_views=1))
    twice = ahead.decided(used, model).blocks
    assert without.likely < ahead.decided(once, model).blocks.likely < twice.likely
    assert twice.high / twice.low < blocks.high / blocks.low


def test_looks_in_bfloat16_are_timed_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One band of two is looked at in it: its share of the looks takes the time that they take."""
    found = _outline(tmp_path / "a", 96, network=True)
    assert found.cost is not None
    ahead = cost.Forecast(cost=found.cost, look_s=1e-2, extent=(96, 96), values=float(96 * 96), seen=float(96 * 96))
    monkeypatch.setattr(cost, "_look_seconds", lambda *asked: {BFLOAT16: 4e-3}[asked[-1]])
    recipe = replace(found.plan.recipe, network=flat(0.5), network_views=1, network_precision=(BFLOAT16, FLOAT32))
    mixed = ahead.decided(replace(found.plan, recipe=recipe), mock.Mock()).blocks.likely
    fine = replace(recipe, network_precision=(FLOAT32, FLOAT32))
    whole = ahead.decided(replace(found.plan, recipe=fine), mock.Mock()).blocks.likely
    assert whole - mixed == pytest.approx(96 * 96 * 3e-3)


def test_an_image_without_holes_has_no_cost(tmp_path: Path) -> None:
    """Nothing is restored, so nothing is foretold."""
    assert _outline(tmp_path / "a", 64, holes=0).cost is None


def test_blocks_are_shared_by_workers() -> None:
    """Only they are: survey and files are made in one process."""
    every = Cost(
        opened=Span.around(3, 1.4), survey=Span.around(10, 1.3), blocks=Span.around(80, 2), files=Span.around(2, 1.3)
    )
    assert every.total(4).likely == 3 + 10 + 20 + 2
    assert every.to_go(4).likely == 10 + 20 + 2
    assert every.to_go(1).high == pytest.approx(13 + 160 + 2.6)


def test_what_is_left_goes_at_the_pace_of_what_is_over() -> None:
    """On a machine that is shared all takes longer; a short stage says little, and what was over before stays."""
    ten = Span.around(10, 1.4)
    left = Cost(opened=ten, survey=ten, blocks=ten, files=ten)
    assert left.paced(95, 195) == replace(left, survey=ten.times(2), blocks=ten.times(2), files=ten.times(2))
    assert left.paced(0.5, 5).to_go().likely == pytest.approx(30 * 10 / 5.5)
    assert left.paced(7, 7) == left
    ahead = cost.Forecast(
        cost=left, look_s=0, extent=(64, 64), values=0, seen=0, looking=Span(likely=5), testing=Span(likely=10)
    )
    assert ahead.at_pace(left, {"masks": 90.0}) == left
    assert ahead.at_pace(left, {"masks": 90.0, "doubt": 15.0}) == left.paced(5, 15)
    assert ahead.at_pace(left, {"doubt": 15.0, "self-test": 20.0}) == left.paced(15, 35)


def test_larger_holes_take_longer_to_test(tmp_path: Path) -> None:
    """As many hole pixels in one hole are hidden at once; specks are hidden up to a share of the window."""
    seconds = []
    for name, edge, count in (("a", 2, 256), ("b", 8, 16), ("c", 24, 2)):
        hole = np.zeros((1, 96, 96), dtype=np.uint8)
        step = 96 // round(count**0.5)
        for k in range(count):
            row, column = divmod(k, 96 // step)
            hole[0, row * step : row * step + edge, column * step : column * step + edge] = 1
        (tmp_path / name).mkdir()
        image = write_image(tmp_path / name / "image.tif", smooth((1, 96, 96)))
        found = outline(
            order_of(run_config(tmp_path / name, image, write_image(tmp_path / name / "mask.tif", hole))).job
        )
        assert found.cost is not None
        seconds.append(found.cost.survey.likely)
    assert seconds == sorted(seconds)
    assert seconds[2] > seconds[0]


def test_a_reference_takes_what_there_is_to_ask_it(tmp_path: Path) -> None:
    """Not so many seconds each: in a larger image, and of more bands, it takes longer, and two are asked together."""
    added = {}
    for name, edge, bands, references in (("a", 64, 1, 1), ("b", 64, 1, 2), ("c", 64, 4, 1), ("d", 192, 1, 1)):
        (tmp_path / name).mkdir()
        others = [
            {"path": str(write_image(tmp_path / name / f"other{k}.tif", smooth((bands, edge, edge), seed=k + 1)))}
            for k in range(references)
        ]
        without = _outline(tmp_path / name / "without", edge, bands=bands)
        beside = _outline(tmp_path / name / "beside", edge, bands=bands, input={"references": others})
        added[name] = _likely(beside) - _likely(without)
    assert added["a"] < added["b"] < 1.5 * added["a"]
    assert added["a"] < added["c"]
    assert added["a"] < added["d"]


def test_no_more_is_hidden_than_is_observed(tmp_path: Path) -> None:
    """Of an image that is mostly hidden hardly anything can be: its test takes less than that of half a hole."""
    seconds = []
    for name, edge in (("a", 60), ("b", 90)):
        (tmp_path / name).mkdir()
        hole = np.zeros((1, 96, 96), dtype=np.uint8)
        hole[0, :edge, :edge] = 1
        image = write_image(tmp_path / name / "image.tif", smooth((1, 96, 96)))
        mask = write_image(tmp_path / name / "mask.tif", hole)
        found = outline(order_of(run_config(tmp_path / name, image, mask, patch={"size": 96})).job)
        assert found.cost is not None
        seconds.append(found.cost.survey.likely)
    assert seconds[1] < seconds[0]


def test_whether_haze_was_found_is_known_after_the_survey(tmp_path: Path) -> None:
    """What it adds where references are asked counts in part before, and wholly or not at all after."""
    (tmp_path / "other").mkdir()
    other = write_image(tmp_path / "other" / "other.tif", smooth((1, 96, 96), seed=1))
    found = _outline(tmp_path / "a", 96, input={"references": [{"path": str(other)}]})
    assert found.cost is not None
    counts = [block_counts(found.plan, 1e6, related, hazy) for related, hazy in ((1, 0.0), (1, 1.0), (0, 0.0))]
    clear, hazy, alone = (cost._seconds(some) for some in counts)
    assert alone < clear < hazy
    ahead = cost.Forecast(cost=found.cost, look_s=0.0, extent=(96, 96), values=1e6, seen=0.0)
    recipe = mock.Mock(consulted=[(0, None)], network_precision=(), network_weight=0.0)
    plans = [
        mock.Mock(wraps=found.plan, recipe=recipe, hazy=count, blocks=found.plan.blocks, ndim=2) for count in (0, 9)
    ]
    assert [ahead.decided(plan, None).blocks.likely for plan in plans] == pytest.approx([clear, hazy])


def test_each_further_relation_takes_longer_than_the_first(tmp_path: Path) -> None:
    """Two that are asked of the same pixels are weighed against one another, too."""
    found = _outline(tmp_path / "a", 96)
    none, one, two, three = (cost._seconds(block_counts(found.plan, 1e6, related, 0.0)) for related in range(4))
    assert two - one == pytest.approx(three - two)
    assert two - one > one - none > 0


def test_what_the_look_finds_corrects_what_is_left(tmp_path: Path) -> None:
    """Doubted pixels are unknowns of the coarse fill, haze takes time in blocks, and the look itself is over."""
    (tmp_path / "other").mkdir()
    other = write_image(tmp_path / "other" / "other.tif", smooth((1, 96, 96), seed=1))
    found = _outline(tmp_path / "a", 96, input={"references": [{"path": str(other)}]})
    image = write_image(tmp_path / "image.tif", smooth((1, 96, 96)))
    mask = write_image(tmp_path / "mask.tif", blobs((96, 96), n=3)[None])
    path = run_config(tmp_path, image, mask, input={"references": [{"path": str(other)}]})
    scene, _ = open_scene(order_of(path).job, Clock())
    ahead = cost.forecast(scene, found.plan, None)
    clear = ahead.looked(scene, found.plan).cost
    found_much = replace(scene, states=replace(scene.states, doubted=2000, hazy=50))
    hazy = ahead.looked(found_much, found.plan).cost
    assert clear.survey.likely < ahead.cost.survey.likely
    assert hazy.survey.likely == pytest.approx(clear.survey.likely + 2000 * cost.SECONDS["coarse 2"])
    assert clear.blocks.likely < ahead.cost.blocks.likely < hazy.blocks.likely


def _with_dates(folder: Path, n: int, masks: int) -> Survey:
    """Return the outline of an image beside `n` dates, of which the first `masks` have masks of their own."""
    folder.mkdir()
    files = [str(write_image(folder / f"date{k}.tif", smooth((1, 96, 96), seed=k + 1))) for k in range(n)]
    cloud = str(write_image(folder / "cloud.tif", blobs((96, 96), n=2)[None]))
    own = {"mask": [{"kind": "raster", "path": cloud}]}
    references = [{"path": path} | (own if k < masks else {}) for k, path in enumerate(files)]
    return _outline(folder / "run", 96, input={"references": references})


def test_dates_with_clouds_of_their_own_take_more_looks(tmp_path: Path) -> None:
    """Each may be blind beside the holes, so that one more look without it is needed, and what it hides others tell."""
    costs = [_with_dates(tmp_path / str(k), 2, k).cost for k in range(3)]
    clear, one, both = (found for found in costs if found is not None)
    assert clear.survey.likely < one.survey.likely < both.survey.likely
    assert clear.survey.high - clear.survey.likely < both.survey.high - both.survey.likely
    assert clear.blocks.likely < one.blocks.likely < both.blocks.likely


def test_relations_are_counted_by_what_masks_leave(tmp_path: Path) -> None:
    """Of two cloudy dates both together and each alone; of three, three sets and each alone; a clear one is in all."""
    counts = {}
    for n, masked in ((1, 0), (3, 0), (1, 1), (2, 2), (3, 3), (2, 1), (3, 1), (40, 40)):
        guides = [mock.Mock(mask=mock.Mock(parts=("clouds",) * (k < masked))) for k in range(n)]
        counts[n, masked] = likely_consulted(mock.Mock(guides=guides, has_siblings=False))
    assert counts == {(1, 0): 1, (3, 0): 1, (1, 1): 1, (2, 2): 3, (3, 3): 6, (2, 1): 2, (3, 1): 2, (40, 40): 43}
