"""Scenes as agencies deliver them: SAFE folders and archives, Landsat folders, STAC Items; conventions never mix."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.batch import SourceSpec
from pipeline.config.catalog import resolve_sources
from pipeline.config.products import Product, open_product
from pipeline.config.products.select import select
from pipeline.config.schema import load_config
from pipeline.errors import ConfigError, PipelineError, SourceError
from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.image.levels import level_notices
from pipeline.image.open import open_guide, open_source
from pipeline.image.scene import Clock, open_scene
from pipeline.masks._dilate import dilate
from pipeline.masks.base import FILL, KEEP
from pipeline.provenance.published import Publisher
from tests.helpers import command, layer, order_of, pixels, run_config
from tests.support_formats import write_tiff
from tests.support_scenes import (
    LANDSAT,
    SIZE,
    clouds_gml,
    metadata_of,
    scene_values,
    write_item,
    write_jp2,
    write_landsat,
    write_level_1c,
    write_safe,
)

WHOLE = Box((0, 0), (SIZE, SIZE))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cloudy SAFE of baseline 04.00, a clear one of 02.14 of the same ground, and the first zipped."""
    folder = tmp_path_factory.mktemp("scenes")
    cloudy = write_safe(folder, added=1000)
    write_safe(folder, baseline="02.14", date="20210901", cloudy=False)
    with zipfile.ZipFile(folder / "cloudy.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(cloudy.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return folder


def _cloudy(home: Path) -> Path:
    return next(home.glob("*_N0400_*.SAFE"))


def _clear(home: Path) -> Path:
    return next(home.glob("*_N0214_*.SAFE"))


def _config(folder: Path, source: object, mask: Any = None, **given: Any) -> Path:
    """Write a config whose `input` has these keys; without a mask of its own."""
    return run_config(folder, "", None, mask=mask, input={"source": source, **given})


def _specs(folder: Path, source: object, mask: Any = None, **given: Any) -> list[SourceSpec]:
    return resolve_sources(load_config(_config(folder, source, mask, **given)))


def _product(path: Path | str) -> Product:
    product = open_product(str(path))
    assert product is not None
    return product


def _names(specs: list[SourceSpec]) -> list[list[str]]:
    return [[band.name for band in spec.selection.bands] for spec in specs if spec.selection]


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a SAFE folder restored with the help of one of an older baseline."""
    folder = tmp_path_factory.mktemp("run")
    outcome = command("run", _config(folder, str(_cloudy(home)), references=[str(_clear(home))]))
    assert outcome.code == 0, outcome.err
    return folder / "out" / _cloudy(home).stem


def test_a_safe_folder_is_restored_as_it_is(home: Path, finished: Path) -> None:
    """Its 10 m bands by name, its own clouds, its date; observed pixels as they were, nodata 0 in the header."""
    record, restored = json.loads((finished / "record.json").read_text()), layer(finished, "restored")
    truth = scene_values()[:4] + 1000
    filled = pixels(layer(finished, "source"))[0] != 0
    assert 64 < filled.sum() < SIZE * SIZE / 3
    assert restored.channel_names == ("B02", "B03", "B04", "B08")
    assert (restored.dtype, restored.nodata) == (np.dtype("uint16"), (0,) * 4)
    assert np.array_equal(pixels(restored)[:, ~filled], truth[:, ~filled])
    assert np.abs(pixels(restored).astype(float) - truth).max() < 100
    assert record["date"] == "2022-01-26T10:20:21.024Z"
    assert any(entry["path"].endswith("MTD_MSIL2A.xml") and entry["sha256"] for entry in record["inputs"])


def test_what_was_taken_and_changed_is_said(home: Path, finished: Path) -> None:
    """Notices, which the record keeps, name bands, size, mask, both baselines and the number that was added."""
    notices = "\n".join(json.loads((finished / "record.json").read_text())["notices"])
    assert "processing baseline 04.00; bands B02, B03, B04, B08 at 10m" in notices
    assert "_SCL_20m.jp2 (kind scl, widened by 60 m)" in notices
    assert f"reference {_clear(home).stem} is read in the convention of the image: +1000 is added" in notices
    assert "baseline 02.14, offset 0" in notices
    assert "baseline 04.00, offset -1000" in notices
    assert "WARNING" not in notices


# --- conventions ------------------------------------------------------------------------------------------------------


def _guide_minus_image(folder: Path, source: object, reference: object) -> float:
    """Return what the values that the engine sees of a reference differ from those stored in the image by."""
    job = order_of(_config(folder, source, references=[reference])).job
    image = open_source(job.source)
    guide = open_guide(job.guides[0], image).read(WHOLE)
    seen = guide.valid.all(axis=0)
    assert seen.sum() > 100
    difference = guide.values[:, seen] - image.read(WHOLE)[: len(guide.values), seen]
    assert np.ptp(difference) == 0
    return float(difference.flat[0])


@pytest.mark.parametrize("older_first", [False, True])
def test_baselines_meet_in_the_image_s_convention(home: Path, tmp_path: Path, *, older_first: bool) -> None:
    """The same ground has the same numbers, whichever of the two is the image: only the reference moves."""
    first, second = (_clear(home), _cloudy(home)) if older_first else (_cloudy(home), _clear(home))
    (spec,) = _specs(tmp_path, str(first), references=[str(second)])
    assert spec.references[0].shift == ((-1000.0 if older_first else 1000.0),) * 4
    assert _guide_minus_image(tmp_path, str(first), str(second)) == 0


def test_bands_of_a_safe_folder_named_as_files(home: Path, tmp_path: Path) -> None:
    """A list of files inside a SAFE folder has its convention, too; what the user adds goes before it."""
    files = [str(next(_clear(home).rglob(f"*_{band}_10m.jp2"))) for band in ("B02", "B03")]
    (spec,) = _specs(tmp_path, str(_cloudy(home)), references=[{"source": [files]}], bands=["B02", "B03"])
    assert spec.references[0].shift == (1000.0, 1000.0)
    mine = {"source": [files], "shift": 7}
    (spec,) = _specs(tmp_path, str(_cloudy(home)), references=[mine], bands=["B02", "B03"])
    assert spec.references[0].shift == (7.0,)
    assert _guide_minus_image(tmp_path, str(_cloudy(home)), {**mine, "mask": []}) == -993


def test_without_metadata_the_name_says_the_baseline(tmp_path: Path) -> None:
    """A product whose XML was deleted keeps its convention, from the N0400 of its name."""
    product = _product(write_safe(tmp_path, baseline="05.09", metadata=False))
    assert {band.offset for band in product.bands} == {-1000.0}
    assert product.date == "2022-01-26"
    own = _product(write_safe(tmp_path, baseline="99.99", metadata=False))
    assert {band.offset for band in own.bands} == {None}


@pytest.mark.parametrize(
    ("properties", "offset"),
    [
        ({"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": True}, 0.0),
        ({"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": False}, -1000.0),
        ({"s2:processing_baseline": "05.11"}, -1000.0),
        ({"processing:version": "02.09"}, 0.0),
        ({"s2:processing_baseline": "03.01", "earthsearch:boa_offset_applied": False}, 0.0),
        ({"processing:version": "1.2.0"}, -1000.0),
    ],
)
def test_offsets_of_stac_items(tmp_path: Path, properties: dict[str, Any], offset: float) -> None:
    """No offset before baseline 04.00; since then what was subtracted in the files goes before `raster:bands`."""
    product = _product(write_item(tmp_path / "item", properties))
    assert {(band.offset, band.scale) for band in product.bands} == {(offset, 1e-4)}


@pytest.mark.parametrize(("baseline", "offset"), [("05.11", -1000.0), ("02.14", 0.0), ("", None)])
def test_the_baseline_says_what_raster_bands_do_not(tmp_path: Path, baseline: str, offset: float | None) -> None:
    """Without scale and offset in the Item its baseline tells; without that, nothing does."""
    path = write_item(tmp_path / "item", {"s2:processing_baseline": baseline} if baseline else {})
    item = json.loads(path.read_text())
    for asset in item["assets"].values():
        asset.pop("raster:bands", None)
    path.write_text(json.dumps(item))
    product = _product(path)
    assert {band.offset for band in product.bands} == {offset}
    assert [band.metres for band in product.bands] == [10, 10, 10, 20]


def _warnings(config: Path) -> list[str]:
    scene, _ = open_scene(order_of(config).job, Clock())
    return level_notices(scene)


def test_a_step_of_a_thousand_is_told_aloud(home: Path, tmp_path: Path) -> None:
    """A stack without metadata, or a catalog that is wrong: said with the number to write, which silences it."""
    item = write_item(tmp_path / "item", {"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": False})
    bands, source = ["B02", "B03", "B04"], str(_cloudy(home))
    lost = {"source": [[str(item.parent / f"{band}.tif") for band in bands]]}
    (said,) = _warnings(_config(tmp_path, source, references=[lost], bands=bands))
    assert "about 1000 below those of the image in every band" in said
    assert "`shift: 1000`" in said
    assert _warnings(_config(tmp_path, source, references=[{**lost, "shift": 1000}], bands=bands)) == []
    # the Item says that its numbers hold the offset, like the image's; they do not
    (said,) = _warnings(_config(tmp_path, source, references=[str(item)], bands=bands))
    assert "`shift: 1000`" in said
    older = write_safe(tmp_path / "older", baseline="02.14", date="20210901", added=1000, cloudy=False)
    (said,) = _warnings(_config(tmp_path, source, references=[str(older)], bands=bands))
    assert "about 1000 above" in said
    assert "although +1000 was added" in said
    assert "`shift: 0`" in said


# --- bands and grids --------------------------------------------------------------------------------------------------


def test_one_band_of_a_scene_is_written_like_several(home: Path, tmp_path: Path) -> None:
    """JPEG 2000 declares no nodata, so it is the scene's: one file alone is compared with what is written of it."""
    outcome = command("plan", _config(tmp_path, str(_cloudy(home)), bands=["B04"]))
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("given", "bands", "metres"),
    [
        ({}, [["B02", "B03", "B04", "B08"]], [10]),
        ({"bands": ["nir", "red"]}, [["B08", "B04"]], [10]),
        ({"bands": ["b4", "B05"]}, [["B04", "B05"]], [20]),
        ({"bands": ["B02", "B01"]}, [["B02", "B01"]], [60]),
        ({"grid": "each"}, [["B02", "B03", "B04", "B08"], ["B05", "B8A", "B11"], ["B01", "B09"]], [10, 20, 60]),
        ({"grid": "10m", "bands": ["red", "swir16", "nir09"]}, [["B04", "B11", "B09"]], [10]),
        ({"grid": "20 m"}, [["B01", "B02", "B03", "B04", "B05", "B8A", "B09", "B11"]], [20]),
    ],
)
def test_bands_of_one_size(
    home: Path, tmp_path: Path, given: dict[str, Any], bands: list[list[str]], metres: list[float]
) -> None:
    """Names, spellings and spectral ranges; the finest size that all have, every size by itself, or a named one."""
    specs = _specs(tmp_path, str(_cloudy(home)), **given)
    assert _names(specs) == bands
    assert [spec.selection.metres for spec in specs if spec.selection] == metres
    assert len({spec.stem for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bands": ["B08", "B05"]}, ("B08 10m, B05 20m", "grid: each", "grid: 10m")),
        ({"bands": ["B99"]}, ("no band B99", "did you mean 'B09'", "B8A (nir08) 20m")),
        ({"bands": [1]}, ("chosen by name",)),
        ({"bands": ["red", "B04"]}, ("name a band twice",)),
        ({"grid": "15m"}, ("no chosen band", "10m, 20m, 60m")),
    ],
)
def test_bands_that_make_no_image(home: Path, tmp_path: Path, given: dict[str, Any], words: tuple[str, ...]) -> None:
    """Sizes are never mixed silently; the message says what there is and what to write."""
    with pytest.raises(ConfigError) as error:
        _specs(tmp_path, str(_cloudy(home)), **given)
    assert all(word in str(error.value) for word in words), error.value
    assert f"run.yaml:1: input.{'bands' if 'bands' in given else 'grid'}" in str(error.value)


