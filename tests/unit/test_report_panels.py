"""Pictures of the report: what of an image is read for them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.box import Box
from pipeline.report import panels
from pipeline.report.panels import View


@pytest.mark.parametrize("shape", [(37, 53), (16, 16), (5, 90)])
@pytest.mark.parametrize("step", [1, 3, 7, 40])
def test_a_thinned_view_is_read_in_tiles(shape, step, monkeypatch):
    """Every `step`-th pixel of the view, whatever the tiles; none is larger than said, and none is kept."""
    monkeypatch.setattr(panels, "_TILE", 16)
    image = np.arange(2 * 60 * 100).reshape(2, 60, 100)
    box = Box((4, 6), (4 + shape[0], 6 + shape[1]))
    pulled = []

    def pull(part: Box) -> np.ndarray:
        pulled.append(part)
        return image[part.at()]

    plane = panels._plane(pull, View(name="whole", box=box, step=step))
    assert np.array_equal(plane, image[box.at()][:, ::step, ::step])
    assert max(max(part.shape) for part in pulled) <= max(16, step)
    # a view into what was read would keep all of it
    assert plane.base is None or plane.base.size == plane.size


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_of_a_volume(axis, monkeypatch):
    """A cut across any axis, thinned along the two others."""
    monkeypatch.setattr(panels, "_TILE", 8)
    volume = np.random.default_rng(0).random((1, 20, 21, 22))
    start = tuple(9 if a == axis else 0 for a in range(3))
    stop = tuple(10 if a == axis else n for a, n in enumerate(volume.shape[1:]))
    view = View(name="cut", box=Box(start, stop), step=3, across=axis)
    cut = np.take(volume, 9, axis=axis + 1)
    assert np.array_equal(panels._plane(lambda part: volume[part.at()], view), cut[:, ::3, ::3])
