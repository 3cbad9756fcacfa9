"""A series: every date of one place is restored with the others, nearest in time first."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray
import zarr

from pipeline.blocks.events import Events
from pipeline.config.batch import SourceSpec
from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.config.series import day_of_name
from pipeline.errors import ConfigError, Interrupted, OutputConflict
from pipeline.formats._zarr_cube import attributes_of
from pipeline.output import cube_target
from pipeline.output.cube import Cube, check_cubes, cubes_of, make_cube
from pipeline.system.facts import file_facts
from pipeline.system.files import remove_made
from pipeline.system.signals import stoppable
from tests.helpers import blobs, command, layer, pixels, run_config, smooth, write_image
from tests.support_formats import same_bytes
from tests.support_scenes import write_safe

assert rioxarray  # it adds `.rio` to what xarray opens
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
    """Two dates, a third one that is hidden whole, and their results in `out/series` with a cube."""
    folder = tmp_path_factory.mktemp("series")
    names = [_date(folder, at).name for at in (0, 1, 3)]
    write_image(folder / f"S2_{DATES[3]}_mask.tif", np.ones((1, *SHAPE), dtype=np.uint8))
    outcome = command("run", _config(folder, names[::-1], output={"directory": "out/series", "cube": True}))
    assert outcome.code == 5, outcome.err
    assert f"cube.zarr: note: lacks dates that are not finished: S2_{DATES[3]}" in outcome.err
    return folder


def test_a_series_restores_every_date(finished: Path) -> None:
    """Files of one band each are dates here; each has a result of its own, made of the other outside of its mask."""
    for at, date in enumerate(DATES[:2]):
        folder = finished / "out" / "series" / f"S2_{date}"
        record, restored = json.loads((folder / "record.json").read_text()), pixels(layer(folder, "restored"))
        truth, hole = pixels(finished / f"S2_{date}.tif"), blobs(SHAPE, seed=at, n=2) != 0
        assert np.array_equal(restored[:, ~hole], truth[:, ~hole])
        assert record["date"] == f"2024-06-{(1, 11)[at]:02}"
        labels = [reference["label"] for reference in record["references"]]
        assert labels == [f"2024-06-{(11, 1)[at]:02}", "2024-08-01"]
        assert record["holes"]["by_source"]["reference 0"] > 0.5 * record["holes"]["pixels"]
        both = hole & ~(blobs(SHAPE, seed=1 - at, n=2) != 0)
        # the other date shows even the noise of the ground, which no interpolation could
        assert np.median(np.abs(restored[:, both].astype(float) - truth[:, both])) <= 1
        assert "series: 2 of 2 other dates are references, nearest in time first" in "\n".join(record["notices"])


def test_a_cube_opens_without_a_word(finished: Path) -> None:
    """Xarray and rioxarray find time, place and codes by themselves; values are those of the results, bit for bit."""
    cube = xarray.open_zarr(finished / "out" / "series" / "cube.zarr")
    assert set(cube.data_vars) == {"restored", "uncertainty", "source"}
    assert all(cube[name].dims == ("time", "band", "y", "x") for name in cube.data_vars)
    assert [str(day)[:10] for day in cube["time"].values] == ["2024-06-01", "2024-06-11"]
    assert (cube["time"].encoding["units"][:13], cube["time"].encoding["calendar"]) == ("seconds since", "standard")
    assert [cube[axis].attrs["standard_name"] for axis in "xy"] == [f"projection_{axis}_coordinate" for axis in "xy"]
    assert "_FillValue" in cube["uncertainty"].encoding
    for at, date in enumerate(DATES[:2]):
        folder = finished / "out" / "series" / f"S2_{date}"
        for role in cube.data_vars:
            file = layer(folder, str(role))
            assert same_bytes(cube[role][at].values, pixels(file))
        hole, truth = blobs(SHAPE, seed=at, n=2) != 0, pixels(finished / f"S2_{date}.tif")
        assert same_bytes(cube["restored"][at].values[:, ~hole], truth[:, ~hole])
        assert np.array_equal(cube["source"][at].values[0] != 0, hole)
    with rasterio.open(finished / f"S2_{DATES[0]}.tif") as image:
        assert cube.rio.crs == image.crs
        assert cube.rio.bounds() == tuple(image.bounds)
    assert cube["restored"].attrs["grid_mapping"] == "spatial_ref"
    assert "crs_wkt" in cube["spatial_ref"].attrs
    said = cube["source"].attrs
    meanings = dict(zip(said["flag_values"], said["flag_meanings"].split(), strict=True))
    assert (meanings[0], meanings[10], meanings[11]) == ("observed", "reference_0", "reference_1")
    assert said["guides"] == ["2024-06-11, 2024-08-01", "2024-06-01, 2024-08-01"]


def test_the_lines_of_the_documents(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/scenes.md shows of a cube runs as it stands there."""
    monkeypatch.chdir(finished)
    page = (Path(__file__).parents[2] / "docs" / "scenes.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    said: dict[str, Any] = {}
    exec(lines, said)
    hole = blobs(SHAPE, seed=0, n=2) != 0
    assert np.array_equal(np.isnan(said["observed"].values[0, 0]), hole)


def test_a_cube_says_where_it_comes_from(finished: Path) -> None:
    """The records of its dates, what it lacks; attributes are plain, so that xarray could write them as netCDF."""
    directory = finished / "out" / "series"
    cube = xarray.open_zarr(directory / "cube.zarr")
    assert cube.attrs["missing_dates"] == [f"S2_{DATES[3]}"]
    assert [json.loads((directory / path).read_text())["stem"] for path in cube.attrs["records"]] == cube.attrs["dates"]
    for attributes in (cube.attrs, *(variable.attrs for variable in cube.variables.values())):
        for value in attributes.values():
            assert isinstance(value, str | int | float) or (isinstance(value, list) and value)
    summary = json.loads((directory / "run.json").read_text())
    assert summary["cubes"] == [{"path": "cube.zarr", "dates": 2, "missing": [f"S2_{DATES[3]}"], "state": "done"}]
    assert not (directory / ".work" / "cube.zarr").exists()


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Cube:
    """The cube of a copy of the results; its third date is not finished."""
    config = load_config(finished / "run.yaml")
    (cube,) = cubes_of(config, resolve_sources(config))
    shutil.copytree(finished / "out" / "series", tmp_path / "series")
    return replace(cube, path=tmp_path / "series" / "cube.zarr")


BOTH = [f"S2_{DATES[0]}", f"S2_{DATES[1]}"]


def _made(cube: Cube, done: list[str] = BOTH, *, overwrite: bool = False) -> str:
    return str(make_cube(cube, done, Events(), overwrite=overwrite)["state"])


def test_a_cube_is_made_once(copied: Cube) -> None:
    """One that is there and whole stays; made again it has the same bytes; one that is gone is made."""
    before, moment = file_facts(copied.path), (copied.path / "zarr.json").stat().st_mtime_ns
    assert _made(copied) == "done"
    assert (copied.path / "zarr.json").stat().st_mtime_ns == moment
    remove_made(copied.path)
    assert _made(copied) == "done"
    assert file_facts(copied.path) == before
    assert _made(copied, overwrite=True) == "done"
    assert file_facts(copied.path) == before
    assert not copied.work.exists()


def test_a_cube_that_somebody_changed_stays(copied: Cube) -> None:
    """What was added to it is lost only with --overwrite; what is no cube of ours is never replaced."""
    with zarr.config.set({"default_zarr_format": 3}):
        zarr.open_group(copied.path, mode="r+").create_array("ndvi", data=np.zeros(3))
    (check,) = check_cubes(copied.path.parent)["cube.zarr"]
    assert (check.name, check.held) == ("files", False)
    with pytest.raises(OutputConflict, match="is not what was written"):
        _made(copied)
    assert (copied.path / "ndvi").is_dir()
    assert _made(copied, overwrite=True) == "done"
    assert not (copied.path / "ndvi").exists()
    shutil.rmtree(copied.path)
    copied.path.mkdir()
    (copied.path / "notes.txt").touch()
    with pytest.raises(OutputConflict, match="is no cube of this program"):
        _made(copied, overwrite=True)
    assert (copied.path / "notes.txt").exists()


def test_a_run_tells_of_a_cube_that_it_left(copied: Cube, finished: Path) -> None:
    """The results are found finished, the cube stays as somebody made it, and the summary says why."""
    (copied.path / "notes.txt").touch()
    outcome = command("run", finished / "run.yaml", "--set", f"output.directory={copied.path.parent}")
    assert outcome.code == 5, outcome.err
    assert "cube.zarr: FAILED" in outcome.err
    (row,) = json.loads((copied.path.parent / "run.json").read_text())["cubes"]
    assert (row["state"], row["exit_code"]) == ("failed", 6)
    assert str(copied.path.parent) not in row["error"]
    assert (copied.path / "notes.txt").exists()


def test_a_cube_does_not_lose_dates(copied: Cube, finished: Path) -> None:
    """A date that fails later does not shorten what was there; a result that is another one makes another cube."""
    before = file_facts(copied.path)
    assert _made(copied, BOTH[:1]) == "kept"
    assert file_facts(copied.path) == before
    remove_made(copied.path)
    assert _made(copied, BOTH[:1]) == "done"
    assert attributes_of(copied.path)["dates"] == BOTH[:1]  # type: ignore[index]
    (check,) = check_cubes(copied.path.parent)["cube.zarr"]
    assert check.held
    assert _made(copied) == "done"
    assert file_facts(copied.path) == before
    assert _made(copied, []) == "none"


@pytest.mark.parametrize("at", ["write", "before the exchange", "between two renames"])
def test_a_stopped_cube_is_completed(copied: Cube, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is ended, what was there is there, and the next run makes the new one."""
    remove_made(copied.path)
    _made(copied, BOTH[:1])
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.system.files._exchanged", lambda *_: False)
        if at == "before the exchange":
            patch.setattr(cube_target.FolderTarget, "put", _end)
        elif at == "between two renames":
            rename = Path.rename
            patch.setattr(Path, "rename", lambda one, to: _end() if one.name == "building.zarr" else rename(one, to))
        with stoppable(lambda: at == "write"), pytest.raises((Interrupted, KeyboardInterrupt)):
            _made(copied)
    there = copied.work / "aside.zarr" if at == "between two renames" else copied.path
    assert attributes_of(there)["dates"] == BOTH[:1]  # type: ignore[index]
    assert _made(copied) == "done"
    assert attributes_of(copied.path)["dates"] == BOTH  # type: ignore[index]
    assert not copied.work.exists()


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_no_cube_can_hold(tmp_path: Path) -> None:
    """Before anything runs the dates are named that differ in grid, type or bands, or that cannot be put in order."""
    first, second, third = (_date(tmp_path, at) for at in range(3))
    names = [first.name, second.name, third.name]

    def refusal(source: list[str], **given: Any) -> str:
        outcome = command("run", _config(tmp_path, source, output={"cube": True}, **given))
        assert outcome.code == 2, outcome.err
        assert not (tmp_path / "out").exists()
        return outcome.err

    values = pixels(second)
    for changed, words in (
        (values[:, 1:], "grid"),
        (values.astype(np.int32), "type: int32 instead of uint16"),
        (np.repeat(values, 2, axis=0), "bands: band_1, band_2 instead of band_1"),
    ):
        write_image(second, changed)
        said = refusal(names)
        assert f"S2_{DATES[1]}: {words}" in said
        assert "run.yaml" in said
    write_image(second, values, nodata=7)
    assert "nodata: 7 instead of none" in refusal(names)
    write_image(second, values)
    twin = shutil.copy(second, tmp_path / f"other_{DATES[1]}.tif")
    assert f"other_{DATES[1]} are of the same time, 2024-06-11" in refusal([*names, Path(twin).name])
    bare = shutil.copy(second, tmp_path / "clear.tif")
    assert "nothing says when these were taken: clear" in refusal([first.name, Path(bare).name])
    assert "set input.series: true, too" in refusal(names, series=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cube.zarr").touch()
    assert command("run", _config(tmp_path, names, output={"cube": True})).code == 6


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


def test_a_date_that_cannot_be_read_is_named_as_a_reference(tmp_path: Path) -> None:
    """The others fail for it with files of their own that are sound: the message says what it is to them."""
    dates = [_date(tmp_path, at) for at in range(2)]
    dates[1].write_bytes(dates[1].read_bytes()[:900])
    outcome = command("run", _config(tmp_path, [str(date) for date in dates]))
    assert outcome.code == 5
    assert f"S2_{DATES[0]}: FAILED: reference {dates[1]}: truncated" in outcome.err
    assert f"S2_{DATES[1]}: FAILED: {dates[1]}: truncated" in outcome.err
    assert "or leave it out" in outcome.err


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


def test_cubes_of_scenes(tmp_path: Path) -> None:
    """Numbers of two baselines are not put into one cube; every size of pixels has a cube of its own."""
    for day, baseline in (("20220126", "04.00"), ("20220128", "05.00"), ("20210901", "02.14")):
        write_safe(tmp_path, baseline=baseline, date=day)
    inputs = {"source": "*_2022*.SAFE", "series": True, "grid": "each"}
    config = load_config(run_config(tmp_path, "", None, mask=None, input=inputs, output={"cube": True}))
    found = cubes_of(config, resolve_sources(config))
    assert {cube.path.name: len(cube.dates) for cube in found} == {f"cube_{n}0m.zarr": 2 for n in (1, 2, 6)}
    config = load_config(tmp_path / "run.yaml", ["input.source='*.SAFE'"])
    with pytest.raises(ConfigError, match=r"the numbers of 2 of 3 dates mean something else than those of .*_N0214_"):
        cubes_of(config, resolve_sources(config))


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


def test_a_volume_with_time_points_is_a_series(tmp_path: Path) -> None:
    """A slice that one time point lost comes from the others, in one 4-D NIfTI with the input's own header."""
    rng, shape = np.random.default_rng(0), (9, 16, 18)
    ground = smooth((1, *shape), "float64")[0] + rng.normal(0, 60, shape)
    values = np.stack([ground * (1 + 0.02 * np.sin(t)) + rng.normal(0, 3, shape) for t in range(5)]).astype(np.int16)
    image = write_image(tmp_path / "sub-01_bold.nii.gz", values)
    lost = [{"kind": "slices", "slices": [4], "volumes": [2]}]
    config = run_config(tmp_path, image, None, mask=lost, input={"series": True})
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert "its own time points are the series" in outcome.err
    (result,) = (tmp_path / "out").rglob("*_restored.nii.gz")
    restored, before = nibabel.load(result), nibabel.load(image)
    assert restored.header.binaryblock == before.header.binaryblock
    after = pixels(result)
    hole = np.zeros(values.shape, dtype=bool)
    hole[2, 4] = True
    assert np.array_equal(after[~hole], values[~hole])
    error = np.sqrt(np.mean((after[hole].astype(float) - values[hole]) ** 2))
    # the slices above and below it know nothing of what is 60 high, the time points all but their noise
    assert error < 8
    record = json.loads((result.parent / "record.json").read_text())
    assert record["holes"]["by_source"] == {"other channels": int(hole.sum())}


def test_volumes_among_dates(tmp_path: Path) -> None:
    """Each 4-D volume is a series of its own, 3-D ones are dates of one another; a cube is made of none of them."""
    volumes = [write_image(tmp_path / f"day{n}.nii", smooth((1, 6, 7, 8), "int16", n)) for n in (1, 2)]
    series = [write_image(tmp_path / f"run{n}.nii.gz", smooth((3, 6, 7, 8), "int16", n)) for n in (1, 2)]
    given = {"mask": [{"kind": "slices", "slices": [2]}], "input": {"source": "*.nii*", "series": True}}
    config = run_config(tmp_path, "x.nii", None, **given)
    specs = {spec.stem: [one.stem for one in spec.references] for spec in _specs(config)}
    assert specs == {"day1": ["day2"], "day2": ["day1"], "run1": [], "run2": []}
    for path, words in ((volumes[0], "only one image is there, day1"), (series[0], "")):
        config = run_config(tmp_path, path, None, mask=given["mask"], input={"series": True})
        outcome = command("plan", config, "--set", "output.cube=true")
        assert outcome.code == 2
        assert (words or "these are volumes: run1") in outcome.err


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
