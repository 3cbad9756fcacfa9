"""What tests of several faults begin with: a small scene, a server of objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import blobs, smooth, write_image

if TYPE_CHECKING:
    from tests.objects import Server

SHAPE = (40, 46)


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A small raster with its mask; returns folder, image and mask."""
    image = write_image(tmp_path / "image.tif", smooth((2, *SHAPE)))
    mask = write_image(tmp_path / "mask.tif", blobs(SHAPE, n=3, radius=4)[None])
    return tmp_path, image, mask


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of objects for all tests, which nobody asks often."""
    # importing the server takes seconds, which most tests do not need
    from pipeline.system import objects
    from tests.objects import serving

    with serving() as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "ATTEMPTS", 2)
        yield found
