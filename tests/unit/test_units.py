"""Sizes and lengths as people write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.system.units import format_bytes, parse_bytes, parse_length


@pytest.mark.parametrize(
    ("text", "count"),
    [("4 GiB", 4 * 2**30), ("500 MB", 500_000_000), ("1.5KiB", 1536), (1024, 1024), ("7", 7), ("2 gib", 2**31)],
)
def test_sizes_are_read(text: str | int, count: int) -> None:
    """Binary and decimal units, any case, and bare numbers are bytes."""
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["4 GG", "much", "", "-1 GiB", "0", "GiB"])
def test_wrong_sizes_are_refused(text: str) -> None:
    """What is no size names itself and a right example."""
    with pytest.raises(ConfigError, match=f"'{text}' is no size.*4 GiB"):
        parse_bytes(text)


@given(st.integers(1, 2**50))
def test_binary_sizes_survive_formatting(kib: int) -> None:
    """Whole KiB come back exactly, so a resolved config is the config."""
    assert parse_bytes(format_bytes(kib * 1024)) == kib * 1024 or kib * 1024 % 2**20


@pytest.mark.parametrize(
    ("text", "spacing", "units", "pixels"),
    [
        ("60 m", (20.0, 10.0), "m", (3.0, 6.0)),
        ("2 mm", (6.5, 1.0, 0.5), "mm", (2 / 6.5, 2.0, 4.0)),
        ("0.06 km", (10.0, 10.0), "m", (6.0, 6.0)),
        ("3 px", (10.0, 10.0), "unknown", (3.0, 3.0)),
        (3, (10.0, 10.0), "unknown", (3.0, 3.0)),
        (0, (10.0, 10.0), "m", (0.0, 0.0)),
        ("60 m", (100.0, 100.0), "us-ft", (1.9685, 1.9685)),
        ("60 m", (100.0, 100.0), "ft", (60 / 30.48, 60 / 30.48)),
        ("200 ft", (10.0, 10.0), "m", (6.096, 6.096)),
        ("3937 us-ft", (600.0, 600.0), "m", (2.0, 2.0)),
        ("60 m", (0.03, 0.03), "km", (2.0, 2.0)),
        ("20 µm", (0.005, 0.005, 0.01), "mm", (4.0, 4.0, 2.0)),
        ("1 cm", (5.0, 5.0, 5.0), "mm", (2.0, 2.0, 2.0)),
    ],
)
def test_lengths_become_pixels(
    text: str | int, spacing: tuple[float, ...], units: str, pixels: tuple[float, ...]
) -> None:
    """A length is divided by the step of each axis; pixels count the same on all."""
    assert parse_length(text).pixels(spacing, units) == pytest.approx(pixels)


def test_degrees_use_the_latitude() -> None:
    """At 60 degrees north a degree of longitude is half as long as one of latitude."""
    rows, cols = parse_length("111.132 km").pixels((1.0, 1.0), "deg", 60.0)
    assert rows == pytest.approx(1.0, abs=1e-3)
    assert cols == pytest.approx(1 / math.cos(math.radians(60)), abs=1e-3)


@pytest.mark.parametrize(("units", "latitude"), [("unknown", None), ("deg", 89.0), ("deg", None), ("yd", 0.0)])
def test_lengths_without_a_scale_are_refused(units: str, latitude: float | None) -> None:
    """No length unit or a pole: say it, and say that px works."""
    with pytest.raises(ConfigError, match="give it in px"):
        parse_length("60 m").pixels((1.0, 1.0), units, latitude)


@pytest.mark.parametrize("units", ["m", "us-ft", "mm", "deg"])
def test_a_number_without_a_unit_asks_for_one(units: str) -> None:
    """60 may be meant in metres: on a grid with a unit nothing is assumed."""
    with pytest.raises(ConfigError, match=r"'60' has no unit.*write '60 px' or '60 (m|us-ft|mm)'"):
        parse_length("60").pixels((10.0, 10.0), units, 0.0)


@pytest.mark.parametrize("text", ["60 yards", "m 60", "-3 px", "wide"])
def test_wrong_lengths_are_refused(text: str) -> None:
    """What is no length names itself and right examples."""
    with pytest.raises(ConfigError, match=f"'{text}' is no length.*3 px"):
        parse_length(text)