def test_a_grid_that_only_finer_pixels_would_fill(home: Path, tmp_path: Path) -> None:
    """A band at 10 m is not averaged onto 20 m; the message names the band."""
    with pytest.raises(ConfigError, match=r"input.grid: B08 of .*none is averaged"):
        _specs(tmp_path, str(_cloudy(home)), bands=["B05", "B08"], grid="20m")
    files = [str(next(_cloudy(home).rglob("*_B02_10m.jp2")))]
    with pytest.raises(ConfigError, match=r"input.grid: .*B02_10m.jp2 is no scene"):
        _specs(tmp_path, [files], grid="10m")
    with pytest.raises(ConfigError, match=r"N0214.*among the references.*bands: .*has no band B99"):
        _specs(tmp_path, str(_cloudy(home)), references=[{"source": str(_clear(home)), "bands": ["B99"]}])


def test_other_metadata_are_another_request(tmp_path: Path) -> None:
    """Results of one convention are never continued with another."""
    safe = write_safe(tmp_path, added=1000)
    before = order_of(_config(tmp_path, str(safe))).request
    (safe / "MTD_MSIL2A.xml").write_text(metadata_of("04.00", offset=-900))
    assert order_of(_config(tmp_path, str(safe))).request != before


def test_coarser_bands_are_repeated_on_the_grid_that_is_named(home: Path, tmp_path: Path) -> None:
    """Out of an archive: every stored number of a coarse band again, in any window; the record says that it is."""
    order = order_of(_config(tmp_path, str(home / "cloudy.zip"), bands=["B04", "B05", "B01"], grid="10m"))
    source = open_source(order.job.source)
    assert source.channel_names == order.bands == ("B04", "B05", "B01")
    truth = scene_values() + 1000
    expected = [truth[2], truth[3, ::2, ::2].repeat(2, 0).repeat(2, 1), truth[0, ::6, ::6].repeat(6, 0).repeat(6, 1)]
    for box in (WHOLE, Box((5, 7), (30, 12)), Box((47, 0), (48, 1))):
        assert np.array_equal(source.read(box), np.stack(expected)[box.at()])
        assert source.never(box).shape == (3, *box.shape)
    assert np.array_equal(source.read(WHOLE, slice(1, 3)), np.stack(expected[1:]))
    assert not source.never(WHOLE).any()
    (said,) = order.job.notices
    assert "pixels of coarser bands are repeated (B05 of 20m, B01 of 60m)" in said
    (archive,) = (entry for entry in order.inputs if entry["path"] == str(home / "cloudy.zip"))
    assert archive["sha256"]


