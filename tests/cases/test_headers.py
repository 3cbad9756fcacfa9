"""Headers and files as people have them: taken, or refused before the work with what to do."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from scipy.io import netcdf_file

from pipeline.errors import SourceError
from pipeline.formats import open_any
from pipeline.geometry.space import same_crs
from pipeline.image.lone import lone_end
from pipeline.output.verify import observed_pixels
from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from tests.helpers import blobs, command, layer, pixels, run_config, smooth, write_image
from tests.support_formats import Affine, write_nifti, write_tiff

SHAPE = (40, 48)
VOLUME = (10, 14, 16)
ROTATED_POLE = CRS.from_user_input("+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +R=6371229")


def _config(folder: Path, image: Path | str | list[str], hole: Path | None, **sections: Any) -> Path:
    """Write a config with the cheapest fill, for one image or several."""
    source = {"source": image if isinstance(image, list) else str(image)} | sections.pop("input", {})
    return run_config(folder, "", hole, **{"model": {"kind": "nearest"}, "patch": None, "input": source, **sections})


def _drawn(folder: Path, shape: tuple[int, ...] = SHAPE, **how: Any) -> Path:
    suffix = ".tif" if len(shape) == 2 else ".nii.gz"
    return write_image(folder / f"m{suffix}", blobs(shape, n=2, radius=4)[None], **how)


def _run(config: Path, *more: str) -> tuple[Path, str]:
    """Run a config that must do, verify it, and return the folder of its image and what was said."""
    done = command("run", config, *more)
    assert done.code == 0, done.err
    (folder,) = {path.parent for path in (config.parent / "out").glob("*/record.json")}
    checked = command("verify", folder)
    assert checked.code == 0, checked.out + checked.err
    return folder, done.err


def _record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return found


def _restored(folder: Path) -> Path:
    return folder / next(o["path"] for o in _record(folder)["outputs"] if o["role"] == "restored")


def _refused(config: Path, code: int, *words: str) -> None:
    """Check that a config is refused with a code and words, and that nothing was made."""
    for name in ("plan", "run"):
        done = command(name, config)
        assert done.code == code, done.err
        assert all(word in done.err for word in words), done.err
        assert "Traceback" not in done.err
    assert not list((config.parent / "out").glob("*/*restored*"))


@pytest.mark.parametrize(("broken", "offset"), [("image", 0), ("mask", 0), ("image", 348), ("mask", 352.5)])
def test_voxels_that_start_within_the_header(tmp_path: Path, broken: str, offset: float) -> None:
    """Header bytes are never read as voxels, neither of an image nor of a mask."""
    image = write_image(tmp_path / "x.nii", smooth((1, *VOLUME), "int16"))
    mask = write_image(tmp_path / "m.nii", blobs(VOLUME, n=2, radius=3)[None])
    path = {"image": image, "mask": mask}[broken]
    content = bytearray(path.read_bytes())
    content[108:112] = struct.pack("<f", offset)
    path.write_bytes(content)
    _refused(_config(tmp_path, image, mask), 4, path.name, f"vox_offset is {offset:g}", "352")


GRAY, NONE, RED = ColorInterp.gray, ColorInterp.undefined, ColorInterp.red


@pytest.mark.parametrize("roles", [(GRAY, GRAY, GRAY), (NONE, GRAY, NONE), (NONE, RED, GRAY)])
def test_bands_without_a_colour_role(tmp_path: Path, roles: tuple[ColorInterp, ...]) -> None:
    """Gray and undefined are both "no role": what TIFF makes of the first band is no loss; other roles stay."""
    image = write_tiff(tmp_path / "plain.tif", smooth((3, *SHAPE)), photometric="MINISBLACK")
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{at}"><ColorInterp>{role.name.capitalize()}</ColorInterp>'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{image.name}</SourceFilename>'
        f"<SourceBand>{at}</SourceBand></SimpleSource></VRTRasterBand>"
        for at, role in enumerate(roles, start=1)
    )
    with rasterio.open(image) as dataset:
        place = f"<SRS>{dataset.crs.to_wkt()}</SRS><GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
    vrt = tmp_path / "x.vrt"
    vrt.write_text(f'<VRTDataset rasterXSize="{SHAPE[1]}" rasterYSize="{SHAPE[0]}">{place}{bands}</VRTDataset>')
    folder, _ = _run(_config(tmp_path, vrt, _drawn(tmp_path)))
    with rasterio.open(_restored(folder)) as dataset:
        assert [role == RED for role in dataset.colorinterp] == [role == RED for role in roles]


def _internal(dataset: Any) -> None:
    dataset.write_mask(np.where(blobs(SHAPE, n=2, radius=4), 0, 255).astype(np.uint8))


def _invalid(folder: Path, where: str) -> Path:
    """Write an image of which a file's mask or alpha band hides some pixels."""
    hole, values = blobs(SHAPE, n=2, radius=4), smooth((2, *SHAPE), "uint16")
    values[:, hole == 1] = 0
    if where == "alpha":
        alpha = np.where(hole, 0, 65535).astype(np.uint16)
        # half transparent pixels were observed, and stay half transparent
        alpha[0, :5] = 30000
        return write_tiff(
            folder / "x.tif",
            np.stack([values[0], alpha]),
            setup=lambda d: setattr(d, "colorinterp", (GRAY, ColorInterp.alpha)),
        )
    if where == "internal":
        return write_tiff(folder / "x.tif", values, setup=_internal)
    path = write_tiff(folder / "x.tif", values)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        _internal(dataset)
    assert path.with_name("x.tif.msk").exists()
    return path


