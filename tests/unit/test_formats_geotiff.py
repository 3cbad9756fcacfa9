"""GeoTIFF: every header field, mask and oddity that GDAL knows comes back, in a valid COG."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rio_cogeo import cog_validate

from pipeline.errors import OutputConflict, SourceError
from pipeline.formats import _cog, geotiff
from pipeline.formats._photometric import mark_white_is_zero
from pipeline.geometry.box import Box
from tests.support_formats import (
    digest,
    layer_of,
    memory_image,
    options,
    random_values,
    same_bytes,
    whole,
    write_tiff,
)

RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def _facts(path: Path) -> dict[str, Any]:
    """Return the header as rasterio sees it: our own reader takes no part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            names = (
                "dtypes",
                "count",
                "shape",
                "crs",
                "nodatavals",
                "scales",
                "offsets",
                "units",
                "descriptions",
            )
            facts = {name: getattr(dataset, name) for name in (*names, "colorinterp", "mask_flag_enums")}
            facts["nodata_text"] = str(facts.pop("nodatavals"))  # text, because NaN equals nothing
            points, gcp_crs = dataset.gcps
            return facts | {
                "transform": tuple(dataset.transform),
                "gcps": ([p.asdict() | {"id": ""} for p in points], gcp_crs),
                "rpcs": dataset.rpcs.to_dict() if dataset.rpcs else None,
                "white_is_zero": dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE"),
                "tags": dataset.tags(),
                "band_tags": [dataset.tags(i) for i in dataset.indexes],
                "mask": dataset.dataset_mask().tobytes(),
            }


def _restore(path: Path, tmp_path: Path, **fields: Any) -> Path:
    """Pass a file through reader and writer with the identity in between."""
    source = geotiff.open_source([str(path)])
    result = tmp_path / "restored.tif"
    geotiff.write(layer_of(source, **fields), result, source, source.read, options(tmp_path))
    return result


