"""Estimates of patches that lie over several blocks: the block that makes one first leaves it for the others.

A file a block, `<index of the block>.npz`, with the hole pixels of each of its patches that reach into another block
with holes there. Nothing depends on the files: what is not there, late or damaged (zip files have checksums) is
computed again, to the same bytes.
"""

from __future__ import annotations

import os
import socket
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.image.window import Pixels
from pipeline.masks.base import FILL
from pipeline.plan.plan import Plan
from pipeline.restore.task import Estimate

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What NumPy raises on files that are gone, cut off or changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a block needs of the estimate of a window: float32 mean and sigma, uint8 origin, all `(c, *window)`."""

    mean: NDArray[np.float32]
    sigma: NDArray[np.float32]
    origin: NDArray[np.uint8]

    @classmethod
    def of(cls, estimate: Estimate) -> Said:
        """Return what counts of a whole estimate."""
        return cls(mean=estimate.mean, sigma=estimate.sigma, origin=estimate.origin)


class Seams:
    """What one block finds of its neighbours and leaves for them, see `shared`."""

    def __init__(self, plan: Plan, block: int, pixels: Pixels, files: ExitStack) -> None:
        """Find nothing yet; files are opened when a patch asks for them, and closed with `files`."""
        self._plan, self._pixels, self._files = plan, pixels, files
        self._own = plan.blocks[block].index
        self._folder = plan.work.seams / plan.digest[:16]
        self._found: dict[Path, Any] = {}
        self._left: dict[str, NDArray[Any]] = {}

    def take(self, index: tuple[int, ...], window: Box) -> Said | None:
        """Return what another block says of a patch, 0 outside of holes; None if none has said anything.

        Args:
            index: of the patch.
            window: what its estimate is made from.
        """
        name, hole = _name(index), self._holes(window)
        for other in self._others(index):
            with suppress(*_UNREADABLE):
                return _spread(self._file(self._path(other)), name, hole, len(self._plan.channels))
        return None

    def leave(self, index: tuple[int, ...], window: Box, said: Said) -> None:
        """Keep what was computed if another block needs it."""
        if self._others(index):
            name, hole = _name(index), self._holes(window)
            self._left |= {f"{name}.values": np.stack([said.mean[:, hole], said.sigma[:, hole]])}
            self._left |= {f"{name}.origin": said.origin[:, hole]}

    def save(self) -> None:
        """Write what is left for others, if there is room for it."""
        if not self._left:
            return
        path = self._path(self._own)
        # not forced to disk: a file that a crash has torn is as good as none
        partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as stream:
                    np.savez(stream, **self._left)  # type: ignore[arg-type]  # NumPy 2.0 and 2.1 know no allow_pickle
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def _others(self, index: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the other blocks that have holes under a patch."""
        found = []
        for part in self._plan.lattice.support(index).tiles(self._plan.block):
            block = tuple(a // n for a, n in zip(part.start, self._plan.block, strict=True))
            if block != self._own and self._holes(part).any():
                found.append(block)
        return found

    def _holes(self, box: Box) -> NDArray[np.bool_]:
        return np.asarray((self._pixels.states_of(box) == FILL).any(axis=0))

    def _path(self, block: tuple[int, ...]) -> Path:
        return self._folder / f"{_name(block)}.npz"

    def _file(self, path: Path) -> Any:
        if path not in self._found:
            self._found[path] = None
            # opened here: NumPy leaves files open that are no archive
            stream = self._files.enter_context(path.open("rb"))
            self._found[path] = self._files.enter_context(np.load(stream, allow_pickle=False))
        if self._found[path] is None:
            raise FileNotFoundError(path)
        return self._found[path]


@contextmanager
def shared(plan: Plan, block: int, pixels: Pixels) -> Iterator[Seams]:
    """Give what a block shares with others; what it has left for them is written at the end, unless that fails."""
    with ExitStack() as files:
        seams = Seams(plan, block, pixels, files)
        yield seams
        seams.save()


def _name(index: tuple[int, ...]) -> str:
    return "_".join(map(str, index))


def _spread(file: Any, name: str, hole: NDArray[np.bool_], channels: int) -> Said:
    """Return what a file says of a patch, put back to where its holes are.

    Raises:
        KeyError, ValueError: it says nothing of it, or of other holes.
    """
    planes = np.zeros((2, channels, *hole.shape), dtype=np.float32)
    origin = np.zeros((channels, *hole.shape), dtype=np.uint8)
    planes[:, :, hole], origin[:, hole] = file[f"{name}.values"], file[f"{name}.origin"]
    return Said(mean=planes[0], sigma=planes[1], origin=origin)
