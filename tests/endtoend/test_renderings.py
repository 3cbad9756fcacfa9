"""The record in the words of others: catalogues and research packages read what stands beside the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
import pytest
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation.local_validator import LocalValidator
from rasterio import Affine
from rocrate.rocrate import ROCrate

from pipeline.run import run
from tests.helpers import blobs, command, run_config, smooth, write_image

UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 600_000, 0, -10, 5_000_000)}


def _finished(folder: Path, name: str, shape: tuple[int, ...], profile: dict[str, Any], **sections: Any) -> Path:
    """Restore a small image and return the folder of its results."""
    image = write_image(folder / name, smooth(shape), **profile)
    hole = write_image(folder / f"mask_{name}", blobs(shape[1:], n=2, radius=3.0)[None], **profile)
    run(run_config(folder, image, hole, **sections))
    (record,) = (folder / "out").glob("*/record.json")
    return record.parent


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of a raster in UTM."""
    return _finished(tmp_path_factory.mktemp("raster"), "scene.tif", (2, 60, 70), UTM)


def _outputs(folder: Path) -> dict[str, Any]:
    return {output["role"]: output for output in json.loads((folder / "record.json").read_text())["outputs"]}


@pytest.mark.filterwarnings("ignore:.*LocalValidator:DeprecationWarning")
def test_a_catalogue_takes_the_item(raster):
    """Valid by the schema of STAC 1.1; grid, checksums and classes as the extensions have them."""
    content = json.loads((raster / "item.json").read_text())
    assert not list(LocalValidator().item_validator("1.1.0").iter_errors(content))
    item = pystac.Item.from_file(str(raster / "item.json"))
    grid = ProjectionExtension.ext(item)
    assert grid.code == "EPSG:32633"
    assert grid.shape == [60, 70]
    assert grid.transform[:6] == [10, 0, 600_000, 0, -10, 5_000_000]
    west, south, east, north = item.bbox
    assert 16.2 < west < east < 16.3
    assert 45.1 < south < north < 45.2
    outputs = _outputs(raster)
    for role in ("restored", "uncertainty", "source"):
        asset = item.assets[role]
        assert (raster / asset.href).is_file()
        assert FileExtension.ext(asset).checksum == "1220" + outputs[role]["sha256"]
        assert FileExtension.ext(asset).size == outputs[role]["bytes"]
    names = {entry.value: entry.name for entry in ClassificationExtension.ext(item.assets["source"]).classes}
    assert names[0] == "observed"
    assert names[1] == "classical"
    assert item.properties["inpaint:filled_fraction"] > 0


def test_nothing_says_where_the_images_of_others_lie(raster):
    """Paths of inputs are those that the record has."""
    for name in ("item.json", "ro-crate-metadata.json"):
        assert str(raster.parents[1]) not in (raster / name).read_text()


def test_without_a_date_the_item_says_so(tmp_path, raster):
    """The time of the restoration stands in for one that was not given; a date of the catalog is taken."""
    assert "inpaint:datetime_of" in json.loads((raster / "item.json").read_text())["properties"]
    image = write_image(tmp_path / "scene.tif", smooth((1, 40, 44)), **UTM)
    write_image(tmp_path / "mask.tif", blobs((40, 44))[None], **UTM)
    entry = {
        "path": image.name,
        "license": "CC0-1.0",
        "date": "2024-06-12",
        "mask": {"kind": "raster", "path": "mask.tif"},
    }
    (tmp_path / "data_catalog.yaml").write_text(json.dumps({"catalog_version": 1, "sources": {"alps": entry}}))
    run(run_config(tmp_path, "alps", None, mask=None))
    properties = json.loads((tmp_path / "out/scene/item.json").read_text())["properties"]
    assert properties["datetime"] == "2024-06-12T00:00:00Z"
    assert "inpaint:datetime_of" not in properties


def test_a_crate_says_what_was_made_from_what(raster):
    """Program, inputs and results of one action; every result is a part of the package."""
    crate = ROCrate(str(raster))
    action = crate.dereference("#restoration")
    assert action.type == "CreateAction"
    assert action["instrument"]["name"] == "inpaint-pipeline"
    assert {entity["name"] for entity in action["object"]} >= {"scene.tif", "mask_scene.tif"}
    outputs = json.loads((raster / "record.json").read_text())["outputs"]
    made = {entity.id: entity["sha256"] for entity in action["result"]}
    assert made == {o["path"]: o["sha256"] for o in outputs if o["role"] != "crate"}
    assert set(made) <= {part.id for part in crate.root_dataset["hasPart"]}


def test_a_volume_has_a_crate_and_no_item(tmp_path):
    """Catalogues of the earth have no place for it."""
    folder = _finished(tmp_path, "head.nii.gz", (1, 16, 18, 20), {})
    assert not (folder / "item.json").exists()
    assert ROCrate(str(folder)).dereference("head_restored.nii.gz")["encodingFormat"] == "application/gzip"


def test_a_report_that_is_made_again_keeps_all_of_them_true(raster):
    """Checksums follow."""
    assert command("report", raster).code == 0
    assert command("verify", raster).code == 0
    outputs = _outputs(raster)
    item = pystac.Item.from_file(str(raster / "item.json"))
    assert FileExtension.ext(item.assets["report"]).checksum == "1220" + outputs["report"]["sha256"]
    assert list(outputs)[-2:] == ["stac", "crate"]
