"""A series: every date of one place is restored with the others, nearest in time first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray

from pipeline.config.batch import SourceSpec
from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.config.series import day_of_name
from pipeline.errors import ConfigError
from tests.helpers import blobs, command, layer, pixels, run_config, smooth, write_image
from tests.support_scenes import write_safe

ROOT = Path(__file__).parents[2]
SHAPE = (40, 44)
DATES = ("20240601", "20240611", "20240616", "20240801")


def _date(folder: Path, at: int, bands: int = 1) -> Path:
    """Write one date of the same ground, a little brighter every time, with holes of its own."""
    ground = smooth((bands, *SHAPE)).astype(np.float64) * (1 + 0.1 * at)
    path = write_image(folder / f"S2_{DATES[at]}.tif", ground.astype(np.uint16))
    write_image(folder / f"S2_{DATES[at]}_mask.tif", blobs(SHAPE, seed=at, n=2)[None])
    return path


def _config(folder: Path, source: object, output: dict[str, Any] | None = None, **given: Any) -> Path:
    masks, images = (
        [{"kind": "raster", "path": "{folder}/{stem}_mask.tif"}],
        {"source": source, "series": True, **given},
    )
    return run_config(folder, "", None, mask=masks, input=images, output=output or {})


def _specs(config: Path) -> list[SourceSpec]:
    return resolve_sources(load_config(config))


def _dates(spec: SourceSpec) -> list[str | None]:
    return [one.date for one in spec.references]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dates and their results in `out/series`, as GeoTIFF and zarr."""
    folder = tmp_path_factory.mktemp("series")
    names = [_date(folder, at).name for at in (0, 1)]
    outcome = command("run", _config(folder, names, output={"directory": "out/series", "format": ["same", "zarr"]}))
    assert outcome.code == 0, outcome.err
    return folder


def test_a_series_restores_every_date(finished: Path) -> None:
    """Files of one band each are dates here; each has a result of its own, made of the other outside of its mask."""
    for at, date in enumerate(DATES[:2]):
        folder = finished / "out" / "series" / f"S2_{date}"
        record, restored = json.loads((folder / "record.json").read_text()), pixels(layer(folder, "restored"))
        truth, hole = pixels(finished / f"S2_{date}.tif"), blobs(SHAPE, seed=at, n=2) != 0
        assert np.array_equal(restored[:, ~hole], truth[:, ~hole])
        assert record["date"] == f"2024-06-{(1, 11)[at]:02}"
        assert [reference["label"] for reference in record["references"]] == [f"2024-06-{(11, 1)[at]:02}"]
        assert record["holes"]["by_source"]["reference 0"] > 0.5 * record["holes"]["pixels"]
        both = hole & ~(blobs(SHAPE, seed=1 - at, n=2) != 0)
        # the other date shows even the noise of the ground, which no interpolation could
        assert np.median(np.abs(restored[:, both].astype(float) - truth[:, both])) <= 1
        assert "series: 1 of 1 other dates are references, nearest in time first" in "\n".join(record["notices"])


def test_dates_become_a_cube(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of docs/scenes.md give one zarr whose time axis others read; its values are those of the results."""
    monkeypatch.chdir(finished)
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "scenes.md").read_text(), re.DOTALL)
    exec(lines, {})
    cube = xarray.open_zarr("series.zarr", consolidated=False)["restored"]
    assert cube.dims == ("time", "band", "y", "x")
    assert [str(day)[:10] for day in cube["time"].values] == ["2024-06-01", "2024-06-11"]
    assert "since" in cube["time"].encoding["units"]
    for day, date in zip(cube, DATES, strict=False):
        assert np.array_equal(day, pixels(layer(finished / "out" / "series" / f"S2_{date}", "restored")))


def test_the_nearest_in_time_first(tmp_path: Path) -> None:
    """Dates come from the names; their number is limited; what the config names itself comes before them."""
    for at in range(4):
        _date(tmp_path, at)
    extra = str(write_image(tmp_path / "extra.tif", smooth((1, *SHAPE))))
    specs = _specs(_config(tmp_path, "S2_*[0-9].tif", series_references=2, references=[extra]))
    assert [_dates(spec)[1:] for spec in specs] == [
        ["2024-06-11", "2024-06-16"],
        ["2024-06-16", "2024-06-01"],
        ["2024-06-11", "2024-06-01"],
        ["2024-06-16", "2024-06-11"],
    ]
    assert all(Path(spec.references[0].paths[0]).name == "extra.tif" for spec in specs)
    assert all(not one.references for spec in specs for one in spec.references)


def test_dates_that_are_not_known(tmp_path: Path) -> None:
    """One image without a date: their order in the list is that in time, and the notice says so."""
    names = [_date(tmp_path, at) for at in (3, 0, 1)]
    names[1] = names[1].rename(tmp_path / "clear.tif")
    specs = _specs(_config(tmp_path, [path.name for path in names]))
    assert [Path(one.paths[0]).name for one in specs[0].references] == ["clear.tif", names[2].name]
    assert "nearest in the list" in specs[0].notices[-1]
    assert [spec.date for spec in specs] == [None] * 3


def test_scenes_are_dates(tmp_path: Path) -> None:
    """SAFE folders of two baselines: every one in its own convention, sizes of pixels are no dates of one another."""
    for baseline, day in (("04.00", "20220126"), ("02.14", "20210901")):
        write_safe(tmp_path, baseline=baseline, date=day)
    config = run_config(tmp_path, "", None, mask=None, input={"source": "*.SAFE", "series": True, "grid": "each"})
    specs = _specs(config)
    assert len(specs) == 6
    for spec in specs:
        (other,) = spec.references
        assert (other.stem[-4:], other.stem != spec.stem) == (spec.stem[-4:], True)
        assert set(other.shift) == {1000.0 if "_N0400_" in spec.stem else -1000.0}


def test_frames_that_differ(tmp_path: Path) -> None:
    """A date with another extent is read on the grid of the image; a date alone is no series."""
    first, second = _date(tmp_path, 0), _date(tmp_path, 1)
    with rasterio.open(second) as file:
        profile, part = file.profile, file.read()[:, 2:, 4:]
    moved = profile["transform"] @ rasterio.Affine.translation(4, 2)
    write_image(second, part, transform=moved)
    outcome = command("plan", _config(tmp_path, [first.name, second.name]))
    assert outcome.code == 0, outcome.err
    assert f"{second.name}: its grid is another; it is read on that of the image" in outcome.err + outcome.out
    with pytest.raises(ConfigError, match="only one image is there"):
        _specs(_config(tmp_path, first.name))


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("S2A_MSIL2A_20220126T102021_N0400_R065_T33UVP_20220128T140000.SAFE", "2022-01-26"),
        ("LC08_L2SP_199024_20220126_20220202_02_T1_SR_B4.TIF", "2022-01-26"),
        ("LE70220491999322EDC01_stack.gtif", "1999-11-18"),
        ("HLS.L30.T33UVP.2020196T101031.v2.0.B04.tif", "2020-07-14"),
        ("MOD09GA.A2020366.h18v03.tif", "2020-12-31"),
        ("field-2021-02-29.tif", None),
        ("field_2021_02_28b.tif", "2021-02-28"),
        ("scene_123456789.tif", None),
        ("sub-01_T1w.nii.gz", None),
    ],
)
def test_days_in_names(name: str, day: str | None) -> None:
    """As agencies and people write them; no date is read out of other numbers."""
    found = day_of_name(name)
    assert (found.isoformat() if found else None) == day
