"""Cells of the whole image: what a block holds of them gives its windows what the files would."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.geometry.box import Box
from pipeline.image.beyond import Held, coarse_window


@pytest.mark.parametrize(("shape", "factor"), [((100, 81), 3), ((40, 33, 29), 2)])
def test_cells_in_memory_are_those_of_the_file(tmp_path, shape, factor):
    """The same bits in windows in the middle and at the ends, and what is held stays as it was read."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, *(-(-n // factor) for n in shape))).astype(np.float32)
    fields = zarr.create_array(tmp_path / "cells", data=values)
    for outer in (Box.whole(shape), Box((11,) * len(shape), (29,) * len(shape))):
        held = Held.of(fields, factor, outer)
        assert held.shape == fields.shape
        before = held.values.tobytes()
        for shrunk in (0, 5):
            inner = Box(tuple(n + shrunk for n in outer.start), tuple(n - shrunk for n in outer.stop))
            expected = coarse_window(fields, factor, inner)
            assert coarse_window(held, factor, inner).tobytes() == expected.tobytes()
        assert held.values.tobytes() == before
    assert held.values.size < values.size / 2