def test_a_run_on_a_grid_that_is_named(home: Path, tmp_path: Path) -> None:
    """Image and reference repeat their coarse bands alike; the result is one file, and `verify` agrees with it."""
    config = _config(
        tmp_path, str(home / "cloudy.zip"), bands=["red", "swir16"], grid="10m", references=[str(_clear(home))]
    )
    assert command("run", config).code == 0
    restored = layer(tmp_path / "out" / _cloudy(home).stem, "restored")
    assert (restored.channel_names, restored.space.shape) == (("B04", "B11"), (SIZE, SIZE))
    assert np.abs(pixels(restored)[0].astype(float) - scene_values()[2] - 1000).max() < 100
    checked = command("verify", tmp_path / "out")
    assert checked.code == 0, checked.out
    assert str(home) not in (tmp_path / "out" / _cloudy(home).stem / "record.json").read_text()


def test_bands_that_fit_no_grid(home: Path, tmp_path: Path) -> None:
    """A coarse band that is cut or moved against the fine ones is refused with both grids."""
    safe = tmp_path / _cloudy(home).name
    shutil.copytree(_cloudy(home), safe)
    coarse = next(safe.rglob("*_B05_20m.jp2"))
    write_jp2(coarse, scene_values()[0, : SIZE // 2 - 3, ::2], 20)
    with pytest.raises(SourceError, match=r"B05_20m.jp2: its grid is not that of the finer bands"):
        order_of(_config(tmp_path, str(safe), bands=["B08", "B05"], grid="10m"))


def test_references_show_the_bands_of_the_image(home: Path, tmp_path: Path) -> None:
    """By name within a sensor, by spectral range between sensors; nothing in common is refused."""
    safe, item, landsat = _cloudy(home), write_item(tmp_path / "item", {}), write_landsat(tmp_path / "landsat")
    (spec,) = _specs(tmp_path, str(safe), references=[str(item), str(landsat)], bands=["red", "nir", "blue"])
    assert _names(list(spec.references)) == [["B04", "B02"], ["B4", "B5", "B2"]]
    assert all(one.mask for one in spec.references)
    (spec,) = _specs(tmp_path, str(landsat), references=[str(item)], bands=["SR_B2"])
    assert _names([spec, *spec.references]) == [["B2"], ["B02"]]
    (spec,) = _specs(tmp_path, str(safe), references=[{"source": str(_clear(home)), "bands": ["B04"]}], bands=["B05"])
    assert spec.references[0].selection is not None
    assert (spec.references[0].selection.metres, _names(list(spec.references))) == (20, [["B04"]])
    with pytest.raises(PipelineError, match=r"none of the image's bands \(B11\)"):
        _specs(tmp_path, str(safe), references=[str(item)], bands=["B11"])


# --- Landsat, STAC, level 1 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", f"{LANDSAT}_MTL.txt"])
def test_a_landsat_folder(tmp_path: Path, given: str) -> None:
    """Folder or MTL file: reflectance in order without the temperature, QA_PIXEL, the date, one convention."""
    folder = write_landsat(tmp_path / "one")
    (spec,) = _specs(tmp_path, str(folder / given))
    assert [Path(path).name for path in spec.paths] == [f"{LANDSAT}_SR_B{k}.TIF" for k in (2, 3, 4, 5)]
    assert (spec.stem, spec.date) == (LANDSAT, "2022-01-26T10:02:03Z")
    assert spec.mask[0].kind == "qa_pixel"
    assert open_any(spec.paths).channel_names == ("B2", "B3", "B4", "B5")
    write_landsat(tmp_path / "two", LANDSAT.replace("20220126_", "20210901_"))
    (spec,) = _specs(tmp_path, str(folder), references=[str(tmp_path / "two")])
    assert spec.references[0].shift == ()
    assert len(spec.notices) == 1
    (spec,) = _specs(tmp_path, str(folder), bands=["ST_B10"])
    assert spec.levels is None


def test_several_landsat_scenes_in_one_folder(tmp_path: Path) -> None:
    """They are named by their MTL files; a glob of these is a batch."""
    for scene in (LANDSAT, LANDSAT.replace("20220126_", "20210901_")):
        write_landsat(tmp_path / "many", scene)
    with pytest.raises(SourceError, match=r"holds 2 Landsat scenes.*_MTL.txt"):
        _specs(tmp_path, str(tmp_path / "many"))
    specs = _specs(tmp_path, str(tmp_path / "many" / "*_MTL.txt"))
    assert len({spec.stem for spec in specs}) == 2
    assert all(len(spec.paths) == 4 for spec in specs)


def test_level_1c_is_read_with_what_it_has(tmp_path: Path) -> None:
    """Bands at the sizes of the sensor, the offset of its own list; without its cloud mask one has to be named."""
    safe = write_level_1c(tmp_path, "04.00", clouds=False)
    product = _product(safe / "MTD_MSIL1C.xml")
    assert [(band.name, band.metres, band.offset) for band in product.bands] == [
        ("B02", 10, -1000), ("B04", 10, -1000), ("B10", 60, -1000), ("B11", 20, -1000),
    ]  # fmt: skip
    assert [[band.name for band in one.bands] for one in select(product, None, "each")] == [["B02", "B04"], ["B11"]]
    assert "Sentinel-2 L1C" in product.what
    with pytest.raises(ConfigError, match="brings no mask"):
        _specs(tmp_path, str(safe), "auto")


@pytest.mark.parametrize("baseline", ["04.00", "02.09"])
@pytest.mark.parametrize("how", ["folder", "zip", "band"])
def test_level_1c_brings_its_cloud_mask(tmp_path: Path, baseline: str, how: str) -> None:
    """Opaque clouds and cirrus are holes, snow is none; as raster or polygons, in a folder, a zip, beside one band."""
    safe = write_level_1c(tmp_path / "in", baseline)
    source = {"folder": safe, "zip": safe.with_suffix(".zip"), "band": next(safe.rglob("T*_B02.jp2"))}[how]
    if how == "zip":
        shutil.make_archive(str(safe.with_suffix("")), "zip", safe.parent, safe.name)
        shutil.rmtree(safe)
    expected = np.zeros((8, 8), np.uint8)
    expected[2:4, 3:6] = expected[6, 1] = FILL
    if baseline < "04.00":
        expected[2:4, 4] = KEEP
    job = order_of(_config(tmp_path, str(source), "auto")).job
    mask = job.open_mask(open_source(job.source))
    rim = dilate(np.kron(expected, np.ones((6, 6), bool))[None], (6.0, 6.0)) if how != "band" else None
    whole = np.kron(expected, np.ones((6, 6), np.uint8))
    assert np.array_equal(mask.read(WHOLE)[0] == FILL, whole == FILL if rim is None else rim[0])


def test_a_cloud_mask_without_clouds_or_of_other_xml(tmp_path: Path) -> None:
    """Without a feature a mask says no reference system and marks no hole; other XML and snow of GML are refused."""
    safe = write_level_1c(tmp_path / "in", "02.09")
    (gml,) = safe.rglob("*.gml")
    entry = {"kind": "l1c", "path": str(gml)}
    job = order_of(_config(tmp_path, str(safe), [entry])).job
    gml.write_text(clouds_gml())
    mask = job.open_mask(open_source(job.source))
    assert not mask.read(WHOLE).any()
    assert any("holds no shape" in said for said in mask.notices)
    with pytest.raises(ConfigError, match="none of snow"):
        order_of(_config(tmp_path, str(safe), [{**entry, "classes": ["snow"]}])).job.open_mask(open_source(job.source))
    gml.write_text("<gml><a/></gml>")
    with pytest.raises(SourceError, match="no mask of Sentinel-2"):
        job.open_mask(open_source(job.source))


def test_a_stac_item_by_its_address(tmp_path: Path, web: str) -> None:
    """Its assets lie beside it on the server; bands are read from there, the Item is fetched once."""
    write_item(tmp_path / "item", {"s2:processing_baseline": "04.00"}, added=1000)
    order = order_of(_config(tmp_path, f"{web}/item/item.json"))
    assert order.job.source.paths == tuple(f"{web}/item/{band}.tif" for band in ("B02", "B03", "B04"))
    assert order.date == "2022-01-26T10:20:21Z"
    assert np.array_equal(open_source(order.job.source).read(WHOLE), scene_values()[:3] + 1000)
    assert order.masks[0]["files"][0]["path"] == f"{web}/item/SCL.tif"
    assert order.inputs[-1]["path"] == f"{web}/item/item.json"
    # the bands of an Item on disk may lie on a server
    item = write_item(tmp_path / "item", {}, base=f"{web}/item/")
    assert _product(item).bands[0].path == f"{web}/item/B02.tif"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda item: item.update(type="Catalog"), "is no STAC Item (Catalog)"),
        (lambda item: item["assets"]["blue"].update(href="file:///etc/passwd"), None),
        (lambda item: [asset.update(href="file:///etc/x.tif") for asset in item["assets"].values()], "of this machine"),
        (lambda item: [asset.update(href="s3://b/x.tif") for asset in item["assets"].values()], "on no web server"),
        (lambda item: item["assets"].clear(), "no file of a band is in it"),
    ],
)
def test_items_that_cannot_be_used(tmp_path: Path, web: str, change: Any, words: str | None) -> None:
    """An Item from elsewhere opens no file of this machine; what is on no web server is named; others are used."""
    path = write_item(tmp_path / "item", {})
    item = json.loads(path.read_text())
    change(item)
    path.write_text(json.dumps(item))
    address = f"{web}/item/item.json"
    if words is None:
        assert [band.name for band in _product(address).bands] == ["B03", "B04", "B05"]
        return
    with pytest.raises(SourceError) as error:
        open_product(address)
    assert words in str(error.value)


