"""Orientation: whatever the order of storage, left is left, and no voxel leaves its place."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import nibabel
import numpy as np
import pytest

from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation, canonical_space, tilts, turned_space
from pipeline.geometry.space import Space, index_to_world
from pipeline.testing import raster_space, volume_space

CODES = [
    "".join(code) for axes in permutations(("LR", "PA", "IS")) for code in product(*axes)
]  # every way to store a volume
SHAPE = (5, 4, 3)
OBLIQUE = (1.5, 0.1, 0.0, 3.0, -0.1, 2.0, 0.2, 7.0, 0.0, 0.3, 3.0, 9.0)


def _space(codes: str, *, turn: float = 0.0) -> Space:
    """Return a grid whose axes i, j, k point to `codes`, of steps 1, 2, 3 mm, turned about z by `turn` degrees."""
    ornt = nibabel.orientations.axcodes2ornt(tuple(codes))
    rows = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(ornt):
        rows[int(world), axis] = sign * (axis + 1)
    angle = np.radians(turn)
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.column_stack([about_z @ rows, (80.0, -20.0, 7.0)])
    return Space(kind="volume", shape=SHAPE, affine=tuple(affine.ravel().tolist()), crs="RAS+", units="mm")


def _place(space: Space, index: tuple[int, ...]) -> np.ndarray:
    rows = np.reshape(space.affine, (3, 4))
    return rows[:, :3] @ np.asarray(index[::-1]) + rows[:, 3]


@pytest.mark.parametrize("codes", CODES)
def test_all_axis_codes(codes: str) -> None:
    """The leftmost voxel comes first along x, every voxel keeps its place, and turning back gives the input."""
    space = _space(codes)
    turn, target = Orientation.of(space), canonical_space(space)
    assert space.axis_codes == codes
    assert target.axis_codes == "RAS"
    values = np.arange(np.prod(SHAPE)).reshape(1, *SHAPE)
    places = {int(values[0][index]): _place(space, index) for index in np.ndindex(SHAPE)}
    canonical = turn.canonical(values)
    assert canonical.shape[1:] == target.shape
    for index in np.ndindex(target.shape):
        assert np.allclose(_place(target, index), places[int(canonical[0][index])])
    leftmost = min(places, key=lambda value: places[value][0])
    assert np.argwhere(canonical[0] == leftmost)[0][2] == 0
    assert np.array_equal(turn.stored(canonical), values)


@pytest.mark.parametrize("codes", CODES[::5])
def test_it_is_what_nibabel_does(codes: str) -> None:
    """Array and affine equal those of `nibabel.as_closest_canonical`."""
    space = _space(codes, turn=11.0)
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = nibabel.Nifti1Image(values.T, np.vstack([np.reshape(space.affine, (3, 4)), (0, 0, 0, 1)]))
    expected = nibabel.as_closest_canonical(image)
    assert np.array_equal(Orientation.of(space).canonical(values), np.asarray(expected.dataobj).T)
    assert np.allclose(np.reshape(canonical_space(space).affine, (3, 4)), expected.affine[:3])


@pytest.mark.parametrize("codes", CODES[::5])
def test_boxes_follow(codes: str) -> None:
    """A window of the turned image is the turned window of the stored one."""
    turn = Orientation.of(_space(codes))
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    box = Box((1, 0, 2), (4, 3, 3))
    there = turn.canonical_box(box, SHAPE)
    assert turn.stored_box(there, SHAPE) == box
    assert np.array_equal(turn.canonical(values)[there.slices], turn.canonical(values[box.slices]))
    assert turn.stored_shape(turn.canonical_shape(SHAPE)) == SHAPE


def test_oblique_is_said_with_its_angle() -> None:
    """A volume turned by 20 degrees about z is said to be; the z axis is not off."""
    space = _space("LAS", turn=20.0)
    assert space.axis_codes == "LAS, oblique by 20.0°"
    assert tilts(space) == pytest.approx((0, 20, 20))
    assert "voxel axes LAS, oblique by 20.0°" in space.describe()


def test_axes_without_an_order_stay_as_they_are() -> None:
    """Two axes that point the same way have no nearest right: nothing is turned, and nothing fails."""
    space = Space(kind="volume", shape=SHAPE, affine=(1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0), crs="RAS+", units="mm")
    assert sorted(Orientation.of(space).axes) == [0, 1, 2]
    assert space.axis_codes
    raster = Space(kind="raster", shape=(3, 4), affine=(1, 0, 0, 0, -1, 0))
    assert Orientation.of(raster) == Orientation.none(2)


@pytest.mark.parametrize("space", [raster_space((5, 7), 10.0), replace(volume_space((3, 4, 5)), affine=OBLIQUE)])
def test_every_turn_of_a_grid_is_found(space):
    """Axes in any order and direction: turned pixels lie where they lay; what is shifted or coarser is no turn."""
    index = np.stack(np.meshgrid(*map(np.arange, space.shape), indexing="ij"))
    for axes in permutations(range(space.ndim)):
        for backwards in product((False, True), repeat=space.ndim):
            turn = Orientation(axes, backwards)
            other = turned_space(space, turn)
            assert Orientation.between(space, other) == turn
            there = np.stack(np.meshgrid(*map(np.arange, other.shape), indexing="ij"))
            np.testing.assert_allclose(_places(other, there), _places(space, turn.canonical(index)), atol=1e-9)
            for share, near in ((0.04, True), (0.06, False)):
                shifted = np.reshape(other.affine, (space.ndim, -1)).copy()
                shifted[0, -1] += share * min(space.spacing)
                moved = replace(other, affine=tuple(shifted.ravel().tolist()))
                assert (Orientation.between(space, moved) == turn) == near
    assert Orientation.between(space, replace(space, shape=tuple(2 * n for n in space.shape))) is None
    assert Orientation.between(space, replace(space, affine=tuple(2 * v for v in space.affine))) is None


def test_a_raster_without_a_place_is_never_turned():
    """Rows that run up in the one, and nothing known of the other: they may well be the same rows."""
    nowhere = replace(raster_space((5, 7), 1.0), affine=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), crs="")
    up = replace(nowhere, affine=(1.0, 0.0, 0.0, 0.0, -1.0, 5.0))
    assert Orientation.between(nowhere, up) is None
    assert Orientation.between(up, nowhere) is None
    assert Orientation.between(nowhere, nowhere) == Orientation.none(2)


def _places(space, index: np.ndarray) -> np.ndarray:
    flat = np.concatenate([index.reshape(space.ndim, -1), np.ones((1, index[0].size))])
    return (index_to_world(space) @ flat)[:-1]