@pytest.mark.parametrize("where", ["internal", "alpha", "msk"])
def test_restored_pixels_are_valid(tmp_path: Path, where: str) -> None:
    """A reader that asks the file's own mask or alpha sees restored pixels, and hidden ones stay hidden."""
    image = _invalid(tmp_path, where)
    gap = blobs(SHAPE, n=2, radius=4) == 1
    # half of what is hidden is restored, the rest is not
    some = gap & (np.arange(SHAPE[1]) < np.median(np.nonzero(gap)[1]))
    mask = write_image(tmp_path / "some.tif", some[None].astype(np.uint8))
    folder, said = _run(_config(tmp_path, image, mask))
    assert f"all {some.sum()} pixels to restore were filled" in said
    with rasterio.open(image) as before, rasterio.open(_restored(folder)) as after:
        was, now = before.dataset_mask() > 0, after.dataset_mask() > 0
        assert (~was == gap).all()
        assert (now == (was | some)).all()
        if where == "alpha":
            assert (after.read(2)[~some] == before.read(2)[~some]).all()


def test_verify_knows_hidden_restored_pixels(tmp_path: Path) -> None:
    """A result whose mask hides what was restored does not keep the first promise."""
    image = _invalid(tmp_path, "internal")
    folder, _ = _run(_config(tmp_path, image, None, mask=[{"kind": "nodata"}]))
    plan = load_plan(WorkFolder.of(folder))
    restored, origin = layer(folder, "restored"), layer(folder, "source")
    assert observed_pixels(plan, open_any(str(image)), restored, origin).held
    hidden = open_any(str(write_tiff(tmp_path / "hidden.tif", pixels(restored), setup=_internal)))
    check = observed_pixels(plan, open_any(str(image)), hidden, origin)
    assert not check.held
    assert "valid" in check.detail


def _damaged(name: str) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        if name == "quaternion":
            header.set_sform(None, code=0)
            header["qform_code"], header["quatern_b"], header["quatern_c"] = 1, 0.9, 0.9
        elif name == "zero sform":
            header["srow_x"] = header["srow_y"] = header["srow_z"] = 0
            header["sform_code"] = 1
        else:
            header["scl_slope"], header["scl_inter"] = 1.0, np.nan

    return change


def _with_header(path: Path, change: Callable[[Any], None]) -> Path:
    """Change the header of a written `.nii`: the library writes none that is wrong, and one place only."""
    content = path.read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    change(header)
    path.write_bytes(header.binaryblock + content[348:])
    return path


def _damaged_volume(path: Path, name: str, values: Any) -> Path:
    return _with_header(write_nifti(path, values), _damaged(name))


@pytest.mark.parametrize("name", ["quaternion", "zero sform", "intercept"])
@pytest.mark.parametrize("role", ["image", "mask"])
def test_damaged_volume_headers(tmp_path: Path, name: str, role: str) -> None:
    """A header that says nothing sensible is exit 4 with the file's name."""
    values = {"image": np.ones(VOLUME, np.int16), "mask": np.zeros(VOLUME, np.uint8)}
    paths = {
        one: (_damaged_volume if one == role else lambda path, _, found: write_nifti(path, found))(
            tmp_path / f"{one}.nii", name, found
        )
        for one, found in values.items()
    }
    _refused(_config(tmp_path, paths["image"], paths["mask"]), 4, f"{role}.nii")


def test_empty_mask_file(tmp_path: Path) -> None:
    """A mask of 0 bytes is exit 4 with its name."""
    image = write_image(tmp_path / "x.nii", smooth((1, *VOLUME), "int16"))
    (tmp_path / "e.nii.gz").write_bytes(b"")
    _refused(_config(tmp_path, image, tmp_path / "e.nii.gz"), 4, "e.nii.gz")


