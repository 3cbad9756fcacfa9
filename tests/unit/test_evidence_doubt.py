"""Which observed pixels are doubted: haze and shadow the mask missed, never changed ground or clean images."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence.doubt import Smooth, standardised
from pipeline.evidence.ground import fit_ground, fit_level
from pipeline.evidence.learn import _among_what_is_left, find_doubt
from pipeline.evidence.mark import _without_edges
from pipeline.evidence.rings import Rings
from pipeline.evidence.tile import Tile
from pipeline.geometry.box import Box

SHAPE = (256, 256)


def ground(seed: int) -> np.ndarray:
    """Return a landscape of four bands, `(4, 256, 256)`, values about 1000 with texture of about 100."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(rng.normal(size=SHAPE), 6)
    fine = rng.normal(size=(4, *SHAPE))
    return np.stack([1000 + 800 * coarse + 30 * f for f in fine]).astype(np.float32)


def clouds(seed: int) -> np.ndarray:
    """Return about a dozen round clouds, bool `(256, 256)`."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    hole = np.zeros(SHAPE, dtype=bool)
    for y, x, r in zip(rng.integers(0, 256, 12), rng.integers(0, 256, 12), rng.integers(7, 15, 12), strict=True):
        hole |= (rows - y) ** 2 + (cols - x) ** 2 < r * r
    return hole


def tile(values: np.ndarray, hole: np.ndarray, guide: np.ndarray | None = None) -> Tile:
    """Return a window in which everything but the holes is observed, in the guide everything."""
    return Tile(
        values=values.astype(np.float32),
        seen=~hole,
        distance=ndimage.distance_transform_edt(~hole).astype(np.float32),
        guides=() if guide is None else ((guide.astype(np.float32), np.ones(SHAPE, dtype=bool)),),
    )


def ring(hole: np.ndarray, width: float) -> np.ndarray:
    """Return 1 beside the holes, falling to 0 over a few widths."""
    return np.exp(-ndimage.distance_transform_edt(~hole) / width)


@pytest.mark.parametrize("with_guide", [True, False])
def test_haze_around_clouds_is_doubted_and_clear_pixels_are_not(with_guide):
    """Most pixels with haze of two deviations of the ground and more, next to none far off."""
    clear, hole = ground(1), clouds(2)
    haze = ring(hole, 4.0)
    values = clear + np.array([500, 400, 300, 50])[:, None, None] * haze
    guide = ground(1) + 20 + 15 * np.random.default_rng(0).normal(size=(4, *SHAPE))
    one = tile(values, hole, guide if with_guide else None)
    doubt = find_doubt([one], through=False)
    assert doubt is not None
    assert [side.name for side in doubt.sides] == ["bright"]
    doubted = doubt.of(one)
    strong, none = ~hole & (haze > 0.4), ~hole & (haze < 0.01)
    assert doubted[strong].mean() > (0.9 if with_guide else 0.8)
    assert doubted[none].mean() < 0.02
    assert doubt.sides[0].weights[3] < 0.5 * doubt.sides[0].weights[0]


def test_where_most_of_the_rim_is_hazy_the_darkest_ground_is_not_what_is_left():
    """Doubting bright pixels one by one would leave the dark fields of the rim, and holes filled too dark."""
    rng, hole = np.random.default_rng(12), clouds(6)
    fields = ndimage.gaussian_filter(rng.normal(size=SHAPE), 10)
    clear = ground(5) + 60 * fields / fields.std()
    patches = ndimage.gaussian_filter(rng.normal(size=SHAPE), 4)
    haze = (ring(hole, 9.0) > 0.1) * np.clip(1 + patches / patches.std(), 0, 3)
    one = tile(clear + np.array([75, 60, 45, 8])[:, None, None] * haze, hole)
    doubt = find_doubt([one], through=False)
    assert doubt is not None
    near = (one.distance > 0) & (one.distance < 16)
    left = near & ~doubt.of(one)
    darker = (clear - clear[:, near].mean(axis=1)[:, None, None]) / clear.std(axis=(1, 2))[:, None, None]
    assert (darker * left)[:, near].mean() > -0.02


def test_shadow_beside_clouds_is_doubted_as_dark():
    """A shadow is darker in all bands."""
    clear, hole = ground(3), clouds(4)
    shade = np.roll(hole, (9, 9), (0, 1)) & ~hole
    one = tile(np.where(shade, 0.6, 1.0) * clear, hole, clear)
    doubt = find_doubt([one])
    assert doubt is not None
    assert [side.name for side in doubt.sides] == ["dark"]
    near = shade & (one.distance < 10)
    assert doubt.of(one)[near].mean() > 0.8


@pytest.mark.parametrize("seed", range(8))
def test_clean_images_are_not_doubted(seed):
    """Holes cut into a clean image say nothing about what is beside them, with a guide and without."""
    clear, hole = ground(seed), clouds(100 + seed)
    for guide in (None, clear + 30 * np.random.default_rng(seed).normal(size=clear.shape)):
        doubt = find_doubt([tile(clear, hole, guide)])
        assert doubt is not None
        assert not doubt.sides
        assert doubt.reach_px == 0


def test_ground_that_changed_is_not_doubted():
    """Fields that became brighter since the other date lie near clouds as often as far from them."""
    clear, hole = ground(5), clouds(6)
    fields = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=SHAPE), 5) > 0.03
    doubt = find_doubt([tile(clear + 400 * fields, hole, clear)])
    assert doubt is not None
    assert not doubt.sides


def test_differences_follow_from_what_is_seen_once():
    """Any usual values can be taken off a window that was smoothed before; pixels that are not seen do not count."""
    one = tile(ground(1), clouds(1))
    usual = fit_ground([one], [one.seen])
    known, told = standardised(usual, one)
    assert np.allclose(Smooth.of(one).differences(usual), known, rtol=0, atol=1e-9)
    assert np.array_equal(told, one.seen)


def test_windows_are_not_smoothed_where_the_ground_follows_a_reference(monkeypatch):
    """What is smoothed once serves usual values only, and takes as much memory as all differences."""
    values, hole = ground(1), clouds(1)
    monkeypatch.setattr(Smooth, "of", lambda _: pytest.fail("smoothed for nothing"))
    rings = Rings.around([tile(values, hole, 0.5 * values)])
    assert rings.referred
    assert np.abs(rings.differences[0].mean()) < 1


def test_too_few_pixels_say_nothing():
    """Without 400 observed pixels there is no telling near from far."""
    hole = np.ones(SHAPE, dtype=bool)
    hole[:10, :30] = False
    assert find_doubt([tile(ground(1), hole)]) is None


def test_holes_everywhere_say_nothing_of_rings():
    """Where no pixel is farther from a hole than any other, no ring stands out."""
    hole = np.zeros(SHAPE, dtype=bool)
    hole[::4] = hole[:, ::4] = True
    doubt = find_doubt([tile(ground(1), hole)])
    assert doubt is None or not doubt.sides


def nearly_all(seed: int, share: float = 0.9) -> np.ndarray:
    """Return holes that leave a tenth of the image in pieces, or another rest, bool `(256, 256)`."""
    patches = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 8)
    return patches < np.quantile(patches, share)


def few(tile_: Tile) -> np.ndarray:
    """Return the doubted pixels of an image that is nearly all hidden."""
    doubt = find_doubt([tile_], little=True)
    assert doubt is not None
    return doubt.of(tile_)


def test_where_nearly_all_is_hidden_and_most_of_the_rest_is_hazy_the_clear_part_is_trusted():
    """Differences from the clear date are most frequent where there is no haze, though most pixels have some."""
    clear, hole = ground(1), nearly_all(2)
    amount = np.clip(ndimage.gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 10) * 40 + 0.5, 0, None)
    values = clear + 30 + np.array([900, 800, 700, 400])[:, None, None] * amount
    doubted = few(tile(values, hole, clear))
    far = ndimage.distance_transform_edt(~hole) > 3
    assert (amount[far & ~hole] > 0.2).mean() > 0.5
    assert doubted[far & (amount > 0.4)].mean() > 0.95
    assert doubted[far & (amount == 0)].mean() < 0.1


@pytest.mark.parametrize("gain", [1.0, 0.0001])
def test_where_nearly_all_is_hidden_a_clear_rest_is_trusted(gain):
    """The rest follows the reference, in whatever unit that is, as well beside the holes as far from them."""
    clear, hole = ground(4), nearly_all(5)
    noise = 20 * np.random.default_rng(6).normal(size=clear.shape)
    assert not few(tile(0.8 * clear + noise, hole, gain * clear)).any()


@pytest.mark.parametrize("hazy", [[0], [0, 1, 2]])
def test_where_nearly_all_is_hidden_the_rim_is_doubted_if_it_is_brighter(hazy):
    """Haze of single bands is enough, whatever the others do: the first 3 px are doubted, and nothing else."""
    clear, hole = ground(4), nearly_all(5)
    noise = 20 * np.random.default_rng(6).normal(size=clear.shape)
    added = np.zeros(4)
    added[hazy] = 80
    doubted = few(tile(clear + noise + added[:, None, None] * ring(hole, 6.0), hole, clear))
    near = ndimage.distance_transform_edt(~hole) <= 3
    assert np.array_equal(doubted, near & ~hole)


@pytest.mark.parametrize(
    ("share", "haze", "guided", "found"),
    [(0.6, 80, 1, True), (0.6, 0, 1, False), (0.6, 80, 0, False), (0.4, 80, 1, False)],
)
def test_where_most_is_hidden_a_reference_shows_the_haze_beside_the_holes(share, haze, guided, found):
    """Such holes fit nowhere else; where less is hidden they do, and without a reference nothing tells."""
    clear, hole = ground(4), nearly_all(5, share)
    noise = 20 * np.random.default_rng(6).normal(size=clear.shape)
    one = tile(clear + noise + haze * ring(hole, 6.0), hole, clear if guided else None)
    doubt = _among_what_is_left([one])
    assert (doubt is not None and doubt.of(one).any()) == found


def test_where_most_is_hidden_snow_all_over_what_is_left_is_no_haze():
    """It varies three times as much around a date without snow as that varies, but not more beside the holes."""
    clear, hole = ground(1), nearly_all(2, 0.65)
    fields = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=SHAPE), 8) > 0
    snowy = tile(clear + 600 * fields, hole, clear)
    assert fit_level([snowy], [snowy.seen]) is not None
    assert _among_what_is_left([snowy]) is None
    hazy = tile(clear + 600 * fields + 300 * ring(hole, 6.0), hole, clear)
    assert _among_what_is_left([hazy]) is not None


def test_where_nearly_all_is_hidden_ground_that_is_brighter_elsewhere_is_no_haze():
    """One island bright, the others not: near and far pixels are compared on like ground."""
    clear, hole = ground(4), nearly_all(5)
    noise = 20 * np.random.default_rng(6).normal(size=clear.shape)
    parts, count = ndimage.label(~hole)
    small = np.isin(parts, 1 + np.argsort(ndimage.sum_labels(~hole, parts, range(1, count + 1)))[: count // 2])
    assert not few(tile(clear + noise + 40 * small, hole, clear)).any()


def test_a_strip_along_the_edge_of_the_image_is_no_cloud():
    """What no swath saw contaminates nothing; a cloud that the edge cuts, and a strip inside a larger image, count."""
    rows, cols = np.mgrid[:200, :200]
    strip, cut = cols < 24, rows**2 + (cols - 120) ** 2 < 30**2
    box = Box((0, 0), (200, 200))
    assert np.array_equal(_without_edges(strip | cut, box, (200, 200)), cut)
    inner = Box((300, 300), (500, 500))
    assert np.array_equal(_without_edges(strip | cut, inner, (1000, 1000)), strip | cut)
    assert not _without_edges(np.ones((200, 200), bool), box, (200, 200)).any()
    corner = rows**2 + cols**2 < 60**2
    assert np.array_equal(_without_edges(corner, box, (200, 200)), corner)