def test_newer_items_name_their_bands_in_another_way(tmp_path: Path) -> None:
    """STAC 1.1 has `bands` with `eo:common_name` and `raster:offset`; Landsat's bands are named after instruments."""
    path = write_item(tmp_path / "item", {})
    item = json.loads(path.read_text())
    for key, asset in item["assets"].items():
        if facts := asset.pop("raster:bands", None):
            asset["bands"] = [{"name": asset.pop("eo:bands")[0]["name"], "eo:common_name": key.rstrip("1")}]
            asset |= {"raster:scale": facts[0]["scale"], "raster:offset": facts[0]["offset"], "gsd": 10}
    path.write_text(json.dumps(item))
    assert [(b.name, b.metres, b.offset) for b in _product(path).bands] == [
        ("B02", 10, -1000), ("B03", 10, -1000), ("B04", 10, -1000), ("B05", 10, -1000),
    ]  # fmt: skip
    item["properties"] |= {"constellation": "", "platform": "landsat-8"}
    item["id"] = LANDSAT
    item["assets"]["blue"]["bands"] = [{"name": "OLI_B2", "eo:common_name": "blue"}]
    path.write_text(json.dumps(item))
    product = _product(path)
    assert product.family == "landsat-oli"
    for asset in item["assets"].values():
        asset.pop("gsd", None)
    item["properties"]["gsd"] = 30
    path.write_text(json.dumps(item))
    assert {band.metres for band in _product(path).bands} == {30}
    assert [band.name for band in product.bands][:3] == ["B2", "B3", "B4"]


