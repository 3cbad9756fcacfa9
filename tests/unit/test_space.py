"""A grid says distances in the units that its image has."""

from dataclasses import replace

import pytest

from pipeline.geometry.space import ROUNDED, Space

NORTH = (0.0001, 0, 10.0, 0, -0.0001, 60.5)


@pytest.mark.parametrize(
    ("kind", "shape", "affine", "units", "said"),
    [
        ("raster", (10, 10), (30.0, 0, 0, 0, -30.0, 0), "m", "8 px (240 m)"),
        ("raster", (10, 10), (30.0, 0, 0, 0, -20.0, 0), "ft", "8 px (160 ft)"),
        ("raster", (10, 10), (300.0, 0, 0, 0, -300.0, 0), "m", "8 px (2,400 m)"),
        ("raster", (10, 10), (1.0, 0, 0, 0, 1.0, 0), "unknown", "8 px"),
        ("raster", (10000, 10), NORTH, "deg", "8 px (44.5 m)"),
        ("volume", (4, 4, 4), (2.0, 0, 0, 0, 0, 1.5, 0, 0, 0, 0, 3.0, 0), "mm", "8 px (12 mm)"),
    ],
)
def test_a_distance_is_told_in_pixels_and_on_the_ground(kind, shape, affine, units, said):
    """Along the finest axis; degrees of longitude are half as long at 60 degrees north."""
    assert Space(kind=kind, shape=shape, affine=affine, units=units).far(8) == said


@pytest.mark.parametrize(
    ("kind", "affine", "turned", "apart"),
    [
        # a number that is small by itself lies 199 steps away from the far corner
        ("volume", (1.0, 0, 0, 0, 0, 2.0, 0, 0, 0, 0, 4.0, 0), {4: 9e-4}, 199 * 9e-4),
        ("volume", (0.1, 0, 0, 0, 0, 0.2, 0, 0, 0, 0, 0.4, 0), {3: 2e-3}, 0.02),
        ("raster", (10.0, 0, 0, 0, -20.0, 0), {3: 9e-3}, 200 * 9e-4),
    ],
)
def test_how_far_grids_are_apart_is_a_share_of_a_pixel_at_the_far_corner(kind, affine, turned, apart):
    """Whatever the size of pixels; a twentieth counts as the same place for masks and guides only."""
    space = Space(kind=kind, shape=(5, 6, 200) if kind == "volume" else (6, 200), affine=affine, units="mm")
    other = replace(space, affine=tuple(turned.get(at, value) for at, value in enumerate(affine)))
    assert space.offset(other) == pytest.approx(apart)
    assert space.mismatch(other)
    assert bool(space.mismatch(other, tolerance=ROUNDED)) == (apart > ROUNDED)
    assert f"up to {apart:.1g} of a {space.unit}" in space.offset_text(other)
    assert space.mismatch(space) == space.offset_text(space) == ""