def test_an_unreadable_image_does_not_stop_a_batch(tmp_path: Path) -> None:
    """The others are done, the summary is written, and the exit code says that a part failed."""
    for stem in ("a", "c"):
        write_image(tmp_path / f"{stem}_T1w.nii", smooth((1, *VOLUME), "int16"))
    _damaged_volume(tmp_path / "b_T1w.nii", "quaternion", np.ones(VOLUME, np.int16))
    for stem in "abc":
        write_image(tmp_path / f"{stem}_T1w_mask.nii", blobs(VOLUME, n=2, radius=3)[None])
    config = _config(tmp_path, "*_T1w.nii", None, mask=[{"kind": "raster", "path": "{stem}_mask.nii"}])
    done = command("run", config)
    assert done.code == 5
    assert "b_T1w.nii" in done.err
    summary = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [entry["state"] for entry in summary["sources"]] == ["done", "failed", "done"]
    assert summary["exit_code"] == 5


def test_an_unreadable_image_first_in_a_list(tmp_path: Path) -> None:
    """The others of the list say that it is a batch; if they are bands of one image, its band is missing."""
    write_image(tmp_path / "b.tif", smooth((2, *SHAPE)))
    (tmp_path / "a.tif").write_bytes(b"II*\0 not really")
    config = _config(tmp_path, ["a.tif", "b.tif"], None, mask=[{"kind": "threshold", "above": 1300}])
    assert command("run", config).code == 5
    assert (tmp_path / "out" / "b" / "record.json").exists()
    write_image(tmp_path / "b1.tif", smooth((1, *SHAPE)))
    bands = _config(tmp_path, ["a.tif", "b1.tif"], None, mask=[{"kind": "threshold", "above": 1300}])
    assert command("run", bands).code == 4


WIDE = [("int64", -(2**63)), ("int64", 2**63 - 1), ("int64", -(2**53) - 1), ("uint64", 2**64 - 1), ("uint64", 7)]


def _wide(folder: Path, dtype: str, nodata: int, *, declared: bool) -> Path:
    """Write pixels of 64 bits with a gap of `nodata`, which the file declares exactly, or not."""
    values = smooth((1, *SHAPE)).astype(dtype)
    values[0, 10:14, 5:30] = nodata
    plain = write_tiff(folder / "plain.tif", values)
    return _declaring(plain, nodata) if declared else plain


def _declaring(plain: Path, nodata: float) -> Path:
    """Copy a raster so that it declares a nodata value which rasterio would not write."""
    image, vrt = plain.with_name("x.tif"), plain.with_name("declaring.vrt")
    rasterio.shutil.copy(plain, vrt, driver="VRT")
    vrt.write_text(vrt.read_text().replace("<ColorInterp>", f"<NoDataValue>{nodata}</NoDataValue><ColorInterp>"))
    rasterio.shutil.copy(vrt, image, driver="GTiff")
    return image


@pytest.mark.parametrize(("dtype", "nodata"), WIDE)
def test_nodata_of_64_bits(tmp_path: Path, dtype: str, nodata: int) -> None:
    """It is no observation, it is restored where asked for, and the result declares it to the last digit."""
    image = _wide(tmp_path, dtype, nodata, declared=True)
    assert open_any(str(image)).nodata == (nodata,)
    mask = [{"kind": "nodata", "max_gap": None}]
    folder, said = _run(_config(tmp_path, image, None, mask=mask, output={"format": ["same", "zarr"]}))
    assert "all 100 pixels to restore were filled" in said
    for name in ("x_restored.tif", "x_restored.zarr"):
        result = open_any(str(folder / name))
        assert result.nodata == (nodata,)
        assert not (pixels(result) == np.asarray(nodata, dtype=dtype)).any()
    assert str(nodata).encode() in (folder / "x_restored.tif").read_bytes()


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", -9999), ("uint16", -9999), ("int16", -3.4e38), ("uint8", 0.5)])
def test_nodata_that_no_pixel_can_have(tmp_path: Path, dtype: str, nodata: float) -> None:
    """The header keeps what it declares, even where no pixel could have that value."""
    # an image of no place, too: GDAL is told of that where it is opened
    plain = write_tiff(tmp_path / "plain.tif", smooth((3, *SHAPE), dtype), photometric="RGB", crs=None, transform=None)
    image = _declaring(plain, nodata)
    folder, _ = _run(_config(tmp_path, image, _drawn(tmp_path)))
    assert open_any(str(image)).attributes["nodata_declared"] == [str(float(nodata))] * 3
    after = open_any(str(_restored(folder))).attributes
    assert after["nodata_declared"] == [str(float(nodata))] * 3
    assert after["colorinterp"] == ["red", "green", "blue"]


