"""Which channels of an image tell about which, and on how much of it relations are fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.references.context import context
from pipeline.references.relation import fit_relation
from pipeline.selftest import guides, relations
from pipeline.selftest.guides import _first_look, _sampled, _siblings, _tiles, choose_siblings, sibling_sets

N = 4000


def channels(seed=0):
    """Six channels: 0, 2 and 4 alike, 1, 3 and 5 alike, as in series whose volumes alternate."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(0, 1, (2, N))
    return np.stack([kinds[k % 2] + rng.normal(0, 0.1 + 0.05 * k, N) for k in range(6)]).astype(np.float32)


def test_channels_that_vary_alike_and_are_observed_there_are_chosen_first():
    """Those of its own kind lead; one that is lost at the same place is left out."""
    values = channels()
    hole = np.zeros(values.shape, bool)
    hole[2, :500] = True
    hole[4, :500] = True
    valid = ~hole
    chosen = choose_siblings(2, values, valid, hole)
    assert chosen == (0, 1, 3, 5)
    assert choose_siblings(0, values, valid, hole) == ()


def test_partly_lost_channels_are_dropped_until_the_rest_is_observed_together():
    """Each of them is there at 92 percent of the holes, but at other ones."""
    values = channels(1)
    hole = np.zeros(values.shape, bool)
    hole[0, :1000] = True
    valid = ~hole
    for j in range(1, 6):
        valid[j, (j - 1) * 80 : j * 80] = False
    chosen = choose_siblings(0, values, valid, hole)
    assert 2 in chosen
    assert valid[list(chosen)][:, hole[0]].all(axis=0).mean() >= 0.8


def test_a_channel_that_is_often_there_is_better_than_none():
    """No channel is observed at nine tenths of the holes: the best of the rest."""
    values = channels(2)
    hole = np.zeros(values.shape, bool)
    hole[0, :1000] = True
    valid = ~hole
    valid[1:, :900] = False
    valid[2, 300:900] = True
    assert choose_siblings(0, values, valid, hole) == (2,)
    valid[1:, :900] = False
    assert choose_siblings(0, values, valid, hole) == ()