def _is_valid_cog(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        valid, errors, _ = cog_validate(path, strict=False, quiet=True)
    return bool(valid) and not errors


def test_the_level_of_scratch_overviews_is_not_seen_in_the_file(tmp_path, monkeypatch):
    """Overviews are packed at the level of the file, whatever GDAL takes for the file that it makes them in."""
    values = np.random.default_rng(0).poisson(20, (2, 1100, 700)).astype("uint16")
    path, made, env = write_tiff(tmp_path / "image.tif", values), [], rasterio.Env
    for named in (True, False):
        with monkeypatch.context() as patched:
            if not named:
                patched.setattr(_cog.rasterio, "Env", lambda **_: env())
            _cog._copy_cog(path, tmp_path / "cog.tif", "AVERAGE", apart=False)
        made.append((tmp_path / "cog.tif").read_bytes())
    assert made[0] == made[1]
    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert dataset.overviews(1)


def _describe_bands(dataset: Any) -> None:
    count = dataset.count
    dataset.scales = [0.0001 * (i + 1) for i in range(count)]
    dataset.offsets = [-0.1 * i for i in range(count)]
    dataset.units = ["reflectance"] * count
    for band in range(1, count + 1):
        dataset.set_band_description(band, f"B{band:02d}")
        dataset.update_tags(band, wavelength=str(400 + band), STATISTICS_MEAN="12")
    dataset.update_tags(MISSION="S2A", AREA_OR_POINT="Point")


def _with_gcps(dataset: Any, crs: rasterio.crs.CRS = rasterio.crs.CRS.from_epsg(4326)) -> None:  # noqa: B008
    points = [
        GroundControlPoint(0, 0, 10, 50),
        GroundControlPoint(0, 90, 11, 50),
        GroundControlPoint(70, 0, 10, 49, 5),
    ]
    dataset.gcps = (points, crs)


def _with_rpcs(dataset: Any) -> None:
    names = ("height", "lat", "line", "long", "samp")
    pairs = {f"{n}_{p}": 1.5 for n in names for p in ("off", "scale")}
    parts = {f"{n}_{p}_coeff": [0.25] * 20 for n in ("line", "samp") for p in ("num", "den")}
    dataset.rpcs = RPC(**pairs, **parts, err_bias=None, err_rand=None)


def _with_mask(dataset: Any) -> None:
    mask = np.full(dataset.shape, 255, dtype=np.uint8)
    mask[:20, :30] = 0
    dataset.write_mask(mask)


NOWHERE = {"crs": None, "transform": None}
HEADERS = {
    "twelve bands": (12, "uint16", {"setup": _describe_bands, "nodata": 0}),
    "nodata and mask": (3, "uint16", {"setup": _with_mask, "nodata": 0}),
    "mask": (3, "uint8", {"setup": _with_mask}),
    "alpha": (4, "uint8", {"setup": lambda d: setattr(d, "colorinterp", RGBA)}),
    "alpha 16 bit": (4, "uint16", {"setup": lambda d: setattr(d, "colorinterp", RGBA)}),
    "three grey bytes": (3, "uint8", {"photometric": "MINISBLACK"}),
    "four grey bytes": (4, "uint8", {"photometric": "MINISBLACK", "alpha": "unspecified"}),
    "rgb and infrared": (4, "uint8", {"photometric": "RGB", "alpha": "unspecified"}),
    "nan nodata": (1, "float32", {"nodata": float("nan")}),
    "huge nodata": (1, "float32", {"nodata": -3.4028234663852886e38}),
    "int64 nodata": (1, "int64", {"nodata": -9999}),
    "gcps": (1, "uint16", {"setup": _with_gcps, **NOWHERE}),
    "gcps without a CRS": (1, "uint16", {"setup": lambda d: _with_gcps(d, rasterio.crs.CRS()), **NOWHERE}),
    "rpcs": (1, "uint16", {"setup": _with_rpcs, **NOWHERE}),
    "nowhere": (1, "uint8", NOWHERE),
    "rotated": (1, "int16", {"transform": Affine(10, 3, 5e5, 3, -10, 5e6)}),
    "south up": (1, "int16", {"transform": Affine(10, 0, 5e5, 0, 10, 4e6)}),
    "antimeridian": (1, "int16", {"crs": "EPSG:4326", "transform": Affine(0.1, 0, 176, 0, -0.1, 10)}),
    "no EPSG code": (1, "int16", {"crs": "+proj=laea +lat_0=12 +lon_0=34 +ellps=sphere +units=m"}),
    "bands one by one": (
        3,
        "uint16",
        {"interleave": "band", "tiled": True, "blockxsize": 32, "blockysize": 32},
    ),
    "jpeg-like colours": (3, "uint8", {"photometric": "RGB"}),
}


@pytest.mark.parametrize("case", HEADERS)
def test_header_and_pixels_survive(case: str, tmp_path: Path) -> None:
    """Every header field that GDAL reports is the same after a round trip, and the result is a valid COG."""
    count, dtype, profile = HEADERS[case]
    values = random_values((count, 70, 90), dtype)
    path = write_tiff(tmp_path / "in.tif", values, **profile)
    result = _restore(path, tmp_path, tags={"INPAINT_MODEL": "identity"})
    before, after = _facts(path), _facts(result)
    assert after.pop("tags") == before.pop("tags") | {"INPAINT_MODEL": "identity"}
    for tags in before["band_tags"]:
        tags.pop("STATISTICS_MEAN", None)
    assert after == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(result) as dataset:
            assert same_bytes(dataset.read(), values)
    assert _is_valid_cog(result)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "restored.tif", "scratch"]