@pytest.mark.parametrize(("dtype", "nodata"), WIDE[:4])
def test_nodata_of_64_bits_in_the_config(tmp_path: Path, dtype: str, nodata: int) -> None:
    """What the config says of nodata is not rounded either, and changes no header."""
    image = _wide(tmp_path, dtype, nodata, declared=False)
    mask = [{"kind": "nodata", "max_gap": None}]
    folder, said = _run(_config(tmp_path, image, None, mask=mask, input={"nodata": nodata}))
    assert "all 100 pixels to restore were filled" in said
    with rasterio.open(_restored(folder)) as dataset:
        assert dataset.nodata is None


@pytest.mark.parametrize("unit", ["micron", "meter", "unknown"])
def test_units_of_volumes(tmp_path: Path, unit: str) -> None:
    """Image and mask with the same header lie on the same grid, whatever unit it is in."""
    image = write_image(
        tmp_path / "x.nii.gz", smooth((1, *VOLUME), "int16"), setup=lambda h: h.set_xyzt_units(unit, "sec")
    )
    mask = _drawn(tmp_path, VOLUME, setup=lambda h: h.set_xyzt_units(unit, "sec"))
    _run(_config(tmp_path, image, mask))
    step = open_any(str(image)).space.spacing[0]
    assert step == pytest.approx({"micron": 0.0025, "meter": 2500, "unknown": 2.5}[unit])


def _with_empty(folder: Path, kind: str) -> tuple[Path, Any]:
    """Write an image of three channels, the second of which has no value; returns it and its values."""
    if kind == "raster":
        values = smooth((3, *SHAPE))
        values[1] = 0
        return write_tiff(folder / "x.tif", values, nodata=0), values
    values = smooth((3, *VOLUME), "float32")
    values[1] = np.nan
    return write_image(folder / "x.nii", values), values


@pytest.mark.parametrize("kind", ["raster", "volume"])
@pytest.mark.parametrize("holes", ["drawn", "nodata"])
def test_a_channel_without_any_value(tmp_path: Path, kind: str, holes: str) -> None:
    """It stays as it is, the layers say "never touched" of it, and the others become what they were without it."""
    image, values = _with_empty(tmp_path, kind)
    shape = values.shape[1:]
    if holes == "nodata":
        values[0, ..., 9:11, 3:9] = 0 if kind == "raster" else np.nan
        image = write_tiff(image, values, nodata=0) if kind == "raster" else write_image(image, values)
    mask = None if holes == "drawn" else [{"kind": "nodata", "max_gap": None}]
    config = _config(tmp_path, image, _drawn(tmp_path, shape), **({"mask": mask} if mask else {}))
    folder, said = _run(config)
    assert ("band_2" if kind == "raster" else "volume_2") in said
    codes, sigma, result = (pixels(layer(folder, role)) for role in ("source", "uncertainty", "restored"))
    assert len(codes) == len(sigma) == 3
    assert (codes[1] == 255).all()
    assert np.isnan(sigma[1]).all()
    assert np.array_equal(result[1], values[1], equal_nan=True)
    assert _record(folder)["holes"]["left"]["in channels without any value"] > 0
    (tmp_path / "alone").mkdir()
    alone = _config(tmp_path / "alone", image, tmp_path / _drawn(tmp_path, shape), input={"bands": [1, 3]},
                       **({"mask": mask} if mask else {}))  # fmt: skip
    assert np.array_equal(pixels(layer(_run(alone)[0], "restored")), result[[0, 2]], equal_nan=True)


def test_two_reference_systems_are_two_grids(tmp_path: Path) -> None:
    """The same numbers elsewhere are refused as a reference, with and without `resample`."""
    image = write_image(tmp_path / "x.tif", smooth((1, *SHAPE)))
    other = write_tiff(tmp_path / "r.tif", smooth((1, *SHAPE), seed=1), crs="EPSG:32632")
    for resample in (False, True):
        guide = {"path": str(other), "mask": [], "resample": resample}
        for role in ("references", "auxiliary"):
            config = _config(tmp_path, image, _drawn(tmp_path), input={role: [guide]})
            _refused(config, 2, "r.tif", "UTM zone 32N", "rio warp")


def test_one_reference_system_in_other_words(tmp_path: Path) -> None:
    """A reference in the same system is used, whatever text says so; a list of two systems is no single image."""
    code, other = CRS.from_epsg(32633).to_wkt(), CRS.from_epsg(32633).to_wkt(version="WKT2_2019")
    assert code != other
    assert same_crs(code, other)
    assert not same_crs(code, CRS.from_epsg(32632).to_wkt())
    assert not same_crs(code, "")
    space = open_any(str(write_image(tmp_path / "x.tif", smooth((1, *SHAPE))))).space
    unplaced = write_tiff(tmp_path / "r.tif", smooth((1, *SHAPE), seed=1), crs=None)
    config = _config(tmp_path, "x.tif", _drawn(tmp_path), input={"references": [{"path": str(unplaced), "mask": []}]})
    assert "r.tif: has no reference system" in command("plan", config).out
    assert not space.mismatch(replace(space, crs=CRS.from_epsg(32633).to_wkt(version="WKT2_2019")))
    assert "32N" in space.mismatch(replace(space, crs=CRS.from_epsg(32632).to_wkt()))


