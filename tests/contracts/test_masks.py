"""Every mask keeps the contract of `pipeline.masks.base`: states only, and windows that agree with the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from pipeline.masks.base import mask_options, open_masks
from pipeline.registry import kinds
from pipeline.testing import ArraySource, MaskContract, volume_space
from pipeline.testing.images import UTM33
from pipeline.testing.masks import assert_tiles_equal_whole
from tests.support_clouds import stand_in

SHAPE = (37, 45)

ENTRIES: dict[str, dict[str, Any]] = {
    "nodata": {"max_gap": "5 px"},
    "raster": {"path": "codes.tif", "values": [8, 3]},
    "scl": {"path": "codes.tif"},
    "l1c": {"path": "codes.tif", "classes": ["opaque"]},
    "qa_pixel": {"path": "codes.tif", "fill_gaps": "3 px"},
    "threshold": {"above": 900},
    "slices": {"slices": [3, 40], "axis": "i"},
    "vector": {"path": "holes.geojson"},
    "omnicloudmask": {"red": 1, "green": 2, "nir": 1},
}


def _write_codes(path: Path, kind: str) -> None:
    """Write codes at half the resolution of the image: 20 m under 10 m."""
    rng = np.random.default_rng(1)
    shape = ((SHAPE[0] + 1) // 2, (SHAPE[1] + 1) // 2)
    if kind == "qa_pixel":
        codes = rng.choice([1, 64, 64, 64, 8, 16, 2, 64], size=shape).astype(np.uint16)
    else:
        codes = rng.choice([0, 4, 4, 4, 4, 8, 3, 10], size=shape).astype(np.uint8)
    transform = rasterio.Affine(20, 0, 500000, 0, -20, 5100000)
    with rasterio.open(
        path, "w", driver="GTiff", width=codes.shape[1], height=codes.shape[0], count=1,
        dtype=codes.dtype, crs=UTM33, transform=transform,
    ) as file:  # fmt: skip
        file.write(codes, 1)


def _write_shapes(path: Path) -> None:
    """Write triangles with corners anywhere and on pixel centres, in the image's own reference system."""
    rng = np.random.default_rng(2)
    places = 500000 + 450 * rng.random((12, 3, 1)), 5100000 - 370 * rng.random((12, 3, 1))
    shapes = np.concatenate(places, axis=-1)
    shapes[::2] = np.round(shapes[::2] / 10) * 10 + 5
    polygons = [[[*triangle.tolist(), triangle[0].tolist()]] for triangle in shapes]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(
        json.dumps({"type": "Feature", "crs": crs, "geometry": {"type": "MultiPolygon", "coordinates": polygons}})
    )


class OurMask(MaskContract):
    """The contract for one of the masks of the package."""

    def options(self, folder: Path) -> dict[str, Any]:
        """Return the options of a kind, its file of codes written."""
        if self.kind == "vector":
            _write_shapes(folder / "holes.geojson")
        elif "path" in ENTRIES[self.kind]:
            _write_codes(folder / "codes.tif", self.kind)
        return ENTRIES[self.kind]


class TestMasks(OurMask):
    """Run for every mask that is installed."""

    @pytest.fixture(autouse=True, params=kinds("masks"))
    def _case(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param


def test_every_kind_is_covered() -> None:
    """A new mask must join this contract."""
    assert set(ENTRIES) == set(kinds("masks"))


@pytest.fixture(scope="module", autouse=True)
def _clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make a stand-in for OmniCloudMask importable."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(tmp_path_factory.mktemp("omnicloudmask"), patch)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples."""
    return tmp_path_factory.mktemp("codes")


@pytest.mark.parametrize("kind", kinds("masks"))
@given(
    buffer=st.sampled_from(["0 px", "1 px", "2.5 px", "35 m"]),
    invert=st.booleans(),
    tile=st.tuples(st.integers(8, 40), st.integers(8, 50)),
)
def test_any_tiles_equal_whole(kind: str, folder: Path, buffer: str, invert: bool, tile: tuple[int, int]) -> None:
    """Reading tile by tile gives what reading at once gives, whatever the tiles."""
    contract = OurMask()
    contract.kind = kind
    assert_tiles_equal_whole(contract.composed(folder, buffer=buffer, invert=invert), SHAPE, tile)


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
    assert_tiles_equal_whole(open_masks([entry], image, lambda p: p), shape, tile)
