"""What every mask kind promises: states only, shape, and windows that agree with the whole."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry.box import Box
from pipeline.masks.base import MaskOptions, mask_options, open_masks
from pipeline.registry import kinds, load
from tests.fake_source import ArraySource, raster_space, volume_space

SHAPE = (37, 45)
CRS = rasterio.CRS.from_epsg(32633).to_wkt()


def _codes(kind: str, seed: int = 1) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    shape = ((SHAPE[0] + 1) // 2, (SHAPE[1] + 1) // 2)  # half resolution: 20 m under 10 m
    if kind == "qa_pixel":
        return rng.choice([1, 64, 64, 64, 8, 16, 2, 64], size=shape).astype(np.uint16)
    return rng.choice([0, 4, 4, 4, 4, 8, 3, 10], size=shape).astype(np.uint8)


def _write_codes(path: Path, codes: np.ndarray[Any, Any]) -> str:
    transform = rasterio.Affine(20, 0, 500000, 0, -20, 5100000)
    with rasterio.open(
        path, "w", driver="GTiff", width=codes.shape[1], height=codes.shape[0], count=1,
        dtype=codes.dtype, crs=CRS, transform=transform,
    ) as file:  # fmt: skip
        file.write(codes, 1)
    return str(path)


ENTRIES: dict[str, dict[str, Any]] = {
    "nodata": {"max_gap": "5 px"},
    "raster": {"path": "codes.tif", "values": [8, 3]},
    "scl": {"path": "codes.tif"},
    "qa_pixel": {"path": "codes.tif", "fill_gaps": "3 px"},
    "threshold": {"above": 900},
    "slices": {"slices": [3, 40], "axis": "i"},
}


@pytest.fixture(scope="module")
def image() -> ArraySource:
    """A two-band image with scattered nodata (0) and bright pixels."""
    rng = np.random.default_rng(0)
    values = rng.integers(1, 1000, (2, *SHAPE)).astype(np.uint16)
    values[rng.random(values.shape) < 0.3] = 0
    return ArraySource(values=values, space=raster_space(SHAPE, crs=CRS), no_value=0)


@pytest.fixture(scope="module")
def resolve(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Callable[[str], str]]:
    """Give each kind its own file of codes."""
    folder = tmp_path_factory.mktemp("codes")
    paths = {kind: _write_codes(folder / f"{kind}.tif", _codes(kind)) for kind in ENTRIES}
    return lambda kind: lambda _: paths[kind]


def test_every_kind_is_covered() -> None:
    """A new mask must join this contract."""
    assert set(ENTRIES) == set(kinds("masks"))


@pytest.mark.parametrize("kind", kinds("masks"))
class TestMaskContract:
    """Run for every module in pipeline/masks."""

    def test_options_are_named_and_frozen(self, kind: str) -> None:
        """`kind` is the module's name, unknown options are errors, options cannot be changed."""
        options = mask_options({"kind": kind, **ENTRIES[kind]})
        assert isinstance(options, MaskOptions)
        assert options.kind == kind
        with pytest.raises(ValueError, match="frozen"):
            options.buffer = "1 px"  # type: ignore[misc]
        with pytest.raises(ValueError, match="bufer"):
            mask_options({"kind": kind, **ENTRIES[kind], "bufer": "1 px"})

    def test_states_shape_and_pickle(self, kind: str, image: ArraySource, resolve: Any) -> None:
        """Only the three states, channels first, and a copy sent to a worker says the same."""
        options = mask_options({"kind": kind, **ENTRIES[kind]})
        mask = load("masks", kind).open_mask(options, image, resolve(kind))
        states = mask.read(Box.whole(SHAPE))
        assert states.dtype == np.uint8
        assert states.shape in ((1, *SHAPE), (2, *SHAPE))
        assert set(np.unique(states)) <= {0, 1, 2}
        assert 1 in states
        assert isinstance(mask.notices, tuple)
        again = pickle.loads(pickle.dumps(mask))
        assert np.array_equal(again.read(Box.whole(SHAPE)), states)

    def test_threads_agree(self, kind: str, image: ArraySource, resolve: Any) -> None:
        """Several readers at once get what one reader gets."""
        entry = mask_options({"kind": kind, **ENTRIES[kind], "buffer": "1 px"})
        mask = open_masks([entry], image, resolve(kind), "inside")
        boxes = list(Box.whole(SHAPE).tiles((9, 11)))
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(mask.read, boxes))
        assert all(np.array_equal(states, mask.read(box)) for states, box in zip(together, boxes, strict=True))

    @given(
        buffer=st.sampled_from(["0 px", "1 px", "2.5 px", "35 m"]),
        invert=st.booleans(),
        tile=st.tuples(st.integers(8, 40), st.integers(8, 50)),
    )
    def test_tiles_equal_whole(
        self, kind: str, buffer: str, invert: bool, image: ArraySource, resolve: Any, tile: tuple[int, int]
    ) -> None:
        """Reading tile by tile gives what reading at once gives, buffer and all."""
        entry = mask_options({"kind": kind, **ENTRIES[kind], "buffer": buffer, "invert": invert})
        mask = open_masks([entry], image, resolve(kind), "inside")
        whole = mask.read(Box.whole(SHAPE))
        for box in Box.whole(SHAPE).tiles(tile):
            assert np.array_equal(mask.read(box), whole[(slice(None), *box.slices)])


@given(tile=st.tuples(*(st.integers(3, 12),) * 3), buffer=st.sampled_from(["0 px", "2 px", "2 mm"]))
def test_volume_tiles_equal_whole(tmp_path_factory: pytest.TempPathFactory, tile: Any, buffer: str) -> None:
    """The same holds in three dimensions with anisotropic voxels and a NIfTI mask."""
    shape = (6, 12, 11)
    rng = np.random.default_rng(3)
    path = tmp_path_factory.getbasetemp() / "volume_mask.nii.gz"
    if not path.exists():
        data = (rng.random(shape[::-1]) < 0.03).astype(np.uint8)
        nibabel.Nifti1Image(data, np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(path)
    image = ArraySource(values=np.ones((1, *shape), np.int16), space=volume_space(shape, (3.0, 1.0, 1.0)))
    entry = mask_options({"kind": "raster", "path": str(path), "buffer": buffer})
    mask = open_masks([entry], image, lambda p: p)
    whole = mask.read(Box.whole(shape))
    for box in Box.whole(shape).tiles(tile):
        assert np.array_equal(mask.read(box), whole[(slice(None), *box.slices)])