def test_a_reference_system_that_tiff_cannot_hold(tmp_path: Path) -> None:
    """It stands in a sidecar beside each layer, which is an output like the others, and is missed if it is gone."""
    grid = {"crs": ROTATED_POLE, "transform": Affine(0.1, 0, 5, 0, -0.1, 10)}
    image = write_image(tmp_path / "x.tif", smooth((1, *SHAPE)), **grid)
    assert (tmp_path / "x.tif.aux.xml").exists()
    folder, _ = _run(_config(tmp_path, image, _drawn(tmp_path, **grid)))
    sidecars = [o["path"] for o in _record(folder)["outputs"] if o["role"] == "sidecar"]
    assert sidecars == [f"x_{role}.tif.aux.xml" for role in ("restored", "uncertainty", "source")]
    with rasterio.open(image) as before, rasterio.open(_restored(folder)) as after:
        assert before.crs == after.crs == ROTATED_POLE
    (folder / sidecars[0]).unlink()
    gone = command("verify", folder)
    assert gone.code == 1
    assert sidecars[0] in gone.out


def _vrt_of(folder: Path, wkt: str) -> Path:
    write_tiff(folder / "plain.tif", smooth((1, *SHAPE)), crs=None)
    vrt = folder / "x.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="{SHAPE[1]}" rasterYSize="{SHAPE[0]}"><SRS>{wkt}</SRS>'
        '<GeoTransform>500000,10,0,5000000,0,-10</GeoTransform><VRTRasterBand dataType="UInt16" band="1">'
        '<SimpleSource><SourceFilename relativeToVRT="1">plain.tif</SourceFilename></SimpleSource></VRTRasterBand>'
        "</VRTDataset>"
    )
    return vrt


def test_what_the_output_cannot_hold_is_known_before_the_work(tmp_path: Path) -> None:
    """A local system of no place comes back from TIFF as another one: refused by `plan` and `run`, nothing begun."""
    wkt = (
        'ENGCRS["site",EDATUM["x"],CS[Cartesian,2],AXIS["e",east],AXIS["n",north],LENGTHUNIT["metre",1]]'
    )  # fmt: skip
    config = _config(tmp_path, _vrt_of(tmp_path, wkt), None, mask=[{"kind": "threshold", "above": 1300}])
    _refused(config, 4, "x.vrt", "cannot hold", "reference system")
    folder, _ = _run(config, "--set", "output.format=zarr")
    assert open_any(str(folder / "x_restored.zarr")).space.crs


def test_a_reference_system_in_newer_words_is_held(tmp_path: Path) -> None:
    """TIFF gives another text of the same system back, which is no loss."""
    wkt = CRS.from_epsg(3035).to_wkt(version="WKT2_2019")
    folder, _ = _run(_config(tmp_path, _vrt_of(tmp_path, wkt), None, mask=[{"kind": "threshold", "above": 1300}]))
    assert CRS.from_wkt(open_any(str(folder / "x_restored.tif")).space.crs) == CRS.from_epsg(3035)


def test_wide_voids_are_said(tmp_path: Path) -> None:
    """What `max_gap` leaves is counted and said by plan, run, run.json, record and report, with what to write."""
    values = smooth((1, 60, 80), "float32")
    values[0, 5:8, 10:20] = -9999
    values[0, 20:50, 30:70] = -9999
    image = write_tiff(tmp_path / "dem.tif", values, nodata=-9999)
    config = _config(tmp_path, image, None, mask=[{"kind": "nodata"}])
    planned = command("plan", config)
    folder, said = _run(config)
    notice = "1200 pixels without a value are left: they lie in voids wider than max_gap (20 px)"
    assert notice in planned.out
    assert notice in said
    assert "max_gap: null" in said
    line = "30 of 1,230 pixels to restore were filled, 1,200 left: 1,200 wider than max_gap"
    assert line in said
    holes = json.loads((tmp_path / "out" / "run.json").read_text())["sources"][0]["holes"]
    assert holes == _record(folder)["holes"]
    assert (holes["asked"], holes["filled"], sum(holes["left"].values())) == (1230, 30, 1200)
    assert line in holes["account"]
    assert line in (folder / "report.html").read_text()


