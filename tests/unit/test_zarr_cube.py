"""A cube of dates: what its variables hold of images with alpha, scales, nodata, doubt or a turned grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from numpy.typing import NDArray

from pipeline.errors import IntegrityError, SourceError
from pipeline.formats import _zarr_cube as cubes
from pipeline.formats import open_any
from pipeline.formats._zarr_cube import CubeDate, is_intact, unlike, write_cube
from pipeline.geometry.box import Box
from tests.support_formats import ArraySource, random_values, same_bytes, space_of

SHAPE = (30, 40)
DAY = datetime(2024, 6, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
CODES: Mapping[int, str] = {0: "observed", 10: "reference 0", 11: "other channels"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(ArraySource):
    """Notes the pixels of each window."""

    seen: list[int] = field(default_factory=list)

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return the window."""
        self.seen.append(box.size)
        return self.values[(channels, *box.slices)]


def _image(n: int, dtype: str, seed: int, **facts: Any) -> Watched:
    names = tuple(f"B{c + 1}" for c in range(n))
    return Watched(
        values=random_values((n, *SHAPE), dtype, seed), space=space_of(SHAPE), channel_names=names, native_chunk=SHAPE,
        **facts,
    )  # fmt: skip


def _date(at: int, *, doubt: bool = False, alpha: bool = False, planes: int = 1, **facts: Any) -> CubeDate:
    layers: dict[Any, Any] = {
        "restored": _image(3, "uint16", at, fixed_channels=(2,) if alpha else (), **facts),
        "uncertainty": _image(2 if alpha else 3, "float32", at),
        "source": _image(planes, "uint8", at),
    }
    if doubt:
        layers["doubt"] = _image(1, "uint8", at)
    codes: dict[Any, Any] = {"source": CODES, "doubt": {0: "not doubted"}}
    return CubeDate(moment=DAY + timedelta(days=at), layers=layers, guides=("a", "b"), codes=codes)


def _written(folder: Path, *dates: CubeDate, memory: int = 2**20) -> Any:
    write_cube(folder / "cube.zarr", dates, {"title": "a test"}, memory)
    assert is_intact(folder / "cube.zarr")
    return xarray.open_zarr(folder / "cube.zarr", mask_and_scale=False)


def test_every_band_has_every_layer(tmp_path: Path) -> None:
    """One plane of codes is that of all bands; alpha was never touched; a date without doubt has none."""
    dates = [_date(0, alpha=True), _date(1, alpha=True, planes=2, doubt=True)]
    cube = _written(tmp_path, *dates)
    assert [cube[name].shape for name in cube.data_vars] == [(2, 3, *SHAPE)] * 4
    for at, date in enumerate(dates):
        layers = date.layers
        assert same_bytes(cube["restored"][at].values, layers["restored"].values)  # type: ignore[attr-defined]
        assert same_bytes(cube["uncertainty"][at, :2].values, layers["uncertainty"].values)  # type: ignore[attr-defined]
        assert np.isnan(cube["uncertainty"][at, 2].values).all()
        codes = np.broadcast_to(layers["source"].values, (2, *SHAPE))  # type: ignore[attr-defined]
        assert same_bytes(cube["source"][at, :2].values, codes)
        assert (cube["source"][at, 2].values == 255).all()
    assert not cube["doubt"][0].values.any()
    doubt = np.broadcast_to(dates[1].layers["doubt"].values, (2, *SHAPE))  # type: ignore[attr-defined]
    assert same_bytes(cube["doubt"][1, :2].values, doubt)


def test_what_numbers_mean(tmp_path: Path) -> None:
    """Scale, offset and nodata are those of the image; errors have its scale; times are in UTC."""
    cube = _written(tmp_path, *(_date(at, no_value=7.0, scale_offset=((0.5, 3.0),) * 3) for at in (0, 1)))
    assert cube["time"].values[0] == np.datetime64("2024-06-01T10:30:00")
    read = xarray.open_zarr(tmp_path / "cube.zarr")
    stored = cube["restored"].values
    expected = np.where(stored == 7, np.nan, stored * 0.5 + 3.0)
    np.testing.assert_allclose(read["restored"].values, expected)
    errors = read["uncertainty"].encoding
    assert (errors["scale_factor"], errors["add_offset"]) == (0.5, 0.0)
    assert read["source"].dtype == np.uint8
    several = _date(0, scale_offset=((1.0, 0.0), (2.0, 0.0), (3.0, 0.0)))
    write_cube(tmp_path / "other", [several], {}, 2**20)
    assert xarray.open_zarr(tmp_path / "other")["restored"].attrs["band_scales"] == [1.0, 2.0, 3.0]


