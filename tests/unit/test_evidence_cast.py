"""Does what is dark follow what is bright as shadows follow clouds: all displaced alike, or by chance beside them?"""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evidence.cast import Patterns, followed

SHAPE = (192, 160)
SURE = 5.0


def texture(rng: np.random.Generator) -> np.ndarray:
    """Return patchy ground with a deviation of 1."""
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3)
    return smooth / smooth.std()


def patches(rng: np.random.Generator, count: int = 30) -> np.ndarray:
    """Return small scraps of cloud, 0 to 1."""
    points = np.zeros(SHAPE)
    points[rng.integers(20, 172, count), rng.integers(20, 140, count)] = 1.0
    return np.minimum(ndimage.gaussian_filter(points, 3) * 60, 1.0)


def window(seed: int, steps: list[tuple[int, int]], strength: float = 5.0) -> Patterns:
    """Return a window whose scraps come in as many lots as there are steps; each lot casts its shadow one step away."""
    rng = np.random.default_rng(seed)
    lots = [patches(rng, 30 // len(steps)) for _ in steps]
    cloud = np.sum(lots, axis=0)
    shadow = np.sum([np.roll(lot, step, axis=(0, 1)) for lot, step in zip(lots, steps, strict=True)], axis=0)
    ground = texture(rng)
    hole = ndimage.gaussian_filter(rng.normal(size=SHAPE), 10) > 0.025
    return Patterns(bright=ground + strength * cloud, dark=strength * shadow - ground, told=~hole)


@pytest.mark.parametrize("step", [(12, 12), (-30, 5), (0, -24)])
def test_shadows_that_are_all_displaced_alike_follow_their_clouds(step):
    """In whatever direction the sun stands; ground and holes hide part of them."""
    assert followed([window(1, [step])]) > SURE


@pytest.mark.parametrize("seed", range(8))
def test_ground_alone_follows_nothing(seed):
    """Bright and dark patches of ground are no clouds and shadows."""
    assert followed([window(seed, [(12, 12)], strength=0.0)]) < SURE


@pytest.mark.parametrize("seed", range(4))
def test_dark_patches_here_and_there_follow_nothing(seed):
    """As many dark patches, each somewhere else beside its bright one, are fields."""
    steps = [(12, 12), (-20, 9), (5, -31), (-26, -17), (33, 2)]
    assert followed([window(seed, steps)]) < SURE < followed([window(seed, steps[:1])])


def test_windows_add_up():
    """The sun is the same in all windows: faint shadows that one cannot tell from chance are told by six."""
    some = [window(seed, [(14, -9)], strength=0.7) for seed in range(6)]
    assert followed(some[:1]) < SURE < followed(some)


def test_what_is_not_told_plays_no_part_and_an_empty_window_says_nothing():
    """Values under holes can be anything; without any pixel, or in a small window, there is no proof."""
    one = window(3, [(12, 12)])
    other = Patterns(
        bright=np.where(one.told, one.bright, np.nan), dark=np.where(one.told, one.dark, np.nan), told=one.told
    )
    assert followed([other]) == followed([one])
    assert followed([Patterns(bright=one.bright, dark=one.dark, told=np.zeros(SHAPE, dtype=bool))]) == 0.0
    small = [part[:80, :160] for part in (one.bright, one.dark, one.told)]
    assert followed([Patterns(bright=small[0], dark=small[1], told=small[2])]) == 0.0