def test_what_is_left_has_its_reason(tmp_path: Path) -> None:
    """Nodata under a mask that keeps it, and refused pixels, are counted apart."""
    values = smooth((1, *SHAPE), "float32")
    hole = blobs(SHAPE, n=2, radius=4) == 1
    values[0, hole & (np.arange(SHAPE[1]) % 2 == 0)] = -9999
    image = write_tiff(tmp_path / "x.tif", values, nodata=-9999)
    config = _config(tmp_path, image, _drawn(tmp_path), input={"fill_nodata": "never"}, output={"refuse_above": 1e-6})
    holes = _record(_run(config)[0])["holes"]
    missing = int((values == -9999).sum())
    assert holes["left"] == {
        "marked, but without a value (nodata)": missing,
        "refused as too uncertain": int(hole.sum()) - missing,
    }
    assert holes["filled"] == 0


def test_a_config_that_marks_nothing_ends_with_a_warning(tmp_path: Path) -> None:
    """`plan` says so last, and why."""
    image = write_image(tmp_path / "x.tif", smooth((1, *SHAPE)))
    config = _config(tmp_path, image, None, mask=[{"kind": "threshold", "above": 60000}])
    done = command("plan", config)
    assert done.code == 0
    assert "nothing to restore: the masks mark no pixel" in done.out
    assert done.err.splitlines()[-1].startswith("warning: x:")
    assert json.loads(command("plan", config, "--json").out)["notices"][0]["image"] == "x"


def test_nodata_of_the_config_that_no_pixel_can_have(tmp_path: Path) -> None:
    """It would change nothing, so it is not what was meant."""
    image = write_tiff(tmp_path / "x.tif", smooth((1, *SHAPE), "uint8"))
    for nodata in (-9999, 0.5, 2**64):
        _refused(_config(tmp_path, image, _drawn(tmp_path), input={"nodata": nodata}), 2, "input.nodata", "uint8")


def test_pages_of_a_tiff_are_said(tmp_path: Path) -> None:
    """Only the first page is read, and the user hears of it."""
    image = write_tiff(tmp_path / "x.tif", smooth((1, *SHAPE)))
    second = write_tiff(tmp_path / "second.tif", smooth((1, *SHAPE), seed=1))
    assert open_any(str(image)).notices == ()
    rasterio.shutil.copy(second, image, driver="GTiff", append_subdataset=True)
    assert "only the first is restored" in command("plan", _config(tmp_path, image, _drawn(tmp_path))).out


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><a b="c=d"/></x:xmpmeta>'


def _tagged(dataset: Any) -> None:
    dataset.update_tags(season="dry")
    dataset.update_tags(ns="FARM", operator="a", campaign="2024")
    key, _, value = XMP.partition("=")
    dataset.update_tags(ns="xml:XMP", **{key: value})
    dataset.update_tags(1, wavelength="665")
    dataset.update_tags(2, ns="FARM_BAND", gain="3")
    dataset.update_tags(2, wavelength="700", gain="4")


def test_tags_of_all_domains(tmp_path: Path) -> None:
    """Tags of dataset and bands come back in their domains, in TIFF and zarr, and from zarr to TIFF."""
    image = write_tiff(tmp_path / "x.tif", smooth((2, *SHAPE)), setup=_tagged)
    before = open_any(str(image)).attributes
    assert before["domains"] == {"FARM": {"campaign": "2024", "operator": "a"}, "xml:XMP": {"xml:XMP": XMP}}
    folder, said = _run(_config(tmp_path, image, _drawn(tmp_path), output={"format": ["same", "zarr"]}))
    assert "does not keep" not in said
    for name in ("x_restored.tif", "x_restored.zarr"):
        after = open_any(str(folder / name)).attributes
        assert after["domains"] == before["domains"]
        assert after["band_tags"] == before["band_tags"]
        assert after["tags"]["season"] == "dry"
    with rasterio.open(folder / "x_restored.tif") as dataset:
        assert dataset.tags(1) == {"wavelength": "665"}
        assert dataset.tags(2) == {"wavelength": "700", "gain": "4"}
        assert dataset.tags(2, ns="FARM_BAND") == {"gain": "3"}
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def _placed(path: Path, values: Any, shift: float) -> Path:
    """Write a volume whose qform lies at the origin and whose sform is `shift` mm beside it."""

    def change(header: Any) -> None:
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        header.set_qform(affine, code=1)
        affine[0, 3] = shift
        header.set_sform(affine, code=2)

    return _with_header(write_image(path, values), change)