# --- masks and the first config ---------------------------------------------------------------------------------------


def test_mask_auto(home: Path, tmp_path: Path) -> None:
    """What a scene brings, or a file beside an image that is named as its mask; without either it is said."""
    (spec,) = _specs(tmp_path, str(_cloudy(home)), "auto")
    assert spec.mask[0].kind == "scl"
    (mine,) = _specs(tmp_path, str(_cloudy(home)), [{"kind": "threshold", "above": 9000}])
    assert mine.mask[0].kind == "threshold"
    (spec,) = _specs(tmp_path, str(_cloudy(home)), references=[{"source": str(_clear(home)), "mask": []}])
    assert spec.references[0].mask == ()
    item = write_item(tmp_path / "item", {}).parent
    for source, mask in (("B02.tif", "B02_SCL.tif"), ("B03.tif", "")):
        if mask:
            shutil.copy(item / "SCL.tif", item / mask)
            (spec,) = _specs(tmp_path, str(item / source), "auto")
            assert Path(spec.mask[0].reads()[0]).name == mask
        else:
            with pytest.raises(ConfigError, match=r"mask: auto: .*B03.tif brings no mask"):
                _specs(tmp_path, str(item / source), "auto")
    shown = json.loads(command("config", "show", _config(tmp_path, str(item / "B02.tif"), "auto")).out)
    assert shown["mask"] == "auto"


