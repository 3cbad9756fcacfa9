"""Files are written whole or not at all, and whole folders are removed in one place only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import IntegrityError
from pipeline.system.files import read_json, remove_made, replacing, unsealed, write_json, write_sealed

PACKAGE = Path(__file__).parents[2] / "pipeline"


def test_one_place_removes_whole_folders():
    """`remove_made` is it; whoever calls it names a path that no user puts anything into."""
    users = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "rmtree" in path.read_text()]
    assert users == ["system/files.py"]


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    """Nothing of the new one is left, under any name."""
    path = tmp_path / "facts.json"
    write_json(path, {"a": 1})

    def half() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert [p.name for p in tmp_path.iterdir()] == ["facts.json"]
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1', "\x00", "null"])
def test_our_own_json_may_be_damaged(tmp_path, content):
    """It says so instead of failing on what it expected there; no file is no damage."""
    path = tmp_path / "facts.json"
    assert read_json(path) is None
    path.write_text(content)
    with pytest.raises(IntegrityError, match=r"facts\.json"):
        read_json(path)


def test_a_seal_tells_what_was_changed(tmp_path):
    """One number changed, or the seal gone: damaged. Numbers that JSON does not have survive."""
    path = tmp_path / "facts.json"
    write_sealed(path, {"a": [1, 2.5], "b": float("inf")})
    facts = read_json(path)
    assert unsealed(path, facts) == {"a": [1, 2.5], "b": float("inf")}
    for wrong in (facts | {"a": [1, 2.6]}, {k: v for k, v in facts.items() if not k.startswith("sha256")}):
        with pytest.raises(IntegrityError, match="damaged"):
            unsealed(path, json.loads(json.dumps(wrong)))


def test_a_link_to_a_folder_is_removed_not_the_folder(tmp_path):
    """What it leads to belongs to somebody else."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(theirs)
    remove_made(link)
    assert not link.exists()
    assert (theirs / "file").read_text() == "x"
    remove_made(tmp_path / "nothing there")


def test_what_a_kill_left_of_removing_goes_with_the_next_try(tmp_path, monkeypatch):
    """Ended in the middle, the folder has its other name: removing it again leaves nothing behind."""
    folder = tmp_path / "blocks"
    folder.mkdir()
    (folder / "chunk").write_text("x")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.system.files.shutil.rmtree", _ended)
        with pytest.raises(KeyboardInterrupt):
            remove_made(folder)
    assert not folder.exists()
    remove_made(folder)
    assert list(tmp_path.iterdir()) == []


def _ended(*_: object) -> None:
    raise KeyboardInterrupt