@pytest.mark.parametrize("options", [{}, {"bigtiff": "YES"}, {"endianness": "BIG"}], ids=["small", "big", "other end"])
def test_white_is_marked_in_every_image_of_a_file_but_its_mask(options: dict[str, str], tmp_path: Path) -> None:
    """The levels for viewers would be inverted against the image otherwise."""
    values = random_values((1, 70, 90), "uint8")
    path = write_tiff(tmp_path / "in.tif", values, photometric="MINISBLACK", setup=_with_mask, **options)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    mark_white_is_zero(path)
    for level in ({}, {"overview_level": 0}):
        with rasterio.open(path, **level) as dataset:
            assert dataset.tags(ns="IMAGE_STRUCTURE")["MINISWHITE"] == "YES"
            assert not dataset.read_masks(1)[:5, :5].any()
    with rasterio.open(path) as dataset:
        assert same_bytes(dataset.read(), values)


@pytest.mark.parametrize(("dtype", "setup"), [("uint8", None), ("uint16", _with_mask)])
def test_a_scan_in_which_0_is_white_is_no_map_of_classes(dtype: str, setup: Any, tmp_path: Path) -> None:
    """As other programs write it GDAL calls it a palette; with one bit it is black and white, which stays refused."""
    values = random_values((1, 70, 90), dtype)
    path = write_tiff(tmp_path / "in.tif", values, photometric="MINISBLACK", setup=setup)
    mark_white_is_zero(path)
    result = _restore(path, tmp_path)
    assert _facts(result) == _facts(path)
    assert _facts(path)["colorinterp"] == (ColorInterp.palette,)
    with rasterio.open(result) as dataset:
        assert same_bytes(dataset.read(), values)
    bits = write_tiff(tmp_path / "bits.tif", values.astype("uint8") & 1, photometric="MINISWHITE", nbits=1)
    with rasterio.open(bits, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.palette]
    with pytest.raises(SourceError, match="class codes"):
        geotiff.open_source([str(bits)])


def test_inks_are_told(tmp_path: Path) -> None:
    """GDAL hands a CMYK file on as colours of light, so what comes back is not what was stored."""
    path = write_tiff(tmp_path / "in.tif", random_values((4, 20, 30), "uint8"), photometric="CMYK")
    assert any("stored as CMYK" in notice for notice in geotiff.open_source([str(path)]).notices)


def test_nodata_beside_a_mask_is_read_and_kept(tmp_path: Path) -> None:
    """GDAL reports the mask only when a file has both; both mean "nothing observed" here."""
    values = random_values((2, 70, 90), "uint16") | 1
    values[0, 60, 60] = 0
    path = write_tiff(tmp_path / "in.tif", values, setup=_with_mask, nodata=0)
    for file in (path, _restore(path, tmp_path)):
        source = geotiff.open_source([str(file)])
        never = source.never(whole(source))
        assert never[0, 60, 60]
        assert not never[1, 60, 60]
        assert never[:, :20, :30].all()
        assert never.sum() == 2 * 20 * 30 + 1


def test_external_mask_file_is_read(tmp_path: Path) -> None:
    """A `.msk` beside the file hides pixels just like a mask inside it."""
    path = write_tiff(tmp_path / "in.tif", random_values((1, 70, 90), "uint16"))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        _with_mask(dataset)
    assert (tmp_path / "in.tif.msk").exists()
    source = geotiff.open_source([str(path)])
    assert source.never(whole(source)).sum() == 20 * 30


def test_alpha_is_fixed_and_hides_what_it_hides(tmp_path: Path) -> None:
    """Alpha is a channel that is never restored; where it is 0 nothing was observed."""
    values = random_values((4, 70, 90), "uint8") | 1
    values[3, 5:9] = 0
    path = write_tiff(tmp_path / "in.tif", values, setup=lambda d: setattr(d, "colorinterp", RGBA))
    source = geotiff.open_source([str(path)])
    assert source.fixed_channels == (3,)
    never = source.never(whole(source))
    assert never.shape == (1, 70, 90)
    assert never.sum() == 4 * 90
    assert geotiff.open_source([str(path)], bands=[1, 2]).never(whole(source)).sum() == 4 * 90