def test_codes_that_differ_between_dates(tmp_path: Path) -> None:
    """A code that means two things by date has both names; guides are named date by date."""
    other = replace(_date(1), codes={"source": {0: "observed", 11: "auxiliary 1"}, "doubt": {}}, guides=("c",))
    said = _written(tmp_path, _date(0), other)["source"].attrs
    meanings = dict(zip(said["flag_values"], said["flag_meanings"].split(), strict=True))
    assert meanings == {0: "observed", 10: "reference_0", 11: "other_channels_or_auxiliary_1"}
    assert said["guides"] == ["a, b", "c"]


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than half of what is allowed is read at once, whatever the number of dates."""
    monkeypatch.setattr(cubes, "_CHUNK", 16)
    dates = [_date(at) for at in range(2)]
    _written(tmp_path, *dates, memory=2 * 12 * 16 * 16)
    for date in dates:
        for layer in date.layers.values():
            assert max(layer.seen) <= 16 * 16 * 4  # type: ignore[attr-defined]
            # written and compared
            assert sum(layer.seen) == 2 * SHAPE[0] * SHAPE[1]  # type: ignore[attr-defined]


def test_a_cube_is_compared_with_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not keep what is written is found out, and the store has no seal."""
    write = zarr.Array.__setitem__

    def lossy(array: Any, place: Any, values: Any) -> None:
        write(array, place, np.zeros_like(values) if array.basename == "source" else values)

    monkeypatch.setattr(zarr.Array, "__setitem__", lossy)
    with pytest.raises(IntegrityError, match="source of 2024-06-01"):
        write_cube(tmp_path / "cube.zarr", [_date(0)], {}, 2**20)
    assert not is_intact(tmp_path / "cube.zarr")


def test_a_turned_grid(tmp_path: Path) -> None:
    """There are no x and y of a rotated image; its transform is there all the same."""
    turned = replace(space_of(SHAPE), affine=(10.0, 1.0, 5e5, 1.0, -10.0, 5e6))
    date = _date(0)
    layers: dict[Any, Any] = {role: replace(layer, space=turned) for role, layer in date.layers.items()}  # type: ignore[type-var]
    cube = _written(tmp_path, replace(date, layers=layers))
    assert "x" not in cube.coords
    assert cube["spatial_ref"].attrs["GeoTransform"].split()[1:3] == ["10.0", "1.0"]


def test_a_cube_is_no_image(tmp_path: Path) -> None:
    """Given as an image it is refused with its axes."""
    _written(tmp_path, _date(0))
    with pytest.raises(SourceError, match="time"):
        open_any(str(tmp_path / "cube.zarr"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": replace(space_of(SHAPE), crs="")}, "reference system"),
        ({"no_value": 1.0}, "nodata: 1, 1, 1 instead of none"),
        ({"scale_offset": ((2.0, 0.0),) * 3}, "scale and offset"),
        ({"channel_names": ("B1", "B2", "B4")}, "bands: B1, B2, B4 instead of B1, B2, B3"),
        ({"fixed_channels": (2,)}, "bands that are not restored: B3 instead of none"),
        ({"attributes": {"units": ["m"]}}, "units: m instead of none"),
        ({"attributes": {"units": [""]}}, ""),
    ],
)
def test_what_dates_must_have_in_common(changes: dict[str, Any], words: str) -> None:
    """Each difference is named with both values."""
    image = _image(3, "uint16", 0)
    said = unlike(image, replace(image, **changes))
    assert words in said
    assert bool(words) == bool(said)


def test_day_starts(tmp_path: Path) -> None:
    """Fractions of a second go, before 1970, too."""
    early = replace(_date(0), moment=datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC))
    assert _written(tmp_path, early)["time"].values[0] == np.datetime64("1969-12-31T23:59:59")
