"""Publishing: flushed to disk before the name appears, so that a crash leaves the old file or the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, SourceError
from pipeline.formats import open_any
from pipeline.formats._files import how_it_starts, suffix_matches
from pipeline.system.files import publish
from tests.helpers import smooth, write_image


def test_bytes_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is: flush the file, rename it, flush the folder that holds the name."""
    made, final = tmp_path / "made", tmp_path / "final"
    made.write_text("new")
    events: list[tuple[bool, bool]] = []
    flush = os.fsync

    def record(descriptor: int) -> None:
        events.append((Path(f"/proc/self/fd/{descriptor}").resolve().is_dir(), final.exists()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    publish(made, final)
    assert events == [(False, False), (True, True)]
    assert final.read_text() == "new"


@pytest.mark.parametrize("exchange", [True, False])
def test_folder_replaces_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    """In one step or in two: nothing of the old store is left inside the new one, nor lost."""
    if not exchange:
        monkeypatch.setattr("pipeline.system.files._exchanged", lambda *_: False)
    for name, content in (("made", "new"), ("final", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / content).write_text(content)
    publish(tmp_path / "made", tmp_path / "final")
    assert [p.name for p in (tmp_path / "final").iterdir()] == ["new"]
    (old,) = (path for path in tmp_path.iterdir() if path.name != "final")
    assert [p.name for p in old.iterdir()] == ["old"]


def test_a_folder_takes_no_file_s_place(tmp_path: Path) -> None:
    """Neither is moved."""
    (tmp_path / "made").mkdir()
    (tmp_path / "final").write_text("old")
    with pytest.raises(NotADirectoryError):
        publish(tmp_path / "made", tmp_path / "final")
    assert (tmp_path / "final").read_text() == "old"
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a.TIF", True), ("https://x/a.tif?sig=1.nii", True), ("a.tif.txt", False), ("tif", False)],
)
def test_suffix_of_names_and_urls(path: str, expected: bool) -> None:
    """Upper case and a URL's query do not hide a suffix."""
    assert suffix_matches(path, (".tif",)) is expected


def test_a_name_that_is_no_text_is_said(tmp_path: Path) -> None:
    """Readers take UTF-8 only; the advice is to rename, not to look for damage."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.tif")
    Path(path).touch()
    with pytest.raises(SourceError, match="rename the file"):
        open_any(path)


@pytest.mark.parametrize("name", ["image.tif", "image.zarr"])
def test_a_band_is_taken_once(tmp_path: Path, name: str) -> None:
    """By number and by name it is still one band: what stands twice is said."""
    image = write_image(tmp_path / name, smooth((2, 12, 14)))
    first = open_any(str(image)).channel_names[0]
    assert open_any(str(image), bands=[2, first]).n_channels == 2
    with pytest.raises(ConfigError, match=f"1, {first} name one band"):
        open_any(str(image), bands=[1, 2, first])


def test_a_file_on_a_failing_disk_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first bytes were said to be none."""
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0")
    assert how_it_starts(str(path)) == r"it starts with b'II*\x00'"

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", failing)
    assert how_it_starts(str(path)) == "it cannot be read: Input/output error"