def test_nan_nodata_needs_isnan(tmp_path: Path) -> None:
    """NaN equals nothing, itself included: it is found all the same, as is infinity."""
    values = np.ones((1, 4, 5), dtype=np.float32)
    values[0, 1, 1:4] = np.nan, np.inf, -np.inf
    source = geotiff.open_source([str(write_tiff(tmp_path / "in.tif", values, nodata=float("nan")))])
    assert source.never(whole(source)).sum() == 3


def test_float_nodata_is_compared_as_stored(tmp_path: Path) -> None:
    """Nodata declared in double precision matches pixels in single precision."""
    values = np.full((1, 4, 5), -3.4e38, dtype=np.float32)
    source = geotiff.open_source([str(write_tiff(tmp_path / "in.tif", values))], nodata=-3.4e38)
    assert source.never(whole(source)).all()


def test_float_nodata_beyond_single_precision(tmp_path: Path) -> None:
    """1e300 overflows to infinity in float32 without a warning, and hides no finite pixel."""
    path = write_tiff(tmp_path / "in.tif", np.ones((1, 4, 5), dtype=np.float32))
    source = geotiff.open_source([str(path)], nodata=1e300)
    assert not source.never(whole(source)).any()


def test_nodata_that_cannot_occur_hides_nothing(tmp_path: Path) -> None:
    """-9999 declared for bytes matches no pixel and stops neither reading nor writing."""
    path = write_tiff(tmp_path / "in.tif", random_values((1, 20, 30), "uint8"))
    source = geotiff.open_source([str(path)], nodata=-9999)
    assert source.nodata == (None,)
    assert not source.never(whole(source)).any()


def test_fourth_byte_band_is_no_alpha_unless_the_file_says_so(tmp_path: Path) -> None:
    """GDAL would mark the fourth of four byte bands as alpha; infrared must stay a band to restore."""
    values = random_values((4, 20, 30), "uint8")
    path = write_tiff(tmp_path / "in.tif", values, photometric="RGB", alpha="unspecified")
    source = geotiff.open_source([str(_restore(path, tmp_path))])
    assert source.fixed_channels == ()
    assert not source.never(whole(source)).any()


def test_point_or_area_stays_and_no_time_is_invented(tmp_path: Path) -> None:
    """Two runs at two times give the same bytes, and no date tag appears."""
    path = write_tiff(tmp_path / "in.tif", random_values((3, 70, 90), "uint16"), setup=_describe_bands)
    first = digest(_restore(path, tmp_path))
    assert digest(_restore(path, tmp_path)) == first
    assert "TIFFTAG_DATETIME" not in _facts(tmp_path / "restored.tif")["tags"]


def test_one_file_a_band(tmp_path: Path) -> None:
    """Separate band files are one image; the result is one COG whose bands are named after the files."""
    values = random_values((2, 70, 90), "uint16")
    files = []
    for at, name in enumerate(("B02", "B03")):

        def setup(dataset: Any, name: str = name) -> None:
            dataset.update_tags(MISSION="S2A", BAND=name)

        files.append(str(write_tiff(tmp_path / f"{name}.tif", values[at : at + 1], setup=setup, nodata=0)))
    source = geotiff.open_source(files)
    assert source.channel_names == ("B02", "B03")
    assert same_bytes(source.read(whole(source)), values)
    result = tmp_path / "stack.tif"
    geotiff.write(layer_of(source), result, source, source.read, options(tmp_path))
    facts = _facts(result)
    assert facts["descriptions"] == ("B02", "B03")
    assert facts["tags"]["MISSION"] == "S2A"
    assert [tags["BAND"] for tags in facts["band_tags"]] == ["B02", "B03"]
    assert _is_valid_cog(result)


