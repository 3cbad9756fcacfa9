"""Laws that every fill, or every spline, obeys on any window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.fills.base import FillSpec, Window

SPLINES = [FillSpec("harmonic"), FillSpec("tension", {"t": 0.5}), FillSpec("tension", {"t": 0.95})]


@st.composite
def windows(draw) -> Window:
    """A small 2-D or 3-D window with holes, never-touch pixels and at least one valid pixel a channel."""
    ndim = draw(st.sampled_from([2, 3]))
    shape = (draw(st.integers(1, 2)), *(draw(st.integers(3, 14 if ndim == 2 else 7)) for _ in range(ndim)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    state = rng.choice(3, size=shape, p=draw(st.sampled_from([(0.5, 0.5, 0), (0.2, 0.7, 0.1), (0.8, 0.1, 0.1)])))
    state.reshape(shape[0], -1)[:, 0] = 0
    spacing = tuple(draw(st.sampled_from([1.0, 1.5, 4.0])) for _ in range(ndim))
    values = rng.normal(0, 1, shape).astype(np.float32)
    return Window(values=values, valid=state == 0, hole=state == 1, spacing=spacing)


@given(windows(), st.sampled_from([*SPLINES, FillSpec("nearest")]))
def test_valid_values_stand_and_holes_are_finite(window, spec):
    """Whatever the masks."""
    result = spec(window)
    assert np.array_equal(result[window.valid], window.values[window.valid])
    assert np.isfinite(result).all()


@given(windows(), st.sampled_from(SPLINES), st.sampled_from([-3.0, 0.25, 1000.0]), st.sampled_from([-50.0, 7.0]))
def test_splines_commute_with_gain_and_offset(window, spec, gain, offset):
    """fill(a * x + b) = a * fill(x) + b, so units do not matter."""
    moved = replace(window, values=(gain * window.values + offset).astype(np.float32))
    expected = gain * spec(window) + offset
    assert np.allclose(spec(moved), expected, atol=1e-4 * (abs(gain) + abs(offset)))


@given(windows(), st.sampled_from(SPLINES))
def test_splines_commute_with_mirrors(window, spec):
    """No direction is special."""
    flip = tuple(range(1, window.values.ndim))
    mirrored = replace(
        window, values=np.flip(window.values, flip), valid=np.flip(window.valid, flip), hole=np.flip(window.hole, flip)
    )
    assert np.allclose(np.flip(spec(mirrored), flip), spec(window), atol=1e-5)


@given(windows(), st.sampled_from(SPLINES))
def test_far_pixels_do_not_matter(window, spec):
    """Observed pixels more than two steps away from every hole can be anything."""
    pad = [(0, 0), *((0, 6),) * (window.values.ndim - 1)]
    ring = Window(
        values=np.pad(window.values, pad, mode="edge"),
        valid=np.pad(window.valid, pad, constant_values=True),
        hole=np.pad(window.hole, pad),
        spacing=window.spacing,
    )
    changed = ring.values.copy()
    for axis, extent in enumerate(window.values.shape[1:], start=1):
        np.moveaxis(changed, axis, 0)[extent + 3 :] = 1e6
    touched = ring.hole & _reached(ring)
    assert np.array_equal(spec(ring)[touched], spec(replace(ring, values=changed))[touched])


def _reached(window: Window) -> np.ndarray:
    """Hole pixels whose component touches a valid pixel; the others take the mean of the window."""
    reached = np.zeros(window.hole.shape, bool)
    for k, (hole, valid) in enumerate(zip(window.hole, window.valid, strict=True)):
        seeds = ndimage.binary_dilation(valid) & hole
        reached[k] = ndimage.binary_propagation(seeds, mask=hole)
    return reached


@given(windows())
def test_nearest_copies_a_valid_value(window):
    """Every filled value exists among the observed ones of its channel."""
    result = FillSpec("nearest")(window)
    for k in range(len(result)):
        assert np.isin(result[k][window.hole[k]], window.values[k][window.valid[k]]).all()