@pytest.mark.parametrize(("mask", "given"), [("auto", {}), (None, {"grid": "10m"})])
def test_a_damaged_image_is_told_before_a_config_is_blamed(tmp_path: Path, mask: Any, given: dict[str, str]) -> None:
    """A cut off file has no mask beside it and is no scene, but neither is what went wrong with it."""
    image = write_tiff(tmp_path / "image.tif", scene_values())
    image.write_bytes(image.read_bytes()[:2000])
    with pytest.raises(SourceError, match=r"image\.tif: .*(truncated|cut off|unreadable|cannot be read)"):
        _specs(tmp_path, str(image), mask, **given)


@pytest.mark.parametrize("many", [False, True])
def test_config_new_of_scenes(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, many: bool) -> None:
    """One scene or several of a sensor give a config that `plan` takes as it is."""
    monkeypatch.chdir(home)
    names = [_cloudy(home).name, _clear(home).name][: 1 + many]
    path = tmp_path / "my.yaml"
    outcome = command("config", "new", *names, "-o", path)
    assert outcome.code == 0, outcome.err
    assert "say under `mask:`" not in outcome.err
    specs = resolve_sources(load_config(path))
    assert _names(specs) == [["B02", "B03", "B04", "B08"]] * len(names)
    assert "bands: [B02, B03, B04, B08]" in path.read_text()
    assert "mask: auto" in path.read_text()
    write_landsat(tmp_path / "landsat")
    assert command("config", "new", names[0], tmp_path / "landsat").code == 2