def test_bands_on_other_grids_are_refused_with_both(tmp_path: Path) -> None:
    """The message shows both grids, so that the user sees which file to resample."""
    ten = write_tiff(tmp_path / "B02.tif", random_values((1, 60, 60), "uint16"))
    twenty = write_tiff(
        tmp_path / "B11.tif", random_values((1, 30, 30), "uint16"), transform=Affine(20, 0, 5e5, 0, -20, 5e6)
    )
    with pytest.raises(SourceError, match=r"different grids.*\(60, 60\).*\(30, 30\)"):
        geotiff.open_source([str(ten), str(twenty)])


def test_bands_that_disagree_on_nodata_need_a_word(tmp_path: Path) -> None:
    """A TIFF holds one nodata value, so two must be resolved by the user."""
    files = [str(write_tiff(tmp_path / f"{v}.tif", random_values((1, 9, 9), "int16"), nodata=v)) for v in (0, -1)]
    with pytest.raises(SourceError, match="nodata differs"):
        geotiff.open_source(files)
    source = geotiff.open_source(files, nodata=-1)
    result = tmp_path / "stack.tif"
    geotiff.write(layer_of(source), result, source, source.read, options(tmp_path))
    assert _facts(result)["nodata_text"] == "(-1.0, -1.0)"


def test_equal_band_names_are_told_apart(tmp_path: Path) -> None:
    """Two bands of one name get their number added, so that a name means one band."""
    path = write_tiff(
        tmp_path / "in.tif",
        random_values((2, 9, 9), "int16"),
        setup=lambda d: setattr(d, "descriptions", ("grey", "grey")),
    )
    assert geotiff.open_source([str(path)]).channel_names == ("grey_1", "grey_2")


def test_jpeg2000_input_gives_a_cog(tmp_path: Path) -> None:
    """JPEG 2000 (Sentinel-2 products) is read; the result is a COG with the same values."""
    values = np.arange(2 * 64 * 64, dtype=np.uint16).reshape(2, 64, 64)
    path = write_tiff(tmp_path / "in.jp2", values, driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY="100", YCBCR420="NO")
    result = _restore(path, tmp_path)
    with rasterio.open(path) as before, rasterio.open(result) as after:
        assert same_bytes(after.read(), before.read())
        assert after.crs == before.crs
    assert _is_valid_cog(result)


@pytest.mark.parametrize(("role", "expected"), [("source", {0, 200}), ("uncertainty", {100})])
def test_overviews_never_mix_codes(role: str, expected: set[int], tmp_path: Path) -> None:
    """Codes are thinned (nearest), measured values are averaged: a mean of two codes is a lie."""
    image = memory_image((1024, 1024), "uint8")
    stripes = np.zeros((1, 1024, 1024), dtype=np.uint8)
    stripes[:, :, ::2] = 200
    layer = layer_of(image, role, nodata=None)
    path = tmp_path / "layer.tif"
    geotiff.write(layer, path, image, lambda b: stripes[(slice(None), *b.slices)], options(tmp_path))
    with rasterio.open(path, overview_level=0) as overview:
        found = set(np.unique(overview.read()).tolist())
    assert found <= expected


def test_uncertainty_has_the_scale_but_not_the_offset(tmp_path: Path) -> None:
    """An error in stored units is scaled like the data; an offset would shift it."""
    path = write_tiff(tmp_path / "in.tif", random_values((2, 70, 90), "uint16"), setup=_describe_bands, nodata=0)
    source = geotiff.open_source([str(path)])
    layer = layer_of(source, "uncertainty", dtype=np.dtype("float32"), nodata=float("nan"))
    result = tmp_path / "uncertainty.tif"
    geotiff.write(layer, result, source, lambda b: np.ones((2, *b.shape), np.float32), options(tmp_path))
    facts, before = _facts(result), _facts(path)
    assert facts["scales"] == before["scales"]
    assert facts["offsets"] == (0.0, 0.0)
    assert facts["nodata_text"] == "(nan, nan)"
    assert facts["descriptions"] == ("B01", "B02")
    assert facts["tags"] == {"AREA_OR_POINT": "Point"}


