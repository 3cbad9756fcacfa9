"""What is lit better than the ground far off is no haze: haze takes contrast, sunlight gives it."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence.contrast import contrast, likeness
from pipeline.evidence.ground import fit_ground
from pipeline.evidence.learn import find_doubt
from pipeline.evidence.tile import Tile
from tests.unit.test_evidence_doubt import clouds, ring, tile
from tests.unit.test_evidence_haze import landscape

COLOURS = np.array([0.4, 0.7, 0.6, 1.8])[:, None, None]
HAZE = np.array([1.0, 0.8, 0.6, 0.1])[:, None, None]


def dated(values: np.ndarray, hole: np.ndarray, clear: np.ndarray) -> Tile:
    """Return a window with another date of the same ground beside it."""
    return tile(values, hole, clear + 10 * np.random.default_rng(5).normal(size=clear.shape))


def light(hole: np.ndarray) -> np.ndarray:
    """Return the light that falls on the ground: all of it beside the holes, 0.4 of it far from them."""
    return 1 - 0.6 * np.clip((ndimage.distance_transform_edt(~hole) - 16) / 8, 0, 1)


def coloured(seed: int) -> np.ndarray:
    """Return a landscape whose bands are as bright as vegetation's."""
    return COLOURS * landscape(seed)


def is_bright(values: np.ndarray, hole: np.ndarray, clear: np.ndarray) -> bool:
    """Say whether haze or cloud is found beside the holes."""
    doubt = find_doubt([dated(values, hole, clear)])
    assert doubt is not None
    return doubt.haze is not None or "bright" in [side.name for side in doubt.sides]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shadow_far_from_the_holes_makes_no_haze_beside_them(seed):
    """The light that clouds far from all holes take is not taken for haze around the holes."""
    clear, hole = coloured(seed), clouds(20 + seed)
    assert not is_bright(light(hole) * clear, hole, clear)


@pytest.mark.parametrize(("varied", "colour"), [(False, COLOURS), (False, HAZE), (True, HAZE)])
def test_one_sign_of_light_alone_is_no_proof(varied, colour):
    """Haze is found over ground that varies more beside the holes, and a veil in the ground's colours, too."""
    clear, hole = coloured(1), clouds(21)
    ground = clear * light(hole) + 1000 * COLOURS * (1 - light(hole)) if varied else clear
    assert is_bright(ground + 400 * colour * ring(hole, 6.0), hole, clear)


def test_contrast_and_likeness_are_those_of_the_light_and_not_of_what_is_added():
    """Twice as much light is twice the contrast in the colours of the ground; haze has neither."""
    clear, hole = coloured(4), clouds(24)
    distance = ndimage.distance_transform_edt(~hole)
    near, far = (distance <= 10) & ~hole, distance > 24
    for values, varied, alike in (
        (np.where(far, 0.5, 1.0) * clear, 2.0, 1.0),
        (clear + 500 * HAZE * ring(hole, 10.0), 1.0, -0.9),
    ):
        one = dated(values, hole, clear)
        ground = fit_ground([one], [far])
        assert contrast(ground, [one], [near], [far]) == pytest.approx(varied, rel=0.1)
        assert likeness(ground, [one], [near]) == pytest.approx(alike, abs=0.15)


def test_a_reference_that_tells_nothing_gives_no_contrast_and_two_bands_no_likeness():
    """Where nothing is known nothing is concluded."""
    clear, hole = coloured(5), clouds(25)
    far = ndimage.distance_transform_edt(~hole) > 24
    noise = tile(clear, hole, np.random.default_rng(6).normal(size=clear.shape))
    assert contrast(fit_ground([noise], [far]), [noise], [~hole & ~far], [far]) == 1.0
    two = tile((light(hole) * clear)[:2], hole, clear[:2])
    assert likeness(fit_ground([two], [far]), [two], [~hole & ~far]) == 0.0
