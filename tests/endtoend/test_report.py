"""report.html as its readers get it: one file, all pictures there, and controls that work in a browser."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
import rasterio.shutil
from ruamel.yaml import YAML

from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.plan.plan import load_plan
from pipeline.plan.samples import Samples
from pipeline.plan.workdir import WorkFolder
from pipeline.report import build, gallery
from pipeline.report.methods import methods
from pipeline.survey.survey import survey
from tests.helpers import blobs, command, order_of, run_config, smooth, write_image

_LETTERS = re.compile(r'<span class="(left|right|top|bottom)">([LRAPSI]\??)</span>')


class _Images(HTMLParser):
    """Collects the attributes of all images, links and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        self.places.add(found.get("id") or "")
        if tag == "a":
            self.links.append(found["href"] or "")
            return
        address = found.get("src") or found.get("href") or ""
        if address and not address.startswith("data:"):
            self.outside.append(address)


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a restored raster with a masked reference and an auxiliary."""
    folder = tmp_path_factory.mktemp("raster")
    values = smooth((3, 90, 100))
    image = write_image(folder / "scene.tif", values)
    hole = blobs((90, 100), n=5, radius=9)
    mask = write_image(folder / "mask.tif", hole[None])
    earlier = write_image(folder / "earlier.tif", (values * 0.8 + 50).astype(np.uint16))
    cloud = write_image(folder / "cloud.tif", blobs((90, 100), seed=3, n=2, radius=7)[None])
    radar = write_image(folder / "radar.tif", smooth((1, 90, 100), "float32", seed=5))
    guides = {
        "references": [{"path": str(earlier), "mask": [{"kind": "raster", "path": str(cloud)}]}],
        "auxiliary": [{"path": str(radar)}],
    }
    outcome = command("run", run_config(folder, image, mask, input=guides))
    assert outcome.code == 0, outcome.err
    return folder / "out" / "scene"


def _volume(folder: Path, codes: str) -> Path:
    """Return the folder of a restored volume, stored as `codes`, with a bright block at the left front top."""
    values = smooth((1, 20, 24, 28), "int16")
    values[0, 14:, 16:, :8] = 3000
    hole = blobs((20, 24, 28), n=2, radius=3)[None]
    paths = []
    for name, array in (("head.nii", values), ("mask.nii", hole)):
        stored = nibabel.Nifti1Image(array[0].T, np.diag([2.0, 2.0, 3.0, 1.0]))
        there = nibabel.orientations.axcodes2ornt(tuple(codes))
        turn = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(stored.affine), there)
        nibabel.save(stored.as_reoriented(turn), folder / name)
        paths.append(folder / name)
    image, mask = paths
    outcome = command("run", run_config(folder, image, mask, output={"format": ["same", "zarr"]}))
    assert outcome.code == 0, outcome.err
    return folder / "out" / "head"


def _page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_one_small_file(raster: Path) -> None:
    """Every picture is inside and has a text for those who cannot see it; nothing is fetched; it is below 5 MB."""
    page = _page(raster)
    parser = _Images()
    parser.feed(page)
    assert len(page.encode()) < 5_000_000
    assert parser.outside == []
    assert len(parser.images) > 20
    assert all(len(image["alt"] or "") > 10 for image in parser.images)
    assert page.count('aria-label="north is up"') == len(parser.images) - page.count('class="after"')
    assert _LETTERS.search(page) is None
    # what a reader may follow lies in the page or beside it
    assert {unquote(link) for link in parser.links if not link.startswith("#")} <= {p.name for p in raster.iterdir()}
    assert {link[1:] for link in parser.links if link.startswith("#")} <= parser.places
    layers = {f"scene_{role}.tif" for role in ("restored", "uncertainty", "source")}
    assert layers | {"record.json"} <= set(parser.links)


def test_the_order_is_that_in_which_questions_come(raster: Path) -> None:
    """From the verdict over pictures and evidence to files and words; nothing is left out."""
    page = _page(raster)
    parts = [
        "verdict",
        "pictures",
        "made",
        "evidence",
        "done",
        "time",
        "methods",
        "notes",
        "config",
        "files",
        "reading",
    ]
    places = [page.index(f'class="{parts[0]} ')] + [page.index(f'<h2 id="{part}"') for part in parts[1:]]
    assert places == sorted(places)
    assert places[2] < page.index("The largest hole") < places[3]
    config = YAML(typ="safe", pure=True).load(html.unescape(page[places[8] :].split("<pre>")[1].split("</pre>")[0]))
    assert config == json.loads((raster / "record.json").read_text())["config"]


def test_the_evidence_is_that_of_the_self_test(raster: Path) -> None:
    """Windows, scatter, errors and coverage are of the pixels that were hidden, and add up with the record."""
    page, record = _page(raster), json.loads((raster / "record.json").read_text())
    samples = Samples.load(WorkFolder.of(raster).samples)
    shown = page[page.index('id="evidence"') : page.index("Methods in comparison")]
    assert shown.count("<b>Hidden.</b>") == shown.count("<b>True.</b>") == len(samples.specimens) == 3
    assert [one.title for one in samples.specimens] == ["a good one", "a typical one", "the worst"]
    errors = [one.error for one in samples.specimens]
    assert errors == sorted(errors)
    assert shown.count('<svg class="chart"') == 3
    # each counts as often as real holes are as rough around, on average once
    assert samples.scores.sum() == pytest.approx(samples.seen.sum())
    assert samples.seen.sum() == pytest.approx(record["self_test"]["hidden_pixels"], rel=0.02)
    assert samples.held.sum() / samples.seen.sum() == pytest.approx(record["self_test"]["coverage_90"], abs=1e-3)
    image = open_any(str(raster.parent.parent / "scene.tif"))
    hole = open_any(str(raster.parent.parent / "mask.tif"))
    plan = load_plan(WorkFolder.of(raster))
    for one in samples.specimens:
        stored = image.read(one.box)[one.channel]
        hidden = one.sigma > 0
        assert hidden.any()
        assert not (hidden & (hole.read(one.box)[0] > 0)).any()
        assert not one.off[~hidden].any()
        restored = stored + one.off.astype(np.float64) * plan.spread[one.channel]
        assert abs(restored - stored)[hidden].max() > 0
    # the sampled true values are the image's own
    for channel in range(3):
        own = np.rint(samples.truth[samples.channel == channel] + plan.centre[channel])
        assert np.isin(own, image.read(Box.whole(image.space.shape))[channel]).all()
    # a table in words, none of the arrays in the record
    assert "surely better" in shown
    assert len((raster / "record.json").read_text()) < 60_000


def test_the_samples_are_the_same_whoever_works(raster: Path, tmp_path: Path) -> None:
    """Threads of the survey change no byte of what is kept."""
    order = order_of(raster.parent.parent / "run.yaml", f"output.directory={tmp_path}")
    assert order.job.threads == 1
    survey(replace(order.job, threads=3))
    assert order.work.samples.read_bytes() == WorkFolder.of(raster).samples.read_bytes()


def test_methods_to_paste(raster: Path) -> None:
    """What this run used, with versions; every number in brackets has its work, with a DOI and a BibTeX entry."""
    record = json.loads((raster / "record.json").read_text())
    found = methods(record)
    assert html.escape(found.text, quote=False) in _page(raster).replace("&#39;", "'")
    cited = {int(number) for group in re.findall(r"\[([\d, ]+)\]", found.text) for number in group.split(",")}
    assert cited == set(range(1, len(found.works) + 1))
    assert found.works[0].startswith("The inpaint-pipeline developers")
    assert all("https://doi.org/10." in work for work in found.works[1:])
    assert found.bibtex.count("@") == len(found.works)
    for name in ("inpaint-pipeline", "numpy", "rasterio"):
        assert record["software"][name] in found.text
    assert "splines in tension" in found.text
    assert "earlier" in found.text or "they led nowhere" in found.text
    assert "autoencoder" not in found.text


def test_viewers_find_names_and_colours(raster: Path) -> None:
    """QGIS takes a style beside each raster, GDAL the names of codes; what a user changes there is the user's."""
    record = json.loads((raster / "record.json").read_text())
    styles = {o["path"] for o in record["outputs"] if o["role"] == "style"}
    assert styles == {f"scene_{role}.qml" for role in ("restored", "uncertainty", "source")}
    trees = {name: ElementTree.parse(raster / name).getroot().find("pipe/rasterrenderer") for name in styles}
    restored = trees["scene_restored.qml"].attrib
    assert restored["type"] == "multibandcolor"
    assert [restored[f"{c}Band"] for c in ("red", "green", "blue")] == ["1", "2", "3"]
    assert trees["scene_uncertainty.qml"].attrib["type"] == "singlebandpseudocolor"
    entries = {e.get("value"): e.get("label") for e in trees["scene_source.qml"].iter("paletteEntry")}
    names = {"0": "observed", "1": "classical", "10": "reference 0", "11": "auxiliary 1", "253": "several guides"}
    assert names.items() <= entries.items()
    # as GDAL itself reads the file beside the layer
    rasterio.shutil.copy(raster / "scene_source.tif", raster / "seen.vrt", driver="VRT")
    seen = ElementTree.parse(raster / "seen.vrt").getroot()
    (raster / "seen.vrt").unlink()
    listed = [c.text for c in seen.iter("Category")]
    assert {k: listed[int(k)] for k in entries} == entries
    rows = {row[0].text: row[1].text for row in seen.iter("Row")}
    assert rows == entries