def _observed(shares: list[list[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return channels of which the first has 100 holes of 1000 pixels; the others miss these ranges of the holes."""
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, 1000) + rng.normal(0, 0.1, (1 + len(shares), 1000))
    hole = np.zeros(values.shape, bool)
    hole[0, :100] = True
    valid = ~hole
    for k, ranges in enumerate(shares, start=1):
        for start, stop in ranges:
            valid[k, start:stop] = False
    return values.astype(np.float32), valid, hole


def test_six_channels_tell_about_one():
    """The ones that vary most alike; more say the same again."""
    assert len(choose_siblings(0, *_observed([[]] * 9))) == 6
    assert len(choose_siblings(0, *_observed([[]] * 5))) == 5


@pytest.mark.parametrize(("missing", "chosen"), [(10, (1, 2)), (11, (2,))])
def test_a_sibling_is_there_at_nine_holes_in_ten(missing, chosen):
    """One that misses more is left out as long as another does not."""
    assert choose_siblings(0, *_observed([[(0, missing)], []])) == chosen


@pytest.mark.parametrize(("missing", "siblings"), [(6, 3), (7, 2)])
def test_siblings_are_there_together_at_eight_holes_in_ten(missing, siblings):
    """Three that miss 7 % each, at other holes, are one too many; with 6 % they may stay."""
    shares = [[(20 * k, 20 * k + missing)] for k in range(3)]
    assert len(choose_siblings(0, *_observed(shares))) == siblings


@pytest.mark.parametrize(("missing", "chosen"), [(80, (1,)), (81, ())])
def test_the_only_sibling_is_there_at_one_hole_in_five(missing, chosen):
    """Less is not worth its seams."""
    assert choose_siblings(0, *_observed([[(0, missing)]])) == chosen


@pytest.mark.parametrize(("crossing", "sets"), [(0, 1), (1, 1), (2, 2), (8, 2)])
def test_holes_that_cross_those_of_a_sibling_have_siblings_of_their_own(crossing, sets):
    """Over one hole in a hundred; they are observed there."""
    values, valid, hole = _observed([[(0, crossing)], [], []])
    found = sibling_sets(0, values, valid, hole)
    assert found == [(1, 2, 3), (2, 3)][:sets]


def test_a_channel_has_three_sets_of_siblings_at_most():
    """Each relation costs a fit; what is left of the holes is filled from the channel itself."""
    values, valid, hole = _observed([[(0, 25 * k), (25 * k + 25, 100)] for k in range(4)])
    found = sibling_sets(0, values, valid, hole)
    assert sorted(found) == sorted(set(found))
    assert [len(channels) for channels in found] == [1, 1, 1]
    assert sibling_sets(1, values, valid, hole) == []


def test_what_all_channels_lost_does_not_count_against_siblings():
    """A cloud over most of the image in all bands says nothing of who tells about a few lines that one of them lost."""
    values, valid, hole = _observed([[], [], []])
    valid[:, 200:], hole[:, 200:] = False, True
    assert sibling_sets(0, values, valid, hole) == [(1, 2, 3)]
    assert sibling_sets(1, values, valid, hole) == []


@dataclass
class _Image:
    """Counts the windows that are read of a large image without any value."""

    shape: tuple[int, ...]
    guides: tuple[Any, ...] = (None,)

    def __post_init__(self) -> None:
        self.read: list[Box] = []
        space = SimpleNamespace(shape=self.shape, ndim=len(self.shape))
        self.source = SimpleNamespace(space=space, n_channels=1, read=lambda box: np.zeros((1, *box.shape)))
        self.image = SimpleNamespace(channels=(0,))

    def window(self, box: Box) -> tuple[Any, tuple[Any, ...]]:
        """Return a window of zeros with one guide, observed all over."""
        self.read.append(box)
        thin = (1, *box.shape)
        flat = SimpleNamespace(values=np.zeros(thin, np.float32), valid=np.ones(thin, bool), hole=np.zeros(thin, bool))
        return flat, (flat,)


@pytest.mark.parametrize(
    ("shape", "edge", "windows"),
    [
        ((512 * 6, 512 * 8), 512, 48),
        ((512 * 7, 512 * 7), 512, 25),
        ((64 * 4, 64 * 4, 64 * 4), 64, 64),
        ((64 * 5, 64 * 13, 64), 64, 33),
    ],
)
def test_relations_look_at_a_few_windows_all_over_the_image(shape, edge, windows):
    """At all of 48 (64 in volumes), at every second one of more; of these at a regular grid of pixels."""
    image = _Image(shape)
    grids = [grid for _, _, grid in _tiles(image, 1000)]
    assert len(image.read) == windows
    assert {n for box in image.read for n in box.shape} == {edge}
    pixels = sum(math.prod(len(range(*cut.indices(edge))) for cut in grid) for grid in grids)
    assert 1000 <= pixels <= 4000


@pytest.mark.parametrize(
    ("shape", "edge", "windows"), [((512, 768), 256, 6), ((256, 1792), 256, 4), ((64, 64, 64 * 6), 64, 6)]
)
def test_misregistration_is_measured_on_six_windows(shape, edge, windows, monkeypatch):
    """It is one shift for the whole image."""
    monkeypatch.setattr(guides, "misregistration", len)
    image = _Image(shape)
    assert _first_look(image)[0] == [windows]
    assert {n for box in image.read for n in box.shape} == {edge}


def test_a_relation_has_enough_pixels_to_be_fitted_on():
    """Twice 30,000 are looked at, as some are holes; not many more."""
    image = _Image((1024, 1024))
    values, valid, hole = _sampled(image)
    assert values.shape == valid.shape == hole.shape
    assert 60_000 <= values.size <= 120_000


@pytest.mark.parametrize(("channels", "samples"), [(2, 30_000), (10, 6_000), (24, 3_000)])
def test_channels_share_the_pixels_that_siblings_are_fitted_on(channels, samples, monkeypatch):
    """Sixty thousand in all, as each channel has a fit of its own; three thousand each at least."""
    rng = np.random.default_rng(0)
    values = (rng.normal(0, 1, (48, 48)) + rng.normal(0, 0.1, (channels, 48, 48))).astype(np.float32)
    hole = np.zeros(values.shape, bool)
    hole[np.arange(channels), np.arange(channels)] = True
    window = Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0))
    image = _Image((48, 48))
    monkeypatch.setattr(image, "window", lambda _: (window, ()))
    wanted = []

    def tiles(scene: _Image, n: int) -> Any:
        wanted.append(n)
        return _tiles(scene, n)

    monkeypatch.setattr(guides, "_tiles", tiles)
    unrelated = SimpleNamespace(clusters=None, ridge=SimpleNamespace(samples=0))
    monkeypatch.setattr(relations, "fit_relation", lambda *_, **__: unrelated)
    assert _siblings(image) is None
    assert wanted == [30_000, samples]


@pytest.mark.parametrize(
    ("roles", "robust"),
    [
        (("auxiliary", "auxiliary"), [False, False, False]),
        (("reference", "auxiliary"), [True, True, False]),
        (("reference", "reference"), [True, True, True]),
    ],
)
def test_only_relations_without_a_date_count_all_pixels_alike(roles, robust, monkeypatch):
    """Dates have clouds and change, alone and together with a contrast; contrasts have kinds of tissue."""
    scene = _with_two_guides(roles)
    fitted = []

    def fit(*given: Any, robust: bool, **options: Any) -> Any:
        fitted.append(robust)
        return fit_relation(*given, robust=robust, **options)

    monkeypatch.setattr(relations, "fit_relation", fit)
    related = [guide.related() for guide in guides.fitted_guides(scene, ["first", "second"])]
    assert len(related) == 3
    assert fitted == robust


@pytest.mark.parametrize(
    ("little", "clear", "maps", "carries"),
    [(False, False, 3, True), (False, True, 3, True), (True, False, 2, False), (True, True, 2, True)],
)
def test_where_nearly_all_is_hidden_a_map_is_no_more_than_a_level_unless_what_is_left_is_clear(
    little, clear, maps, carries
):
    """Dates lead by themselves there; beside haze nothing is carried into the holes, elsewhere as everywhere."""
    found = guides.fitted_guides(_with_two_guides(("reference",) * 2), ["first", "second"], little=little, clear=clear)
    assert len(found) == maps
    alone = found[-2:]
    assert all(guide.leads == little for guide in alone)
    relations = [guide.related() for guide in alone]
    assert all(relation.carries == carries and bool(relation.clusters) == carries for relation in relations)


def _with_two_guides(roles: tuple[str, str]) -> Any:
    """Return an image of one channel with a hole and two guides, as far as relations look at it."""
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, (3, 1, 64, 64)).astype(np.float32)
    seen, hole = np.ones((1, 64, 64), bool), np.zeros((1, 64, 64), bool)
    hole[:, 20:30, 20:30] = True
    window = Window(values=values[0], valid=~hole, hole=hole, spacing=(1.0, 1.0))
    looks = tuple(SimpleNamespace(values=part, valid=seen) for part in values[1:])
    space = SimpleNamespace(shape=(64, 64), ndim=2)
    source = SimpleNamespace(space=space, n_channels=1, read=lambda box: np.zeros((1, *box.shape)))
    return SimpleNamespace(
        source=source,
        image=SimpleNamespace(channels=(0,)),
        guides=(SimpleNamespace(source=source),) * 2,
        job=SimpleNamespace(guides=[SimpleNamespace(role=role) for role in roles]),
        has_siblings=False,
        window=lambda _: (window, looks),
    )


def test_a_window_without_a_pixel_of_both_changes_no_relation():
    """One all under cloud, or outside of a head: it ended runs with a reference whose kinds of cover have maps."""
    rng = np.random.default_rng(4)
    shape, grid = (1, 96, 96), (slice(0, None, 1), slice(0, None, 1))
    everywhere, nowhere = np.ones(shape[1:], bool), np.zeros(shape[1:], bool)
    sample = relations.Sampled()
    for _ in range(3):
        cover = np.kron(rng.integers(0, 4, (1, 12, 12)), np.ones((1, 8, 8)))
        guide = (cover + 0.3 * rng.normal(0, 1, shape)).astype(np.float32)
        image = (np.where(cover > 1, 3 - guide, guide**2) + 0.1 * rng.normal(0, 1, shape)).astype(np.float32)
        around = context(guide, everywhere, (1.0, 1.0), grid)
        sample.add(image, around, everywhere, grid, (1.0, 1.0))
    relation = sample.related(1)
    assert relation.clusters is not None
    assert relation.reach is not None
    sample.add(image, around, nowhere, grid, (1.0, 1.0))
    assert sample.related(1) == relation