# --- damaged and hostile ----------------------------------------------------------------------------------------------


def _changed(home: Path, folder: Path, kind: str) -> Path:
    safe = folder / _cloudy(home).name
    shutil.copytree(_cloudy(home), safe)
    metadata = safe / "MTD_MSIL2A.xml"
    if kind == "entities":
        metadata.write_text('<!DOCTYPE x [<!ENTITY a "b">]>' + metadata_of("04.00"))
    elif kind == "no XML":
        metadata.write_text(metadata.read_text()[:200])
    elif kind == "no number":
        metadata.write_text(metadata_of("04.00", offset=-1000).replace("-1000", "nan"))
    elif kind == "offset":
        metadata.write_text(metadata_of("04.00", offset=-1000).replace("-1000", "many"))
    elif kind == "tiles":
        granule = next((safe / "GRANULE").iterdir())
        shutil.copytree(granule, granule.with_name("L2A_T33UUP_A034000_20220126T102018"))
    elif kind == "no bands":
        shutil.rmtree(safe / "GRANULE")
    elif kind == "cut archive":
        cut = folder / "cut.zip"
        cut.write_bytes((home / "cloudy.zip").read_bytes()[:-100])
        return cut
    elif kind == "two in one":
        with zipfile.ZipFile(folder / "two.zip", "w") as archive:
            for name in ("a.SAFE", "b.SAFE"):
                archive.write(metadata, f"{name}/MTD_MSIL2A.xml")
        return folder / "two.zip"
    elif kind == "box":
        band = next(safe.rglob("*_B02_10m.jp2")).relative_to(folder)
        content = (folder / band).read_bytes()
        with zipfile.ZipFile(folder / "box.zip", "w") as archive:
            archive.write(metadata, f"{safe.name}/MTD_MSIL2A.xml")
            archive.writestr(band.as_posix(), content[:12] + bytes([0, 0, 0, 2]) + content[16:])
        return folder / "box.zip"
    return safe


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("entities", "document type"),
        ("no XML", "no readable XML"),
        ("offset", "offset or quantification"),
        ("no number", "nan is no number"),
        ("no bands", "no file of a band"),
        ("tiles", "a product of 2 tiles"),
        ("cut archive", "no readable zip archive"),
        ("two in one", "an archive of 2 products"),
        ("box", "has a length of 2"),
    ],
)
def test_damaged_products_are_refused(home: Path, tmp_path: Path, kind: str, words: str) -> None:
    """Exit code 4 with the file and what to do; nothing hangs."""
    path = _changed(home, tmp_path, kind)
    outcome = command("plan", _config(tmp_path, str(path), [{"kind": "nodata"}], bands=["B02"]))
    assert outcome.code == 4, outcome.err
    assert words in outcome.err
    assert path.name in outcome.err


