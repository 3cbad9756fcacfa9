"""The page of all images of a batch, and what an image leaves that failed."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import run
from pipeline.errors import IntegrityError
from pipeline.report.group import Row, rows_of, write_group
from tests.helpers import Outcome, blobs, command, run_config, smooth, write_image

SHAPE = (48, 50)


def _batch(folder: Path, source: str = "*_scene.tif", **sections: Any) -> Path:
    mask = [{"kind": "raster", "path": "{stem}_mask.tif"}]
    return run_config(folder, source, None, mask=mask, **sections)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder of two restored images, of which one is noise, and one that cannot be read; what the run said."""
    folder = tmp_path_factory.mktemp("batch")
    write_image(folder / "a_scene.tif", smooth((1, *SHAPE)))
    noise = np.random.default_rng(0).integers(0, 1000, (1, *SHAPE)).astype(np.uint16)
    write_image(folder / "b_scene.tif", noise)
    (folder / "c_scene.tif").write_bytes(b"a<b & c")
    for name in "abc":
        write_image(folder / f"{name}_scene_mask.tif", blobs(SHAPE, n=3, radius=6)[None])
    return folder, command("run", _batch(folder))


def _page(folder: Path) -> str:
    return (folder / "out" / "index.html").read_text(encoding="utf-8")


def _stems(page: str) -> list[str]:
    cells = re.findall(r'<th scope="row">(.*?)<br>', page)
    return [re.sub("<.*?>", "", cell) for cell in cells]


def test_what_needs_an_eye_comes_first(batch: tuple[Path, Outcome]) -> None:
    """The failed image with its message, then the one whose error is as large as its variation, then the good one."""
    folder, outcome = batch
    assert outcome.code == 5
    page = _page(folder)
    assert _stems(page) == ["c_scene", "b_scene", "a_scene"]
    levels = re.findall(r'<br><span class="badge (\w+)">', page)
    assert levels[:2] == ["failed", "poor"]
    assert levels[2] in ("look", "sound")
    assert html.escape("c_scene.tif: not a readable GeoTIFF") in page
    assert "a&lt;b &amp; c" in page
    for link in re.findall(r'href="([^"]*)"', page):
        assert (folder / "out" / link).is_file()
    pictures = re.findall(r'src="([^"]*)"', page)
    assert len(pictures) == 2
    assert all(source.startswith("data:image/webp") for source in pictures)
    with Image.open(folder / "out" / "a_scene" / "thumbnail.webp") as small:
        assert small.size == (258, 123)


def test_what_failed_leaves_a_record(batch: tuple[Path, Outcome]) -> None:
    """What was asked, with which versions, how far it came, what went wrong; no folder of anybody."""
    folder, _ = batch
    path = folder / "out" / "c_scene.failure.json"
    facts = json.loads(path.read_text())
    assert (facts["stem"], facts["stage"], facts["exit_code"], facts["state"]) == ("c_scene", "opening", 4, "failed")
    assert "not a readable GeoTIFF" in facts["error"]
    assert facts["config"]["model"]["kind"] == "tension"
    assert facts["software"]["inpaint-pipeline"]
    assert str(folder) not in path.read_text()
    assert sorted(p.name for p in (folder / "out").glob("*.failure.json")) == [path.name]
    said = command("status", folder / "out").out
    assert re.search(r"c_scene +failed +- +\S*c_scene\.tif: not a readable GeoTIFF", said)
    assert "2 of 3 images done; 1 failed" in said.splitlines()[-1]


def test_one_image_again_brings_the_page_up_to_date(batch: tuple[Path, Outcome]) -> None:
    """The mended image alone is run: its record of failure goes, its line changes, the others stay."""
    folder, _ = batch
    write_image(folder / "c_scene.tif", smooth((1, *SHAPE), seed=4))
    outcome = command("run", _batch(folder, "c_scene.tif"))
    assert outcome.code == 0, outcome.err
    assert not (folder / "out" / "c_scene.failure.json").exists()
    page = _page(folder)
    assert _stems(page)[0] == "b_scene"
    assert sorted(_stems(page)) == ["a_scene", "b_scene", "c_scene"]
    assert 'class="badge failed"' not in page
    (folder / "out" / "index.html").unlink()
    assert str(folder / "out" / "index.html") in command("report", folder / "out").out
    assert _stems(_page(folder)) == _stems(page)


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails after its plan says so beside the result of an earlier run, which stays as it is."""
    write_image(tmp_path / "x_scene.tif", smooth((1, *SHAPE)))
    write_image(tmp_path / "x_scene_mask.tif", blobs(SHAPE, n=1)[None])
    config = _batch(tmp_path, "x_scene.tif", model={"kind": "constant"})
    assert command("run", config).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "x_scene").iterdir() if path.is_file()}

    def broken(*_: Any) -> None:
        raise IntegrityError("a pixel is not what it was")

    with monkeypatch.context() as patched:
        patched.setattr(run, "quick_check", broken)
        assert command("run", config, "--set", "seed=3", "--overwrite").code == 1
    facts = json.loads((tmp_path / "out" / "x_scene.failure.json").read_text())
    assert (facts["stage"], facts["blocks"], facts["blocks_done"]) == ("files", 1, 1)
    assert facts["config"]["seed"] == 3
    assert {path: path.read_bytes() for path in before} == before
    assert re.search(r"x_scene +failed +1 of 1 +a pixel is not", command("status", tmp_path / "out").out)
    # refused is not tried: nothing new is said of the image
    assert command("run", config, "--set", "seed=4").code == 6
    assert json.loads((tmp_path / "out" / "x_scene.failure.json").read_text()) == facts
    assert command("run", config, "--set", "seed=3", "--overwrite").code == 0
    assert not (tmp_path / "out" / "x_scene.failure.json").exists()


def test_a_page_of_somebody_else_stays(tmp_path: Path) -> None:
    """An index.html that this program did not write is left alone, and that is said."""
    for name in "xy":
        write_image(tmp_path / f"{name}_scene.tif", smooth((1, *SHAPE)))
        write_image(tmp_path / f"{name}_scene_mask.tif", blobs(SHAPE, n=1)[None])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("my own page")
    outcome = command("run", _batch(tmp_path, model={"kind": "constant"}))
    assert outcome.code == 0, outcome.err
    assert _page(tmp_path) == "my own page"
    assert "index.html was not written by this program" in outcome.err


def test_a_thousand_images_are_one_small_page(tmp_path: Path) -> None:
    """Below 5 MB, every image with its picture, even if all are noise."""
    noise = np.random.default_rng(1).integers(0, 255, (128, 258, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "thumbnail.webp", quality=60)
    rows = [
        Row(
            stem=f"image {k}",
            level="sound",
            state="sound",
            said=("a verdict of some length, " * 8,),
            thumbnail=tmp_path / "thumbnail.webp",
            order=(3, float(k)),
        )
        for k in range(1000)
    ]
    path = write_group(tmp_path, rows_of(rows, []))
    page = path.read_text(encoding="utf-8")
    assert len(page.encode()) < 5_000_000
    assert page.count("data:image/webp") == 1000
    assert _stems(page) == [row.stem for row in rows]
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []
