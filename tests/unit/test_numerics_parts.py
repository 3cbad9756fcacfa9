"""The network looks at parts of a patch: every pixel that is asked for is in one, with what lies around it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.numerics.parts import AROUND, parts_of

asked_for = st.one_of(
    arrays(np.bool_, array_shapes(min_dims=2, max_dims=3, max_side=40), elements=st.booleans()),
    st.builds(
        lambda shape, seed, share: np.random.default_rng(seed).random(shape) < share,
        array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=48),
        st.integers(0, 99),
        st.sampled_from([0.0, 0.0005, 0.01, 0.5]),
    ),
)


@settings(deadline=None)
@given(asked_for)
def test_every_asked_pixel_is_taken_from_one_part(asked: np.ndarray) -> None:
    """None is left out, and none is taken twice."""
    taken = np.zeros(asked.shape, dtype=int)
    for part in parts_of(asked):
        taken[part.box][part.own] += 1
    assert np.array_equal(taken, asked.astype(int))


@settings(deadline=None)
@given(asked_for)
def test_a_part_holds_what_lies_around_its_pixels(asked: np.ndarray) -> None:
    """As far as the patch goes on."""
    near = AROUND[asked.ndim]
    for part in parts_of(asked):
        for axis, extent in enumerate(asked.shape):
            start, stop, _ = part.box[axis].indices(extent)
            rest = tuple(a for a in range(asked.ndim) if a != axis)
            own = np.flatnonzero(part.own.any(axis=rest)) + start
            assert start <= max(0, own[0] - near)
            assert stop >= min(extent, own[-1] + 1 + near)


def test_far_specks_cost_little_and_a_full_patch_is_looked_at_once() -> None:
    """Specks that lie near each other share a part."""
    asked = np.zeros((256, 256), dtype=bool)
    asked[[20, 30, 230], [40, 44, 200]] = True
    parts = parts_of(asked)
    assert len(parts) == 2
    assert sum(part.own.size for part in parts) < 4000

    scattered = np.random.default_rng(0).random((256, 256)) < 0.3
    (whole,) = parts_of(scattered)
    assert whole.own.shape == scattered.shape


@pytest.mark.parametrize(
    ("shape", "extents"),
    [
        ((256, 256), {16, 24, 32, *range(48, 129, 16), *range(160, 257, 32)}),
        ((64, 64, 64), {*range(8, 65, 8)}),
    ],
)
def test_few_shapes_are_met(shape: tuple[int, ...], extents: set[int]) -> None:
    """A library prepares itself for each new one."""
    rng = np.random.default_rng(1)
    shapes = {part.own.shape for _ in range(30) for part in parts_of(rng.random(shape) < 1e-4)}
    assert shapes
    assert {n for shape in shapes for n in shape} <= extents
