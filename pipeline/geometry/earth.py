"""The size of the Earth."""

METRES_PER_DEGREE = 40_007_863.0 / 360.0
"""Of latitude, on average: the circumference of the WGS 84 meridian."""
