"""What is remembered of the inputs: every file that decides about a pixel, and of an address what its server says."""

from __future__ import annotations

import http.server
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rasterio
import rasterio.shutil

from pipeline.formats import files_of
from pipeline.system import facts
from pipeline.system.facts import content_of, input_facts, inputs_hashed_once
from tests.helpers import blobs, order_of, run_config, smooth, write_image
from tests.support_formats import random_values, write_tiff
from tests.web import Silent, answering


def _image(folder: Path) -> Path:
    return write_tiff(folder / "a.tif", random_values((1, 9, 9), "uint8"), crs=None, transform=None)


def _facts(path: Path | str) -> dict[str, Any]:
    (fact,) = input_facts([str(path)], files_of)
    return fact


def _mask(path: Path) -> Path:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(random_values((9, 9), "uint8") | 1)
    return Path(f"{path}.msk")


def _world(path: Path) -> Path:
    path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n500000\n5000000\n")
    return path.with_suffix(".tfw")


def _metadata(path: Path) -> Path:
    Path(f"{path}.aux.xml").write_text('<PAMDataset><Metadata><MDI key="A">1</MDI></Metadata></PAMDataset>')
    return Path(f"{path}.aux.xml")


def _overviews(path: Path) -> Path:
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    return Path(f"{path}.ovr")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("make", [_mask, _world, _metadata, _overviews])
def test_what_lies_beside_an_image_belongs_to_it(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """It is listed with size and hash; when it comes, changes or goes, so does what stands for the content."""
    path = _image(tmp_path)
    alone = _facts(path)
    assert set(alone) == {"path", "bytes", "sha256"}
    assert content_of(alone) == alone["sha256"]
    beside = make(path)
    fact = _facts(path)
    (entry,) = fact["files"]
    assert (entry["path"], entry["bytes"]) == (str(beside), beside.stat().st_size)
    before = content_of(fact)
    assert before != content_of(alone)
    raw = bytearray(beside.read_bytes())
    raw[-3] ^= 1
    beside.write_bytes(bytes(raw))
    assert content_of(_facts(path)) != before
    beside.unlink()
    assert "files" not in _facts(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_a_vrt_reads_belongs_to_it_with_all_that_lies_beside(tmp_path: Path) -> None:
    """The image, and the world file of the image."""
    path = _image(tmp_path)
    world = _world(path)
    with rasterio.open(path) as dataset:
        rasterio.shutil.copy(dataset, tmp_path / "in.vrt", driver="VRT")
    fact = _facts(tmp_path / "in.vrt")
    assert [file["path"] for file in fact["files"]] == [str(world), str(path)]
    before = content_of(fact)
    world.write_text(world.read_text().replace("500000", "500010"))
    assert content_of(_facts(tmp_path / "in.vrt")) != before


def test_nothing_belongs_to_volumes_stores_and_what_cannot_be_read(tmp_path: Path) -> None:
    """One file, one folder, none."""
    for name in ("v.nii", "v.nii.gz", "v.zarr"):
        shape = (1, 6, 6) if name.endswith("zarr") else (1, 6, 6, 6)
        assert files_of(str(write_image(tmp_path / name, smooth(shape)))) == ()
    (tmp_path / "text.tif").write_text("no image")
    assert files_of(str(tmp_path / "text.tif")) == ()
    assert files_of(str(tmp_path / "absent.tif")) == ()


def test_an_order_is_another_when_a_file_beside_its_image_or_mask_changes(tmp_path: Path) -> None:
    """A run that is continued, and one that is done, find out; the record lists the file."""
    image = write_image(tmp_path / "in.tif", smooth((1, 40, 40)))
    hole = write_image(tmp_path / "hole.tif", blobs((40, 40))[None])
    config = run_config(tmp_path, image, hole)
    requests = [order_of(config).request]
    for path in (image, hole):
        beside = _metadata(path)
        requests.append(order_of(config).request)
        beside.write_text(beside.read_text().replace(">1<", ">2<"))
        requests.append(order_of(config).request)
    assert len(set(requests)) == 5
    order = order_of(config)
    assert [file["path"] for file in order.inputs[0]["files"]] == [f"{image}.aux.xml"]
    assert [file["path"] for file in order.masks[0]["files"][0]["files"]] == [f"{hole}.aux.xml"]


# --- addresses -----------------------------------------------------------------------------------------------


class _Server(Silent, http.server.BaseHTTPRequestHandler):
    """Answers with the headers of the moment."""

    head: dict[str, str]
    refuses: set[str]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.command in self.refuses:
            self.send_error(403)
            return
        self.send_response(200)
        for name, value in self.head.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, str], set[str]]]:
    """An address on this machine, the headers that are answered, and the methods that are refused."""
    head: dict[str, str] = {}
    refuses: set[str] = set()
    with answering(type("Handler", (_Server,), {"head": head, "refuses": refuses})) as address:
        yield f"http://{address}/a.tif", head, refuses


