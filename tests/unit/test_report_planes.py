"""Pictures of the report: what of an image is read for them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation
from pipeline.report import planes
from pipeline.report.planes import Plane
from pipeline.system.threads import threaded


def _plane(box: Box, step: int, across: int | None = None) -> Plane:
    turn = Orientation.none(box.ndim)
    return Plane(title="cut", box=box, step=step, turn=turn, across=across, extent=(1.0, 1.0), units="mm")


@pytest.mark.parametrize("shape", [(37, 53), (16, 16), (5, 90)])
@pytest.mark.parametrize("step", [1, 3, 7, 40])
def test_a_thinned_view_is_read_in_tiles(shape, step, monkeypatch):
    """Every `step`-th pixel of the view, whatever the tiles; none is larger than said, and none is kept."""
    monkeypatch.setattr(planes, "_TILE", 16)
    image = np.arange(2 * 60 * 100).reshape(2, 60, 100)
    box = Box((4, 6), (4 + shape[0], 6 + shape[1]))
    pulled = []

    def pull(part: Box) -> np.ndarray:
        pulled.append(part)
        return image[part.at()]

    plane = _plane(box, step).cut(pull)
    assert np.array_equal(plane, image[box.at()][:, ::step, ::step])
    assert max(max(part.shape) for part in pulled) <= max(16, step)
    # a view into what was read would keep all of it
    assert plane.base is None or plane.base.size == plane.size


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_of_a_volume(axis, monkeypatch):
    """A cut across any axis, thinned along the two others, the end of the axis on top."""
    monkeypatch.setattr(planes, "_TILE", 8)
    volume = np.random.default_rng(0).random((1, 20, 21, 22))
    start = tuple(9 if a == axis else 0 for a in range(3))
    stop = tuple(10 if a == axis else n for a, n in enumerate(volume.shape[1:]))
    cut = np.take(volume, 9, axis=axis + 1)
    shown = _plane(Box(start, stop), 3, axis).cut(lambda part: volume[part.at()])
    assert np.array_equal(shown, cut[:, ::3, ::3][:, ::-1])


def test_threads_read_the_same(monkeypatch):
    """Tiles that come in another order lie where they belong."""
    monkeypatch.setattr(planes, "_TILE", 16)
    image = np.random.default_rng(0).random((2, 60, 100))
    with threaded(3):
        cut = _plane(Box((0, 0), (60, 100)), 3).cut(lambda part: image[part.at()])
    assert np.array_equal(cut, image[:, ::3, ::3])
