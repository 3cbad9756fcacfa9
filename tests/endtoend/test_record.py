"""A real run keeps its promises, its record says so, and `verify` notices when they no longer hold."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipeline.evidence.doubt import Doubt
from pipeline.formats import open_any
from pipeline.output.verify import header, verify
from pipeline.system.facts import file_facts
from tests.helpers import LAYERS, blobs, command, layer, pixels, run_config, smooth, write_image

SHAPE = (64, 70)
PAGE = Path(__file__).parents[2] / "docs" / "outputs.md"


def _describe(dataset: rasterio.io.DatasetWriter) -> None:
    dataset.descriptions = ("red", "infrared")
    dataset.scales, dataset.offsets = (0.5, 0.25), (1.0, 2.0)
    dataset.update_tags(CAMPAIGN="north")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with the spline on a described raster with nodata; returns folder, input and hole mask."""
    folder = tmp_path_factory.mktemp("finished")
    values = smooth((2, *SHAPE))
    values[:, :, :4] = 0
    image = write_image(folder / "image.tif", values, setup=_describe, nodata=0)
    hole = blobs(SHAPE, n=5, radius=5)
    mask = write_image(folder / "mask.tif", hole[None])
    config = run_config(folder, image, mask, input={"fill_nodata": "never"}, compute={"block": 32})
    outcome = command("run", config, "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    hole = hole.astype(bool)
    hole[:, :4] = False
    return folder / "out", image, hole, summary


def test_observed_pixels_and_header_are_the_inputs(finished):
    """Bit for bit outside the holes, every header field equal."""
    out, image, hole, _ = finished
    before, after = open_any(str(image)), layer(out / "image", "restored")
    assert np.array_equal(pixels(before)[:, ~hole], pixels(after)[:, ~hole])
    assert not np.array_equal(pixels(before)[:, hole], pixels(after)[:, hole])
    check = header(before, after)
    assert check.held, check.detail
    with rasterio.open(out / "image" / "image_restored.tif") as dataset:
        assert dataset.tags()["CAMPAIGN"] == "north"
        assert (dataset.scales, dataset.offsets) == ((0.5, 0.25), (1.0, 2.0))


def test_uncertainty_is_positive_exactly_in_holes(finished):
    """P2: restored pixels have a standard error, observed ones 0, never-touched ones none."""
    out, _, hole, _ = finished
    sigma = pixels(layer(out / "image", "uncertainty"))
    never = np.zeros(SHAPE, dtype=bool)
    never[:, :4] = True
    assert sigma.dtype == np.float32
    assert (sigma[:, hole] > 0).all()
    assert np.isnan(sigma[:, never]).all()
    assert (sigma[:, ~hole & ~never] == 0).all()


def test_source_codes(finished):
    """P2: 1 in holes (a classical fill), 255 where never touched, 0 elsewhere."""
    out, _, hole, _ = finished
    code = pixels(layer(out / "image", "source"))
    expected = np.where(hole, 1, 0)
    expected[:, :4] = 255
    assert code.dtype == np.uint8
    assert np.array_equal(code[0], expected)


def test_the_record_is_what_the_contract_says(finished):
    """record.json: outputs with role, path, hash and size; holes, self-test, patches, seconds, memory, software."""
    out, image, hole, _ = finished
    record = json.loads((out / "image" / "record.json").read_text())
    roles = {o["role"] for o in record["outputs"]}
    assert {*LAYERS, "report"} <= roles
    for output in record["outputs"]:
        path = out / "image" / output["path"]
        assert file_facts(path) == {"bytes": output["bytes"], "sha256": output["sha256"]}
    assert record["holes"]["pixels"] == int(hole.sum())
    assert record["holes"]["fraction"] == pytest.approx(hole.mean())
    assert record["holes"]["by_source"] == {"classical": int(hole.sum())}
    assert record["inputs"][0]["path"] == "../../image.tif"
    assert record["inputs"][0]["sha256"] == file_facts(image)["sha256"]
    methods = [row["method"] for row in record["self_test"]["methods"]]
    assert "tension" in methods[0]
    patches = record["patches"]
    assert 0 < patches["touching_holes"] <= patches["total"]
    assert patches["forwards"] >= patches["touching_holes"]
    assert {"masks", "blocks", "assemble", "total"} <= set(record["seconds"])
    assert record["peak_rss_bytes"] > 10**7
    assert "inpaint-pipeline" in record["software"]
    assert record["config"]["seed"] == 0
    assert "not a medical device" in record["disclaimer"]
    report = (out / "image" / "report.html").read_text()
    assert "medical" in report
    assert "http://" not in report.replace("http://www.w3.org", "")


def test_every_field_of_the_record_is_documented(finished):
    """docs/outputs.md names each of them, those within its sections too."""
    out, *_ = finished
    record = json.loads((out / "image" / "record.json").read_text())
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page[page.index("## record.json") : page.index("## What leaves the machine")]))
    sections = [record[key] for key in ("space", "holes", "self_test", "recipe", "patches", "plan")]
    found = {*record, *(key for section in sections for key in section), *(field.name for field in fields(Doubt))}
    assert found - named == set()


def test_the_summary_is_what_the_contract_says(finished):
    """run.json equals what `--json` printed: one entry a source, exit state, timings."""
    out, _, _, summary = finished
    assert json.loads((out / "run.json").read_text()) == summary
    assert summary["exit_code"] == 0
    (entry,) = summary["sources"]
    assert (entry["stem"], entry["state"]) == ("image", "done")
    assert "image/image_restored.tif" in entry["outputs"]
    assert all((out / path).exists() for path in entry["outputs"])


