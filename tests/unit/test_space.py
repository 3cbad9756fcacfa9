"""A grid says distances in the units that its image has."""

import pytest

from pipeline.geometry.space import Space

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
