"""The work folder of one image: the name of everything that lies in it, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Where the run of one image works, and what `verify` reads afterwards.

    It is `.work` in the folder of the results or, with `compute.scratch`, in a folder of its own.
    """

    path: Path

    NAME: ClassVar[str] = ".work"

    @classmethod
    def of(cls, folder: Path) -> WorkFolder:
        """Return the work folder inside the folder of an image."""
        return cls(folder / cls.NAME)

    @property
    def lock(self) -> Path:
        """Held by the run that works here."""
        return self.path / "lock"

    @property
    def request(self) -> Path:
        """Hash of config and input bytes that the folder belongs to."""
        return self.path / "request"

    @property
    def plan(self) -> Path:
        """The plan, JSON."""
        return self.path / "plan.json"

    @property
    def survey(self) -> Path:
        """What the record needs of the survey beside the plan, JSON."""
        return self.path / "survey.json"

    @property
    def staged(self) -> Path:
        """Copies of inputs that are cheap to read (compressed volumes, inflated)."""
        return self.path / "staged"

    @property
    def state(self) -> Path:
        """Zarr array uint8 `(n_state, *spatial)`: KEEP, FILL or NEVER for each pixel."""
        return self.path / "state.zarr"

    @property
    def coarse(self) -> Path:
        """The coarse fill of the whole image, float32 `(c, *cells)`, centred values."""
        return self.path / "guess.npy"

    @property
    def blocks(self) -> Path:
        """Zarr arrays with the finished blocks of each layer."""
        return self.path / "blocks.zarr"

    @property
    def journal(self) -> Path:
        """Folder of the lines that make blocks count as done."""
        return self.path / "journal"

    @property
    def ready(self) -> Path:
        """Finished files before they get their final names."""
        return self.path / "ready"

    def layer(self, name: str) -> Path:
        """Return the array of one layer of the finished blocks."""
        return self.blocks / name


def partial(path: Path) -> Path:
    """Return the name of a file or folder that is not complete yet, or not any more."""
    return path.with_name(path.name + ".partial")
