"""Union, buffer, inversion, and what nodata does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.geometry.box import Box
from pipeline.masks.base import FILL, KEEP, NEVER, dilate, mask_options, open_masks, pixels_on
from pipeline.testing import ArraySource, raster_space, volume_space


def _image(values: Any, **more: Any) -> ArraySource:
    array = np.asarray(values)
    return ArraySource(values=array, space=raster_space(array.shape[1:]), **more)


def _read(image: ArraySource, *entries: dict[str, Any], fill_nodata: Any = "never") -> np.ndarray[Any, Any]:
    options = [mask_options(entry) for entry in entries]
    return open_masks(options, image, lambda p: p, fill_nodata).read(Box.whole(image.space.shape))


def test_holes_are_the_union_of_the_entries() -> None:
    """A pixel that any entry wants is a hole."""
    image = _image([[[1, 5, 9]]])
    states = _read(image, {"kind": "threshold", "above": 8}, {"kind": "threshold", "below": 2})
    assert states.tolist() == [[[FILL, KEEP, FILL]]]


def test_no_entry_means_no_hole() -> None:
    """Without masks everything observed is kept and nodata is never touched."""
    assert _read(_image([[[0, 5]]], no_value=0)).tolist() == [[[NEVER, KEEP]]]


@pytest.mark.parametrize(
    ("fill_nodata", "expected"),
    [("never", [NEVER, NEVER, FILL, KEEP]), ("inside", [NEVER, FILL, FILL, KEEP]), ("all", [FILL, FILL, FILL, KEEP])],
)
def test_nodata_is_touched_only_if_asked(fill_nodata: str, expected: list[int]) -> None:
    """`never`: not even under a mask; `inside`: under a mask; `all`: everywhere."""
    image = _image([[[0, 0, 5, 5]]], no_value=0)
    entry = {"kind": "slices", "slices": [1, 2], "axis": "i"}
    assert _read(image, entry, fill_nodata=fill_nodata)[0, 0].tolist() == expected


def test_buffer_does_not_reach_into_nodata() -> None:
    """Widening a hole widens it over observed pixels only."""
    image = _image([[[0, 0, 9, 5, 5, 5]]], no_value=0)
    assert _read(image, {"kind": "threshold", "above": 8, "buffer": "2 px"})[0, 0].tolist() == [2, 2, 1, 1, 1, 0]


def test_invert_comes_before_the_buffer() -> None:
    """Kept pixels are swapped first, then the new holes grow."""
    image = _image([[[9, 9, 9, 9, 1]]])
    states = _read(image, {"kind": "threshold", "above": 8, "invert": True, "buffer": "1 px"})
    assert states[0, 0].tolist() == [0, 0, 0, 1, 1]


def test_buffer_in_metres_uses_the_pixel_size() -> None:
    """35 m are 3.5 pixels of 10 m: a disc, not a square."""
    values = np.zeros((1, 11, 11), np.uint8)
    values[0, 5, 5] = 9
    hole = _read(_image(values), {"kind": "threshold", "above": 8, "buffer": "35 m"})[0]
    y, x = np.mgrid[-5:6, -5:6]
    assert np.array_equal(hole == FILL, x**2 + y**2 <= 3.5**2)


def test_buffer_in_a_volume_is_a_ball_in_mm() -> None:
    """3 mm are three 1-mm voxels in the slice but no 6.5-mm slice across."""
    values = np.zeros((1, 3, 9, 9), np.uint8)
    values[0, 1, 4, 4] = 9
    image = ArraySource(values=values, space=volume_space((3, 9, 9), (6.5, 1.0, 1.0)))
    hole = _read(image, {"kind": "threshold", "above": 8, "buffer": "3 mm"})[0] == FILL
    assert not hole[0].any()
    assert not hole[2].any()
    assert hole[1].sum() == 29  # lattice points in a disc of radius 3


def test_buffer_of_a_metre_needs_a_scale() -> None:
    """A grid without a length unit refuses metres and says what works."""
    image = ArraySource(values=np.ones((1, 2, 2)), space=raster_space((2, 2), units="unknown"))
    with pytest.raises(ConfigError, match=r"'60 m'.*units 'unknown'; give it in px"):
        _read(image, {"kind": "threshold", "above": 8, "buffer": "60 m"})


def test_volume_without_unit_counts_in_millimetres() -> None:
    """Many NIfTI headers leave the unit out; tools read mm."""
    space = volume_space((4, 4, 4), (2.0, 1.0, 1.0))
    assert pixels_on(type(space)(kind="volume", shape=space.shape, affine=space.affine), "2 mm") == (1.0, 2.0, 2.0)


def test_alpha_is_never_restored() -> None:
    """A channel the format calls fixed stays as it is, also under a hole."""
    image = _image([[[9, 1]], [[255, 255]]], fixed_channels=(1,))
    assert _read(image, {"kind": "threshold", "above": 8, "band": 1}).tolist() == [[[FILL, KEEP]], [[NEVER, NEVER]]]


@given(
    seed=st.integers(0, 50),
    radii=st.tuples(*(st.integers(0, 18).map(lambda n: n / 4),) * 2),
)
def test_dilation_matches_its_definition(seed: int, radii: tuple[float, float]) -> None:
    """Every pixel within the ellipsoid of a hole pixel is a hole, and no other."""
    rng = np.random.default_rng(seed)
    hole = rng.random((1, 15, 17)) < 0.03
    dy, dx = np.mgrid[-5:6, -5:6]
    ry, rx = (r if r >= 1 else 1e-6 for r in radii)
    ball = (dy / ry) ** 2 + (dx / rx) ** 2 <= 1 + 1e-8
    expected = np.zeros((25, 27), bool)
    for y, x in zip(*np.nonzero(hole[0]), strict=True):
        expected[y : y + 11, x : x + 11] |= ball
    assert np.array_equal(dilate(hole, radii)[0], expected[5:20, 5:22])
