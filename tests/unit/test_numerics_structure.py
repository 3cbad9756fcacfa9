"""How unlike two values of a field are by the distance between them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.numerics.structure import Growth, growth_of

ONE = np.ones(1)


def _walk(seed: int, *, shape: tuple[int, int] = (256, 256)) -> np.ndarray:
    """Return a sum of random walks along both axes: differences have a variance in proportion to the lag."""
    rng = np.random.default_rng(seed)
    return np.add.outer(*(np.cumsum(rng.standard_normal(n)) for n in shape))[None]


def _whole(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values, np.ones(values.shape, bool)


def test_a_random_walk_grows_as_the_square_root_of_the_distance():
    """Four times as much at 64 px as at 4 px, and the same again beyond the largest lag."""
    growth = growth_of([_whole(_walk(seed)) for seed in range(20)], ONE, (0, 1))
    four, far, farther = growth(np.array([4.0, 64.0, 1024.0]))
    assert far / four == pytest.approx(4, rel=0.2)
    assert farther / far == pytest.approx(4, rel=0.4)


def test_noise_does_not_grow():
    """A pixel tells nothing of the next one: neither does the one beside it."""
    growth = growth_of([_whole(np.random.default_rng(0).standard_normal((1, 256, 256)))], ONE, (0, 1))
    assert growth(np.array([64.0, 500.0])) / growth(np.array(1.0)) == pytest.approx(1, abs=0.05)


def test_a_wave_grows_up_to_half_its_length_and_then_no_more():
    """Differences of a wave of 16 px fall again beyond 8 px; errors do not."""
    wave = np.broadcast_to(np.sin(np.arange(256) * np.pi / 8), (1, 256, 256))
    growth = growth_of([_whole(wave)], ONE, (1,))
    assert growth(np.array([8.0, 16.0, 64.0])) == pytest.approx(2**0.5, rel=0.01)
    assert growth(np.array(2.0)) < 0.8


def test_only_known_values_of_channels_that_vary_count():
    """What lies in holes is not looked at, nor is a channel without any range; units do not matter."""
    values = _walk(1)
    known = np.random.default_rng(2).random(values.shape) < 0.7
    alone = growth_of([(values, known)], ONE, (0, 1))
    two = np.concatenate([1000 * values, np.full_like(values, 7)])
    both = growth_of([(np.where(known, two, 1e30), np.concatenate([known, known]))], np.array([1000.0, 0]), (0, 1))
    assert both.lags == alone.lags
    assert both.roots == pytest.approx(alone.roots)


def test_channels_count_by_their_range_and_pieces_together():
    """One that varies a thousand times as much does not decide alone."""
    noise, walk = np.random.default_rng(0).standard_normal((1, 128, 128)), _walk(3, shape=(128, 128))
    pieces = [_whole(np.concatenate([1000 * noise, walk]))] * 2
    scale = np.array([1000.0 * noise.std(), walk.std()])
    roots = [growth_of([_whole(one)], np.array([one.std()]), (0, 1)).roots for one in (noise, walk)]
    assert growth_of(pieces, scale, (0, 1)).roots[0] == pytest.approx(
        np.sqrt(np.mean(np.square(roots), axis=0))[0], rel=0.01
    )


@pytest.mark.parametrize(("size", "farthest"), [(256, 64), (64, 32), (6, None)])
def test_lags_count_as_far_as_there_are_several_independent_places(size, farthest):
    """Where too little is known of an image the fourth root of the distance is taken."""
    growth = growth_of([_whole(_walk(0)[:, :size, :size])], ONE, (0, 1))
    assert (growth == Growth()) if farthest is None else growth.lags[-1] == farthest
    assert Growth()(np.array(64.0)) / Growth()(np.array(4.0)) == pytest.approx(2)


def test_where_nothing_varies_nothing_is_known():
    """Flat images, and images without any known pixel."""
    flat = np.ones((1, 64, 64))
    assert growth_of([_whole(flat)], ONE, (0, 1)) == Growth()
    assert growth_of([(flat, np.zeros(flat.shape, bool))], ONE, (0, 1)) == Growth()
    assert growth_of([_whole(flat)], np.zeros(1), (0, 1)) == Growth()