def test_a_mask_on_the_other_matrix_of_the_image(tmp_path: Path) -> None:
    """The refusal says that sform and qform disagree, by how much, and on which of them the mask lies."""
    values, hole = smooth((1, *VOLUME), "int16"), blobs(VOLUME, n=2, radius=3)[None]
    image, still = _placed(tmp_path / "x.nii", values, 10.0), _placed(tmp_path / "y.nii", values, 0.0)
    mask, moved = _placed(tmp_path / "m.nii", hole, 0.0), _placed(tmp_path / "moved.nii", hole, 10.0)
    words = ("the mask lies on the qform of the image", "sform (code 2)", "10 mm", "fslorient")
    _refused(_config(tmp_path, image, mask), 4, *words)
    _refused(_config(tmp_path, still, moved), 4, "the image lies on the qform of the mask")
    config = _config(tmp_path, image, moved, input={"auxiliary": [{"path": str(still), "mask": []}]})
    _refused(config, 2, "the auxiliary lies on the qform of the image")


def test_guides_on_a_rounded_grid(tmp_path: Path) -> None:
    """A guide whose grid another program rounded is taken as it is, and said to lie off; farther it is refused."""
    values, hole = smooth((1, *VOLUME), "int16"), blobs(VOLUME, n=2, radius=3)[None]
    image, mask = _placed(tmp_path / "x.nii", values, 0.0), _placed(tmp_path / "m.nii", hole, 0.03)
    near, far = _placed(tmp_path / "near.nii", values, 0.04), _placed(tmp_path / "far.nii", values, 0.06)
    planned = command("plan", _config(tmp_path, image, mask, input={"auxiliary": [str(near)]}))
    assert planned.code == 0, planned.err
    assert "m.nii: lies off the image's grid by up to 0.03 of a voxel" in planned.out
    assert "auxiliary " + str(near) + ": lies off the image's grid by up to 0.04 of a voxel" in planned.out
    assert "interpolated" not in planned.out
    _refused(_config(tmp_path, image, mask, input={"auxiliary": [str(far)]}), 2, "0.06 mm apart", "lies on the qform")


def test_two_places_of_one_volume_are_said(tmp_path: Path) -> None:
    """Even where all goes well the user hears which matrix was used; equal ones are not spoken of."""
    values, hole = smooth((1, *VOLUME), "int16"), blobs(VOLUME, n=2, radius=3)[None]
    image, mask = _placed(tmp_path / "x.nii", values, 10.0), _placed(tmp_path / "m.nii", hole, 10.0)
    planned = command("plan", _config(tmp_path, image, mask))
    assert "disagree by up to 10 mm; the sform is used" in planned.out
    assert "disagree by up to 10 mm" in command("inspect", image).out
    assert "disagree" not in command("inspect", _placed(tmp_path / "y.nii", values, 0.0)).out


def test_nodata_that_nobody_declared_is_suspected(tmp_path: Path) -> None:
    """A lone value far from all others is named with what to write; with that there is no word of it any more."""
    values = smooth((2, *SHAPE), "int16")
    values[:, 20:30, 5:9] = -9999
    image = write_tiff(tmp_path / "x.tif", values)
    config = _config(tmp_path, image, _drawn(tmp_path))
    said = command("plan", config).out
    assert "channels band_1, band_2" in said
    assert "`input.nodata: -9999`" in said
    assert "write `input.nodata" not in command("plan", config, "--set", "input.nodata=-9999").out


def test_a_lost_volume_of_zeros_is_told(tmp_path: Path) -> None:
    """A volume of a series that holds one value, as lost ones do, is named with what to do."""
    values, hole = smooth((3, *VOLUME), "int16"), blobs(VOLUME, n=2, radius=3)[None]
    mask = write_image(tmp_path / "m.nii", hole)
    whole = _config(tmp_path, write_image(tmp_path / "x.nii", values), mask)
    assert "wherever it was looked at" not in command("plan", whole).out
    values[1] = 0
    lost = _config(tmp_path, write_image(tmp_path / "x.nii", values), mask)
    assert "channel volume_2: 0 wherever it was looked at, while other channels vary" in command("plan", lost).out
    assert "looked at" not in command("plan", lost, "--set", "input.bands=[1, 3]").out
    alone = command("plan", lost, "--set", "input.bands=[2]").out
    assert (
        "channel volume_2: 0 wherever it was looked at, and holes get that value: nothing in the image varies" in alone
    )


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.r_[np.full(9, -9999.0), np.linspace(0, 50, 200)], -9999.0),
        (np.r_[np.full(9, 65535), np.arange(200)].astype(np.uint16), 65535),
        (np.r_[np.full(9, -9999.0), np.linspace(0, 50, 200), np.full(3, np.nan)], -9999.0),
        (np.r_[np.full(2, -9999.0), np.linspace(0, 50, 200)], None),
        (np.r_[np.full(90, 0), np.arange(1, 200)].astype(np.uint16), None),
        (np.r_[np.full(90, -1024), np.arange(-900, 900)].astype(np.int16), None),
        (np.repeat([0, 200], 50).astype(np.uint8), None),
        (np.repeat(np.r_[np.arange(13, 60), 282], 36).astype(np.uint16), None),
        (np.r_[np.full(6, 282), np.repeat(np.arange(13, 60), 36)].astype(np.uint16), None),
        (np.r_[np.zeros(36 * 9), np.repeat(np.arange(2000, 2200), 36)].astype(np.uint16), 0),
    ],
)
def test_lone_values(values: Any, found: float | None) -> None:
    """-9999 and 65535 stand out; outliers, background that joins the rest, classes, and resampled values do not."""
    end = lone_end(values)
    assert (end and end.value) == found


