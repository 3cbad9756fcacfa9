"""For any dtype, shape, window and memory bound: what was read is what is written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import registry
from pipeline.formats._image import windows
from pipeline.geometry.box import Box
from tests.support_formats import DTYPES, layer_of, memory_image, options, same_bytes, whole

CASES = [(kind, space) for kind in registry.kinds("formats") for space in registry.load("formats", kind).SPACE_KINDS]


@pytest.mark.parametrize("case", CASES, ids="-".join)
@given(data=st.data())
def test_round_trip_of_any_image(case: tuple[str, str], data: st.DataObject) -> None:
    """Pixels survive bit for bit under any windows of the writer, and any window reads its part."""
    kind, space = case
    ndim = 2 if space == "raster" else 3
    shape = tuple(data.draw(st.lists(st.integers(1, 40 if ndim == 2 else 12), min_size=ndim, max_size=ndim)))
    dtype = data.draw(st.sampled_from(DTYPES))
    image = memory_image(shape, dtype, channels=data.draw(st.integers(1, 4)), seed=data.draw(st.integers(0, 99)))
    module = registry.load("formats", kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("image" + module.SUFFIXES[0])
        bound = data.draw(st.integers(1, 4000))
        module.write(layer_of(image), path, image, image.read, options(Path(folder), memory_bytes=bound))
        source = module.open_source([str(path)])
        assert same_bytes(source.read(whole(source)), image.values)
        start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
        stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
        assert same_bytes(source.read(Box(start, stop)), image.read(Box(start, stop)))
        never = source.never(Box(start, stop))
        assert np.array_equal(never | np.zeros_like(image.never(Box(start, stop))), image.never(Box(start, stop)))


@given(
    shape=st.lists(st.integers(1, 60), min_size=1, max_size=3).map(tuple),
    tile=st.integers(1, 20),
    memory=st.integers(1, 5000),
)
def test_windows_cover_once_within_the_bound(shape: tuple[int, ...], tile: int, memory: int) -> None:
    """The writer's windows tile the image, stay within half the bound, and never cut the format's own tile."""
    tiles = (tile,) * len(shape)
    count = np.zeros(shape, dtype=int)
    for box in windows(shape, tiles, 2, memory):
        count[box.slices] += 1
        assert box.size * 2 <= max(memory // 2, 2 * tile ** len(shape))
        assert all(a % tile == 0 for a in box.start)
    assert (count == 1).all()