def test_uncertainty_of_some_bands_finds_their_scale_by_name(tmp_path: Path) -> None:
    """Alpha has no uncertainty: the remaining bands still get their own scale and unit."""
    path = write_tiff(tmp_path / "in.tif", random_values((3, 20, 30), "uint16"), setup=_describe_bands)
    source = geotiff.open_source([str(path)])
    layer = layer_of(source, "uncertainty", n_channels=2, channel_names=("B03", "B02"), dtype=np.dtype("float32"))
    result = tmp_path / "uncertainty.tif"
    geotiff.write(layer, result, source, lambda b: np.ones((2, *b.shape), np.float32), options(tmp_path))
    facts = _facts(result)
    assert facts["scales"] == pytest.approx((0.0003, 0.0002))
    assert facts["units"] == ("reflectance", "reflectance")


def test_a_window_of_a_five_gigabyte_file(tmp_path: Path) -> None:
    """BigTIFF beyond 4 GB opens and reads by window; the sparse file itself is tiny."""
    path = tmp_path / "big.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 72000, "width": 72000}
    extras = {"tiled": True, "bigtiff": "YES", "sparse_ok": True, "transform": Affine(1, 0, 0, 0, -1, 72000)}
    with rasterio.open(path, "w", **profile, **extras) as dataset:
        dataset.write(np.full((1, 256, 256), 7, np.uint8), window=((71680, 71936), (71680, 71936)))
    source = geotiff.open_source([str(path)])
    assert (source.read(Box((71700, 71700), (71710, 71710))) == 7).all()
    assert (source.read(Box((0, 0), (10, 10))) == 0).all()


def test_gridless_like_makes_a_header(tmp_path: Path) -> None:
    """A source that is no raster file (zarr, memory) still gives a georeferenced COG."""
    image = memory_image((40, 50), "uint16", channels=2)
    path = tmp_path / "made.tif"
    geotiff.write(layer_of(image), path, image, image.read, options(tmp_path))
    facts = _facts(path)
    assert facts["crs"].to_epsg() == 32633
    assert facts["transform"][:6] == (10, 0, 5e5, 0, -10, 5e6)
    assert facts["nodata_text"] == "(0.0, 0.0)"


def test_unwritable_place_is_an_output_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GDAL's own failure becomes an error that names the file and exits with code 6."""
    image = memory_image((40, 50), "uint16")

    def full(*args: Any, **kwargs: Any) -> None:
        raise rasterio.errors.RasterioIOError("No space left on device")

    monkeypatch.setattr(rasterio.shutil, "copy", full)
    path = tmp_path / "out.tif"
    with pytest.raises(OutputConflict, match=r"out\.tif.*No space left"):
        geotiff.write(layer_of(image), path, image, image.read, options(tmp_path))
    assert not path.exists()


_FIELD = '<FieldDefn index="0"><Name>Value</Name><Type>0</Type><Usage>0</Usage></FieldDefn>'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("<CategoryNames><Category>water</Category></CategoryNames>", "names of classes"),
        (f"<GDALRasterAttributeTable>{_FIELD}</GDALRasterAttributeTable>", "a raster attribute table"),
        ("<Description>red</Description>", None),
    ],
)
def test_tables_that_a_result_does_not_get_are_told(tmp_path: Path, table: str, said: str | None) -> None:
    """GDAL keeps them beside the file, and nothing writes them: a notice says so, and where to take them from."""
    path = write_tiff(tmp_path / "x.tif", np.ones((1, 4, 4), np.uint8))
    beside = Path(f"{path}.aux.xml")
    beside.write_text(f'<PAMDataset><PAMRasterBand band="1">{table}</PAMRasterBand></PAMDataset>')
    notices = [note for note in geotiff.open_source((str(path),)).notices if "left out" in note]
    assert [said in note and str(beside) in note for note in notices] == ([True] if said else [])