def _made(kind: str, folder: Path) -> Path:
    """Make an input of a kind that no format reads."""
    content = {
        "DICOM": bytes(128) + b"DICM",
        "HDF5": b"\x89HDF\r\n\x1a\n",
        "zip": b"PK\x03\x04",
        "NRRD": b"NRRD0004\n",
        "PNG": b"\x89PNG\r\n\x1a\n",
        "JPG": b"\xff\xd8\xff\xe0",
        "NPY": b"\x93NUMPY\x01\x00",
        "NPZ": b"PK\x03\x04",
        "CSV": b"1.5,2.5\n3.5,nan\n",
        "MAT": b"MATLAB 5.0 MAT-file",
    }
    if kind == "DICOM folder":
        (folder / "series").mkdir()
        (folder / "series" / "IM0001").write_bytes(content["DICOM"])
        return folder / "series"
    if kind == "CIFTI":
        path = folder / "x.dscalar.nii"
        return write_nifti(path, np.zeros((3, 4, 5), np.float32), setup=lambda h: h.__setitem__("intent_code", 3006))
    if kind == "folder":
        (folder / "images").mkdir()
        return folder / "images"
    path = folder / f"x.{kind.lower()}"
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("DICOM", ("dcm2niix",)),
        ("DICOM folder", ("dcm2niix",)),
        ("CIFTI", ("wb_command",)),
        ("HDF5", ("gdal_translate", "xarray.open_dataset('x.hdf5')")),
        ("NPY", ("restore(numpy.load('x.npy'), holes)", "docs/python.md")),
        ("NPZ", ("numpy.load('x.npz')['NAME']",)),
        ("CSV", ("numpy.loadtxt('x.csv', delimiter=',')",)),
        ("MAT", ("scipy.io.loadmat('x.mat')",)),
        ("zip", ("unpack",)),
        ("NRRD", ("NIfTI",)),
        ("PNG", ("gdal_translate x.png",)),
        ("JPG", ("gdal_translate x.jpg",)),
        ("folder", ("*.tif",)),
    ],
)
def test_files_of_other_kinds_are_named_with_what_to_do(tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    """Archives and the formats of scanners are refused with what to write or which tool converts them."""
    path = _made(kind, tmp_path)
    config = _config(tmp_path, path, _drawn(tmp_path))
    _refused(config, 4, path.name, *words)


def _netcdf(path: Path, *variables: str) -> Path:
    with netcdf_file(path, "w") as file:
        for name, n in (("y", SHAPE[0]), ("x", SHAPE[1])):
            file.createDimension(name, n)
            axis = file.createVariable(name, "f8", (name,))
            axis[:] = 10.0 * np.arange(n)
        for name in variables:
            variable = file.createVariable(name, "f4", ("y", "x"))
            variable[:] = smooth((1, *SHAPE), "float32")[0]
    return path


def test_netcdf(tmp_path: Path) -> None:
    """A file of one variable is an image; of several, the message names them and says how to take one out."""
    image = _netcdf(tmp_path / "x.nc", "sst")
    folder, _ = _run(_config(tmp_path, image, None, mask=[{"kind": "threshold", "above": 1300}]))
    assert _restored(folder).suffix == ".tif"
    with pytest.raises(SourceError, match=r"several images \(sst, ice\).*gdal_translate"):
        open_any(str(_netcdf(tmp_path / "two.nc", "sst", "ice")))


def test_a_netcdf_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    """Whoever opens one that is still open gets what it was: a second run in one Python found the old holes."""
    image = _netcdf(tmp_path / "x.nc", "sst")
    config = _config(tmp_path, image, None, mask=[{"kind": "threshold", "above": 1300}])
    _run(config)
    before = pixels(image)
    with netcdf_file(image, "a", mmap=False) as file:
        file.variables["sst"][:] += 50
    folder, _ = _run(config, "--overwrite")
    assert np.array_equal(pixels(layer(folder, "source")) != 0, before + 50 > 1300)
