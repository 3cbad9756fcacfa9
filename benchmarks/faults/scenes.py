"""What the attacks work on: one small run with other people's files around it, and how to tell that all is well."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import blobs, command, result_hash, run_config, smooth, write_image

SHAPE = (64, 72)
_FOREIGN = {"out/notes.txt": "a", "out/image/mine.txt": "b", "out/image/mine/deep.txt": "c", "other/image.txt": "d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """A config, what its run must give, and the files of the user that must stay."""

    config: Path
    expected: str
    """Hash of the pixels of all layers of a run that nobody disturbed."""
    foreign: dict[Path, str]
    """Hash of every file that is not ours."""

    @property
    def out(self) -> Path:
        """Output folder of the run."""
        return self.config.parent / "out"

    @property
    def results(self) -> Path:
        """Folder of the image's results."""
        return self.out / "image"

    def right(self) -> bool:
        """Say whether the results are those of the undisturbed run."""
        return result_hash(self.results) == self.expected

    def whole(self) -> bool:
        """Say whether what is visible is complete: a record with all that it lists, or nothing of ours."""
        if not (self.results / "record.json").exists():
            return not list(self.results.glob("image_*")) and not (self.results / "report.html").exists()
        record = json.loads((self.results / "record.json").read_text())
        return all((self.results / output["path"]).exists() for output in record["outputs"])

    def lost(self) -> int:
        """Count the user's files that are gone or changed."""
        return sum(1 for path, sha256 in self.foreign.items() if not path.exists() or _sha256(path) != sha256)


def attacked(folder: Path, *, older_result: bool, shape: tuple[int, int] = SHAPE) -> Attacked:
    """Make a scene, the hash of its results, and files of the user in and around the output folder.

    With `older_result` the folder holds the results of another config, which the attacked run replaces.
    """
    folder.mkdir(parents=True)
    image = write_image(folder / "image.tif", smooth((2, *shape)))
    mask = write_image(folder / "mask.tif", blobs(shape, n=shape[0] * shape[1] // 84, radius=2)[None])
    config = run_config(folder, image, mask, compute={"block": 8, "workers": 2})
    assert command("run", config, "--quiet").code == 0
    expected = result_hash(folder / "out" / "image")
    if older_result:
        assert command("run", config, "--quiet", "--overwrite", "--set", "seed=5").code == 0
    else:
        shutil.rmtree(folder / "out")
    foreign = {folder / name: text for name, text in _FOREIGN.items() if older_result or "out/image" not in name}
    for path, text in foreign.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    kept = {path: _sha256(path) for path in (image, mask, config, *foreign)}
    return Attacked(config=config, expected=expected, foreign=kept)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
