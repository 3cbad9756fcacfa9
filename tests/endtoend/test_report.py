"""report.html as its readers get it: one file, all pictures there, and controls that work in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.report import build
from tests.helpers import blobs, command, run_config, smooth, write_image

_LETTERS = re.compile(r'<span class="(left|right|top|bottom)">([LRAPSI]\??)</span>')


class _Images(HTMLParser):
    """Collects the attributes of all images, links and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
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


def test_large_pages_get_coarser_pictures(raster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best quality that keeps the page below its limit is taken, and the worst if none does."""
    sizes = {88: 900, 70: 500, 45: 100, 20: 50}
    monkeypatch.setattr(build, "_page", lambda *facts: "x" * sizes[facts[-1]])
    plan = load_plan(WorkFolder.of(raster))
    for limit, written in ((1000, 900), (400, 100), (10, 50)):
        monkeypatch.setattr(build, "_MAX_BYTES", limit)
        assert build.write_report(plan, {}, tmp_path).stat().st_size == written


def test_what_it_was_made_of(raster: Path) -> None:
    """Reference and auxiliary are shown with their share, their mask and where they lead; shares are the record's."""
    page = _page(raster)
    record = json.loads((raster / "record.json").read_text())
    made = page[page.index("What it was made of") : page.index("The largest hole")]
    assert "Reference 0: earlier" in made
    assert "Auxiliary 1: radar" in made
    assert "masked or without data, in yellow" in made
    assert made.count("<b>Where it leads.</b>") == 2
    by_source = record["holes"]["by_source"]
    for share in (by_source.get("reference 0", 0), by_source.get("classical", 0)):
        assert f"{100 * share / sum(by_source.values()):.1f} %" in made


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
  const slider = pair.querySelector("input"), button = pair.querySelector("button");
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
            [browser, *arguments, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True
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
    assert found["focus"] == [True, True]
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
