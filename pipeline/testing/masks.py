"""The contract of masks, see `pipeline.masks.base`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.geometry.box import Box
from pipeline.masks.base import FILL, KEEP, NEVER, ComposedMask, Mask, MaskOptions, mask_options, open_masks
from pipeline.registry import load
from pipeline.testing.guards import refused
from pipeline.testing.images import UTM33, ArraySource, raster_space

_SHAPE = (37, 45)
_BUFFERS = ("0 px", "2.5 px", "35 m")
_TILES = ((8, 11), (13, 50), (40, 9))


def assert_tiles_equal_whole(mask: Mask, shape: tuple[int, ...], tile: tuple[int, ...]) -> None:
    """Fail unless a mask of an image of this shape says in tiles what it says at once."""
    whole = mask.read(Box.whole(shape))
    for box in Box.whole(shape).tiles(tile):
        assert np.array_equal(mask.read(box), whole[(slice(None), *box.slices)]), (tile, box)


class MaskContract:
    """A mask knows three states, gives in windows what it gives at once, and travels to workers.

    ::

        class TestShadow(MaskContract):
            kind = "shadow"
            def options(self, folder):
                return {"darker_than": 200}
    """

    kind: str
    """The mask, as the config names it."""

    def options(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002
        """Return the options of an entry that marks some pixels of `image`; files go into `folder`, named from there.

        A file of codes may cover the image in pixels of twice the size, which makes it worth testing.
        """
        return {}

    def image(self) -> ArraySource:
        """Return the image: two bands of 37 x 45 pixels, uint16 below 1000, nodata 0 here and there; UTM zone 33."""
        rng = np.random.default_rng(0)
        values = rng.integers(1, 1000, (2, *_SHAPE)).astype(np.uint16)
        values[rng.random(values.shape) < 0.3] = 0
        return ArraySource(values=values, space=raster_space(_SHAPE, crs=UTM33), no_value=0)

    def entry(self, folder: Path, **more: Any) -> MaskOptions:
        """Return the checked options."""
        return mask_options({"kind": self.kind, **self.options(folder), **more})

    def composed(self, folder: Path, **more: Any) -> ComposedMask:
        """Open the mask as a run does: buffer and inversion applied, nodata inside holes restored."""
        return open_masks([self.entry(folder, **more)], self.image(), _inside(folder), "inside")

    def test_options_are_named_and_frozen(self, tmp_path: Path) -> None:
        """`kind` is the module's name, unknown options are errors, options cannot be changed."""
        entry = self.entry(tmp_path)
        assert isinstance(entry, MaskOptions)
        assert entry.kind == self.kind
        with refused(ValueError, "frozen"):
            entry.buffer = "1 px"
        with refused(ValueError, "bufer"):
            self.entry(tmp_path, bufer="1 px")

    def test_states_shape_and_pickle(self, tmp_path: Path) -> None:
        """Only the three states, channels first, some holes, and a copy sent to a worker says the same."""
        image = self.image()
        mask = load("masks", self.kind).open_mask(self.entry(tmp_path), image, _inside(tmp_path))
        box = Box.whole(image.space.shape)
        states = mask.read(box)
        assert states.dtype == np.uint8
        assert states.shape in ((1, *box.shape), (image.n_channels, *box.shape))
        assert set(np.unique(states)) <= {KEEP, FILL, NEVER}
        assert FILL in states
        assert isinstance(mask.notices, tuple)
        assert np.array_equal(pickle.loads(pickle.dumps(mask)).read(box), states)

    def test_threads_agree(self, tmp_path: Path) -> None:
        """Several readers at once get what one reader gets."""
        mask = self.composed(tmp_path, buffer="1 px")
        boxes = list(Box.whole(self.image().space.shape).tiles((9, 11)))
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(mask.read, boxes))
        assert all(np.array_equal(states, mask.read(box)) for states, box in zip(together, boxes, strict=True))

    def test_tiles_equal_whole(self, tmp_path: Path) -> None:
        """Reading tile by tile gives what reading at once gives, buffer, inversion and all."""
        for buffer, invert, tile in product(_BUFFERS, (False, True), _TILES):
            mask = self.composed(tmp_path, buffer=buffer, invert=invert)
            assert_tiles_equal_whole(mask, self.image().space.shape, tile)


def _inside(folder: Path) -> Callable[[str], str]:
    return lambda path: str(folder / path)