def test_verify_passes_and_says_what_it_checked(finished):
    """Exit 0; each check is named and holds."""
    out, *_ = finished
    outcome = command("verify", out, "--json")
    assert outcome.code == 0, outcome.err
    checks = json.loads(outcome.out)["image"]
    assert all(check["held"] is True for check in checks)
    names = " ".join(check["name"] for check in checks)
    assert all(word in names for word in ("files", "observed", "header", "source", "recomputed"))


def _copy(out: Path, folder: Path) -> Path:
    """Copy a result so that it can be spoilt; the plan still finds its input."""
    shutil.copytree(out / "image", folder / "image")
    return folder / "image"


def _spoil(folder: Path, role: str, where: tuple[int, int], change, *, forge: bool) -> None:
    """Change one pixel of a layer; `forge`: also its hash in the record, so that only the content can tell."""
    path = folder / f"image_{role}.tif"
    values = pixels(path)
    values[(0, *where)] = change(values[(0, *where)])
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.write(values)
    if forge:
        _forge(folder, role)


def _forge(folder: Path, role: str) -> None:
    """Write the hash that the file has now into the record."""
    record = json.loads((folder / "record.json").read_text())
    entry = next(o for o in record["outputs"] if o["role"] == role)
    entry.update(file_facts(folder / entry["path"]))
    (folder / "record.json").write_text(json.dumps(record))


def _broken(folder: Path) -> set[str]:
    return {check.name for check in verify(folder) if check.held is False}


@pytest.mark.parametrize(
    ("role", "in_hole", "change", "promise"),
    [
        ("restored", False, lambda v: v + 1, "observed pixels"),
        ("uncertainty", True, lambda _: 0.0, "source and uncertainty"),
        ("uncertainty", False, lambda _: 0.5, "source and uncertainty"),
        ("source", True, lambda _: 77 - 77, "source and uncertainty"),
        ("source", False, lambda _: 1, "source and uncertainty"),
    ],
)
def test_verify_notices_a_single_changed_pixel(finished, tmp_path, role, in_hole, change, promise):
    """One pixel of any layer: the hash tells, and with a forged hash the promise itself does."""
    out, _, hole, _ = finished
    where = tuple(int(i) for i in np.argwhere(hole if in_hole else ~hole)[-1])
    folder = _copy(out, tmp_path)
    _spoil(folder, role, where, change, forge=False)
    assert "files" in _broken(folder)
    assert command("verify", folder).code == 1
    _spoil(folder, role, where, lambda v: v, forge=True)
    broken = _broken(folder)
    assert "files" not in broken
    assert promise in broken


@pytest.mark.parametrize("role", ["restored", "uncertainty"])
def test_verify_recomputes_restored_pixels(finished, tmp_path, role):
    """A plausible but other estimate, hash forged, is found where patches are computed again."""
    out, _, hole, _ = finished
    folder = _copy(out, tmp_path)
    path = folder / f"image_{role}.tif"
    values = pixels(path)
    values[:, hole] = values[:, hole] * 2
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.write(values)
    _forge(folder, role)
    assert _broken(folder) == {"recomputed"}


def test_verify_misses_no_file(finished, tmp_path):
    """A file that is gone is said to be missing, exit code not 0, no traceback."""
    out, *_ = finished
    folder = _copy(out, tmp_path)
    (folder / "image_source.tif").unlink()
    outcome = command("verify", folder)
    assert outcome.code != 0
    assert "image_source.tif" in outcome.err + outcome.out


def test_refused_pixels_keep_nodata_and_say_254(tmp_path):
    """`refuse_above` is a share of the value range: less certain pixels hold nodata and source 254, others do not."""
    values = smooth((1, *SHAPE), "float32")
    image = write_image(tmp_path / "image.tif", values, nodata=-1.0)
    mask = write_image(tmp_path / "mask.tif", blobs(SHAPE, n=2, radius=12)[None])
    calm = tmp_path / "calm"
    assert command("run", run_config(tmp_path, image, mask), "--set", f"output.directory={calm}").code == 0
    sigma = pixels(layer(calm / "image", "uncertainty"))
    found = np.unique(sigma[sigma > 0]).astype(float)
    limit = (found[len(found) // 2] + found[len(found) // 2 + 1]) / 2
    spread = json.loads((calm / "image" / ".work" / "plan.json").read_text())["spread"][0]
    config = run_config(tmp_path, image, mask, output={"refuse_above": limit / spread})
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    out = tmp_path / "out" / "image"
    code, restored = pixels(layer(out, "source")), pixels(layer(out, "restored"))
    refused = code == 254
    assert refused.any()
    assert np.array_equal(refused, sigma > limit)
    assert (restored[refused] == -1.0).all()
    record = json.loads((out / "record.json").read_text())
    assert record["holes"]["by_source"]["refused"] == refused.sum()
    assert command("verify", tmp_path / "out").code == 0


def test_holes_in_darkness(tmp_path):
    """A block of which every restored value is 0 (air around a head, night) is a block like any other."""
    image = write_image(tmp_path / "image.tif", np.zeros((1, *SHAPE), "int16"))
    mask = write_image(tmp_path / "mask.tif", blobs(SHAPE, n=2, radius=4)[None])
    outcome = command("run", run_config(tmp_path, image, mask))
    assert outcome.code == 0, outcome.err
    assert not pixels(layer(tmp_path / "out" / "image", "restored")).any()
    assert command("verify", tmp_path / "out").code == 0
