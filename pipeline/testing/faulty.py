"""A format whose images fail to read where they were told to: how an executor meets a block that goes wrong.

An image is a `.npy` file `(c, y, x)`; what shall fail stands in small files beside it, which every process sees. The
format is part of no installation: inside `installed` it is found like the part of a third party, in workers too.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from pipeline import registry
from pipeline.errors import SourceError
from pipeline.geometry.box import Box
from pipeline.testing.images import ArraySource, raster_space

KIND = "faulty"
SUFFIXES: tuple[str, ...] = ()
SPACE_KINDS = ("raster",)


class FaultySource(ArraySource):
    """An image that fails to read a window as often as was planted for exactly that window."""

    def read(self, box: Box, channels: slice = slice(None)) -> NDArray[Any]:
        """Return a copy of the window, `(c, *box.shape)`.

        Raises:
            SourceError: a fault is left for this window; it is used up.
        """
        left = faults(self.paths[0], box)
        if left < 0:
            signal.raise_signal(signal.SIGSEGV)
        if left:
            plant(self.paths[0], box, left - 1)
            raise SourceError(f"{self.paths[0]}: planted fault in {box}")
        return super().read(box, channels)


def sniff(path: str) -> bool:  # noqa: ARG001
    """Return False: no file is taken for one of these."""
    return False


def open_source(paths: Sequence[str], *, bands: object = None, nodata: float | None = None) -> FaultySource:  # noqa: ARG001
    """Open a `.npy` file."""
    values = np.load(paths[0])
    return FaultySource(values=values, space=raster_space(values.shape[1:]), kind=KIND, paths=tuple(paths))


def write(*_: object, **__: object) -> NoReturn:
    """Refuse: nothing is written in this format."""
    raise NotImplementedError("the faulty format cannot write")


def plant(path: str, box: Box, times: int) -> None:
    """Let the next `times` reads of exactly this window fail; below 0 each one ends its process."""
    _fault(path, box).write_text(str(times))


def faults(path: str, box: Box) -> int:
    """Return how many reads of exactly this window are still to fail."""
    fault = _fault(path, box)
    return int(fault.read_text()) if fault.exists() else 0


def _fault(path: str, box: Box) -> Path:
    return Path(f"{path}.{'-'.join(map(str, (*box.start, *box.stop)))}")


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Let this process and those that it starts find the format, through an entry point of a package in `folder`."""
    facts = folder / f"{KIND}-1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {KIND}\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[inpaint_pipeline.formats]\n{KIND} = {__name__}\n")
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    with mock.patch.dict(os.environ, PYTHONPATH=path), mock.patch.object(sys, "path", [str(folder), *sys.path]):
        registry._entry_points.cache_clear()
        try:
            yield
        finally:
            registry._entry_points.cache_clear()