def test_a_style_that_the_user_changed_stays(raster: Path, tmp_path: Path) -> None:
    """It is no damage; `report` and a run that replaces the results keep it."""
    copy = tmp_path / "study"
    shutil.copytree(raster.parent.parent, copy)
    style = copy / "out" / "scene" / "scene_source.qml"
    style.write_text("<qgis>mine</qgis>")
    assert command("verify", copy / "out").code == 0
    assert command("report", copy / "out").code == 0
    assert style.read_text() == "<qgis>mine</qgis>"
    # another seed is another request
    changes = ("--set", "seed=5", "--set", f"output.directory={copy / 'out'}")
    outcome = command("run", copy / "run.yaml", *changes, "--overwrite")
    assert outcome.code == 0, outcome.err
    assert (style.parent / "scene_source.qml.kept").read_text() == "<qgis>mine</qgis>"
    assert "paletted" in style.read_text()


def test_large_pages_get_coarser_pictures(raster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best quality that keeps the page below its limit is taken, and the worst if none does."""
    sizes = {88: 900, 70: 500, 45: 100, 20: 50}
    monkeypatch.setattr(build, "_page", lambda *facts: ("x" * sizes[facts[-1]], None))
    plan = load_plan(WorkFolder.of(raster))
    for limit, written in ((1000, 900), (400, 100), (10, 50)):
        monkeypatch.setattr(build, "_MAX_BYTES", limit)
        ((role, path),) = build.write_report(plan, {"references": [], "outputs": []}, tmp_path)
        assert (role, path.stat().st_size) == ("report", written)


def test_what_it_was_made_of(raster: Path) -> None:
    """Reference and auxiliary are shown with their share, their mask and where they lead; shares are the record's."""
    page = _page(raster)
    record = json.loads((raster / "record.json").read_text())
    made = page[page.index("What it was made of") : page.index("The largest hole")]
    assert "Reference 0: earlier" in made
    assert "Auxiliary 1: radar" in made
    assert "masked or without data, in yellow" in made
    assert made.count("<b>Where it leads.</b>") == made.count("<b>Difference.</b>") == 2
    by_source = record["holes"]["by_source"]
    for share in (by_source.get("reference 0", 0), by_source.get("classical", 0)):
        assert f"{100 * share / sum(by_source.values()):.1f} %" in made


def test_where_no_block_was_computed_no_result_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a large image of which little was hidden: the image and its states give what the results hold."""
    values, hole = smooth((2, 70, 90)), np.zeros((70, 90), dtype=np.uint8)
    hole[40:44, 50:56], values[:, :20, 70:] = 1, 0
    image = write_image(tmp_path / "scene.tif", values, nodata=0)
    mask = write_image(tmp_path / "mask.tif", hole[None])
    outcome = command("run", run_config(tmp_path, image, mask, compute={"block": 32}))
    assert outcome.code == 0, outcome.err
    folder, read = tmp_path / "out" / "scene", list[str]()
    plan, record = load_plan(WorkFolder.of(folder)), json.loads((folder / "record.json").read_text())
    assert [block.index for block in plan.blocks] == [(1, 1)]

    def noted(path: str) -> Any:
        opened = open_any(path)
        stage = lambda _: SimpleNamespace(read=lambda box: read.append(path) or opened.read(box))  # noqa: E731
        return SimpleNamespace(stage=stage)

    monkeypatch.setattr(gallery, "open_any", noted)
    readers = gallery._readers(plan, record, folder, open_any(str(image)))
    roles = {"after": "restored", "uncertainty": "uncertainty", "origin": "source"}
    for box in Box.whole((70, 90)).tiles((32, 32)):
        for name, role in roles.items():
            result = open_any(str(folder / f"scene_{role}.tif")).read(box)
            assert np.array_equal(np.nan_to_num(getattr(readers, name)(box)), np.nan_to_num(result))
        assert len(read) == (3 if box.start >= (32, 32) else 0)


def test_a_reference_that_is_gone_is_said(raster: Path, tmp_path: Path) -> None:
    """A report that is made again without a reference says which one is missing, and has the other pictures."""
    folder = tmp_path / "moved"
    shutil.copytree(raster.parent.parent, folder)
    plan = folder / "out" / "scene" / ".work" / "plan.json"
    assert plan.exists()
    gone = raster.parent.parent / "earlier.tif"
    gone.rename(tmp_path / "elsewhere.tif")
    try:
        outcome = command("report", folder / "out" / "scene")
    finally:
        (tmp_path / "elsewhere.tif").rename(gone)
    assert outcome.code == 0, outcome.err
    page = _page(folder / "out" / "scene")
    assert re.search(r"No picture: .*earlier\.tif", page)
    assert page.count("<b>Where it leads.</b>") == 1


def test_a_band_that_alone_has_holes_is_shown(tmp_path: Path) -> None:
    """Holes of one band are not searched in the colours of the others; the bar has the unit of that band."""
    values = smooth((5, 60, 60), "float32")
    values[4, 20:30, 20:30] = np.nan

    def describe(dataset: Any) -> None:
        dataset.descriptions = ("blue", "green", "red", "nir", "heat")
        dataset.units = ("", "", "", "", "kelvin")

    image = write_image(tmp_path / "bands.tif", values, nodata=float("nan"), setup=describe)
    outcome = command("run", run_config(tmp_path, image, None, mask=None, input={"fill_nodata": "all"}))
    assert outcome.code == 0, outcome.err
    page = _page(tmp_path / "out" / "bands")
    assert "100 pixels." in page
    assert re.search(r"<span>[\d.,]+ or more kelvin</span>", page)


def test_all_orders_of_storage_give_the_same_pictures(tmp_path: Path) -> None:
    """The first view of one head stored in three ways: the same sides, the same planes, the same image."""
    seen = []
    for codes in ("RAS", "LAS", "PIR"):
        (tmp_path / codes).mkdir()
        page = _page(_volume(tmp_path / codes, codes))
        titles = re.findall(r"<b>((?:Axial|Coronal|Sagittal)[^<]*)\.</b>", page)
        pictures = re.findall(r'alt="(?:axial|coronal|sagittal)[^"]*before[^"]*" src="([^"]*)"', page)
        seen.append((_LETTERS.findall(page)[:4], titles[:3], pictures[:3]))
    assert seen[0] == seen[1] == seen[2]
    letters, titles, _ = seen[0]
    assert letters == [("left", "L"), ("right", "R"), ("top", "A"), ("bottom", "P")]
    assert [title.split(",")[0] for title in titles] == ["Axial", "Coronal", "Sagittal"]


_OPERATE = """<script>
const wait = ms => new Promise(done => setTimeout(done, ms));
addEventListener("load", async () => {
  const found = {errors: window.failures, fetched: performance.getEntriesByType("resource").length};
  found.decoded = [...document.images].every(image => image.naturalWidth > 0);
  const pair = document.querySelector("figure.pair"), after = pair.querySelector(".after");
  const slider = pair.querySelector("input"), button = pair.querySelector(".flicker");
  const clip = () => getComputedStyle(after).clipPath, visible = () => getComputedStyle(after).visibility;
  const state = () => [clip(), visible(), pair.querySelector("output").textContent];
  found.start = state();
  slider.focus(); found.focus = [document.activeElement === slider];
  slider.value = 80; slider.dispatchEvent(new Event("input")); found.slid = state();
  button.focus(); found.focus.push(document.activeElement === button);
  button.click(); found.pressed = [button.getAttribute("aria-pressed"), ...state()];
  await wait(1000); found.flicked = state();
  await wait(700); found.again = state();
  button.click(); found.released = [button.getAttribute("aria-pressed"), ...state()];
  const dialog = document.querySelector("dialog"), zooms = [...document.querySelectorAll("button.zoom")];
  found.zooms = zooms.length; found.frames = document.querySelectorAll("figure .frame").length;
  zooms[0].focus(); found.focus.push(document.activeElement === zooms[0]);
  zooms[0].click(); await wait(50);
  const large = dialog.querySelector(".frame").getBoundingClientRect();
  const small = pair.querySelector(".frame").getBoundingClientRect();
  const inside = () => dialog.querySelectorAll("img").length;
  found.enlarged = [dialog.open, large.width > 1.5 * small.width, inside()];
  const copied = dialog.querySelector("input");
  copied.value = 20; copied.dispatchEvent(new Event("input"));
  found.copy = [getComputedStyle(dialog.querySelector(".after")).clipPath, clip()];
  dialog.querySelector(".close").click(); await wait(50); found.closed = [dialog.open, inside()];
  document.querySelectorAll("figure:not(.pair) .frame img")[0].click(); await wait(50);
  found.clicked = [dialog.open, inside()];
  found.modal = dialog.matches(":modal"); dialog.close();
  found.page = getComputedStyle(document.body).backgroundColor;
  const box = pair.querySelector(".frame").getBoundingClientRect();
  found.ratio = box.width / box.height;
  const text = document.createElement("pre"); text.id = "found"; text.textContent = JSON.stringify(found);
  document.body.append(text);
});
</script></body>"""


def _operated(page: str, folder: Path, *, dark: bool = False) -> dict[str, Any]:
    """Open a page from a file in headless Chromium, operate its controls and return what they did."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None and os.environ.get("INPAINT_REQUIRE_BROWSER"):
        pytest.fail("INPAINT_REQUIRE_BROWSER is set, but there is no chromium")
    if browser is None:
        pytest.skip("no browser here: apt install chromium")
    watched = page.replace(
        "<head>", "<head><script>window.failures = []; onerror = e => failures.push(`${e}`);</script>"
    )
    path = folder / "operated.html"
    path.write_text(watched.replace("</body>", _OPERATE), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--window-size=1240,900",
        ]
        arguments += ["--virtual-time-budget=8000", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
        done = subprocess.run(
            [browser, *arguments, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=400, check=True
        )
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text is not None, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(text.group(1))
    return found


def test_slider_and_flicker_work_in_a_browser(raster: Path, tmp_path: Path) -> None:
    """From a file, without network or error: the slider uncovers, the button alternates, both can have the focus."""
    found = _operated(_page(raster), tmp_path)
    assert found["errors"] == []
    assert found["fetched"] == 0
    assert found["decoded"]
    assert found["focus"] == [True, True, True]
    # every picture enlarges by its button, which the keyboard reaches, or a click; the copy has controls of its own
    assert found["zooms"] == found["frames"] > 20
    assert found["enlarged"] == [True, True, 2]
    assert found["copy"] == ["inset(0px 0px 0px 20%)", "inset(0px 0px 0px 80%)"]
    assert found["closed"] == [False, 0]
    assert found["clicked"] == [True, 1]
    # the Esc key closes what is modal
    assert found["modal"]
    assert found["start"] == ["inset(0px 0px 0px 50%)", "visible", "before | after"]
    assert found["slid"][0] == "inset(0px 0px 0px 80%)"
    assert found["pressed"] == ["true", "none", "hidden", "before"]
    assert found["flicked"] == ["none", "visible", "after"]
    assert found["again"] == ["none", "hidden", "before"]
    assert found["released"] == ["false", "inset(0px 0px 0px 80%)", "visible", "before | after"]
    assert found["ratio"] == pytest.approx(100 / 90, rel=0.01)
    assert found["page"] == "rgb(255, 255, 255)"


def test_dark_readers_get_a_dark_page(raster: Path, tmp_path: Path) -> None:
    """The page follows what the reader's system prefers."""
    assert _operated(_page(raster), tmp_path, dark=True)["page"] == "rgb(23, 25, 28)"