def _remote(url: str) -> dict[str, Any]:
    (fact,) = input_facts([url])
    return fact


@pytest.mark.parametrize("name", ["ETag", "Last-Modified", "Content-Length"])
def test_an_address_is_known_by_what_its_server_says(name: str, server: tuple[str, dict[str, str], set[str]]) -> None:
    """Another tag, time or size is another content."""
    url, head, _ = server
    head |= {"ETag": '"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Content-Length": "100"}
    before = _remote(url)
    assert before == {
        "path": url,
        "bytes": 100,
        "sha256": None,
        "etag": '"1"',
        "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT",
    }
    assert content_of(_remote(url)) == content_of(before)
    head[name] = {"Content-Length": "101"}.get(name, "other")
    assert content_of(_remote(url)) != content_of(before)


def test_an_address_signed_for_reading_alone_is_asked_for_its_first_byte(
    server: tuple[str, dict[str, str], set[str]],
) -> None:
    """The server refuses HEAD; the size of the whole stands beside the byte."""
    url, head, refuses = server
    refuses.add("HEAD")
    head |= {"Content-Range": "bytes 0-0/4096", "Content-Length": "0", "ETag": '"x"'}
    assert _remote(url) == {"path": url, "bytes": 4096, "sha256": None, "etag": '"x"'}


def test_a_server_that_says_nothing_stops_nobody(server: tuple[str, dict[str, str], set[str]]) -> None:
    """No header, a refusal, no server, another scheme: the address alone is known."""
    url, _, refuses = server
    nothing = {"bytes": None, "sha256": None}
    assert _remote(url) == {"path": url, **nothing}
    refuses |= {"HEAD", "GET"}
    assert _remote(url) == {"path": url, **nothing}
    for other in ("http://127.0.0.1:1/a.tif", "s3://bucket/a.tif", "http://user:word@[/a.tif", "/vsis3/bucket/a.tif"):
        assert _remote(other) == {"path": other, **nothing}
        assert content_of(_remote(other)) is None


def test_an_etag_counts_without_a_size() -> None:
    """Servers that send in pieces name no size."""
    fact = {"path": "http://x", "bytes": None, "sha256": None}
    assert content_of({**fact, "etag": "a"}) != content_of({**fact, "etag": "b"})


def test_an_input_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a run, by whatever name, unless somebody touches it; afterwards anew."""
    path, name = _image(tmp_path), tmp_path / "linked.tif"
    name.symlink_to(path)
    hashed: list[Path] = []
    whole = facts._sha256
    monkeypatch.setattr(facts, "_sha256", lambda one: hashed.append(one) or whole(one))
    with inputs_hashed_once():
        first = [_facts(one)["sha256"] for one in (path, path, name)]
        assert (len(hashed), len(set(first))) == (1, 1)
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        assert _facts(path)["sha256"] == whole(path)
        assert len(hashed) == 2
    assert _facts(path) == _facts(path)
    assert len(hashed) == 4