def test_a_damaged_scene_of_a_batch_fails_alone(home: Path, tmp_path: Path) -> None:
    """The other scenes are there; the damaged one says what is wrong when its turn comes."""
    damaged = _changed(home, tmp_path, "no bands")
    bad, good = _specs(tmp_path, [str(damaged), str(_cloudy(home))])
    assert isinstance(bad.problem, SourceError)
    assert (good.problem, len(good.paths)) == (None, 4)


def test_folders_and_files_of_scenes_elsewhere(home: Path, tmp_path: Path) -> None:
    """Where one file is asked for, a scene says how it is named; other folders keep their own advice."""
    with pytest.raises(SourceError, match="as `source` of a config"):
        open_any(str(_cloudy(home)))
    shown = json.loads(command("inspect", _cloudy(home), "--json").out)
    assert shown["product"] == "Sentinel-2 L2A, processing baseline 04.00"
    assert {"name": "B8A", "range": "nir08", "size": "20m", "offset": -1000.0} in shown["bands"]
    (tmp_path / "empty").mkdir()
    assert open_product(str(tmp_path / "empty")) is None
    assert open_product(str(tmp_path / "nothing.json")) is None
    (tmp_path / "shapes.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(SourceError, match="FeatureCollection, no STAC Item"):
        open_product(str(tmp_path / "shapes.geojson"))


def test_paths_in_archives_are_published_like_others() -> None:
    """The folders of an archive may be private; what is in it is not."""
    publisher = Publisher(folder=Path("/home/me/out/x"), base=Path("/srv/project"))
    assert publisher.path("/vsizip//data/patients/a.zip/S2.SAFE/B02.jp2") == "/vsizip/B02.jp2"
