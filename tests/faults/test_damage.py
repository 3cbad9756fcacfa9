"""A work folder is not believed: what is flipped, cut off or gone is computed again or refused, never published."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from tests.helpers import blobs, command, result_hash, run_config, smooth, write_image

SHAPE = (40, 46)


class Ended(BaseException):
    """Stands for a kill: nothing in the program takes it up."""


def _ended(*_: object, **__: object) -> None:
    raise Ended


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A config, the output folder of a run that was ended before it assembled, and the hash of a run that was not."""
    folder = tmp_path_factory.mktemp("run")
    image = write_image(folder / "image.tif", smooth((2, *SHAPE)))
    mask = write_image(folder / "mask.tif", blobs(SHAPE, n=4, radius=4)[None])
    config = run_config(folder, image, mask, compute={"block": 16})
    assert command("run", config).code == 0
    expected = result_hash(folder / "out" / "image")
    shutil.rmtree(folder / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.run.assemble", _ended)
        with pytest.raises(Ended):
            command("run", config)
    shutil.copytree(folder / "out", folder / "kept")
    return config, expected


def _flipped(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content)) if content else 0])


def _gone(path: Path, _: random.Random) -> None:
    path.unlink()


def _files(work: Path) -> list[Path]:
    """Return one file of each kind in a work folder: of many chunks and journals the first two."""
    found: dict[str, list[Path]] = {}
    for path in sorted(work.rglob("*")):
        if path.is_file():
            kind = "/".join("*" if part.isdigit() else part for part in path.relative_to(work).parts)
            found.setdefault(kind, []).append(path)
    return [path for paths in found.values() for path in paths[:2]]


@pytest.mark.slow
@pytest.mark.parametrize("harm", [_flipped, _cut, _gone])
def test_a_damaged_work_folder(interrupted, harm):
    """Every kind of file in it: a notice and the same bytes with exit 0, or a message that says what to do."""
    config, expected = interrupted
    out, draw = config.parent / "out", random.Random(3)
    names = [path.relative_to(config.parent / "kept") for path in _files(config.parent / "kept" / ".work" / "image")]
    assert len(names) > 12
    for name in names:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(config.parent / "kept", out)
        harm(out / name, draw)
        outcome = command("run", config)
        assert "Traceback" not in outcome.err, name
        if name.name == "request":
            # whose folder it is cannot be told any more
            assert outcome.code == 6
            assert "--overwrite" in outcome.err
            outcome = command("run", config, "--overwrite")
        elif "journal" in name.parts:
            assert "5 blocks to restore, 5 of them done before" not in outcome.err
        else:
            assert "image: note: " in outcome.err, name
        assert outcome.code == 0, f"{name}: {outcome.err}"
        assert result_hash(out / "image") == expected, name


def test_blocks_that_do_not_match_are_computed_again(interrupted):
    """Only those: the notice says how many, and the other blocks are not touched."""
    config, expected = interrupted
    out = config.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(config.parent / "kept", out)
    chunks = sorted((out / ".work" / "image" / "blocks.zarr" / "restored" / "c").rglob("*"))
    victims = [path for path in chunks if path.is_file()][:2]
    for path in victims:
        path.unlink()
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert "2 finished blocks were damaged" in outcome.err
    assert result_hash(out / "image") == expected
    lines = [
        json.loads(line)["block"]
        for path in (out / "image" / ".work" / "journal").glob("*.jsonl")
        for line in path.read_text().splitlines()
        if line
    ]
    assert len(lines) == len(set(lines)) + 2
