"""What a user drew is a hole, whatever the image holds there; what lies outside stays untouched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.geometry.box import Box
from pipeline.image.open import open_guide
from pipeline.masks.base import FILL, KEEP, NEVER, mask_options, open_masks
from pipeline.plan.refs import GuideRef, SourceRef
from pipeline.testing import ArraySource, raster_space
from tests.helpers import Outcome, command, layer, pixels, run_config, smooth, write_image

SHAPE = (40, 48)
CLOUD = np.zeros(SHAPE, dtype=np.uint8)
CLOUD[10:20, 14:24] = 1
SWATH = np.zeros(SHAPE, dtype=bool)
SWATH[:, :6] = True


def _scene(folder: Path, dtype: str, nodata: float, hole: NDArray[np.uint8] = CLOUD) -> tuple[Path, Path]:
    """Write a scene whose cloud and left edge are nodata, and its mask beside it."""
    values = smooth((2, *SHAPE), dtype)
    values[:, (CLOUD == 1) | SWATH] = nodata
    declared = {} if np.isnan(nodata) else {"nodata": nodata}
    image = write_image(folder / "image.tif", values, **declared)
    return image, write_image(folder / "mask.tif", hole[np.newaxis])


def _run(config: Path) -> tuple[Outcome, NDArray[np.uint8], dict[str, Any]]:
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    folder = config.parent / "out" / "image"
    return outcome, pixels(layer(folder, "source"))[0], json.loads((folder / "record.json").read_text())


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 0), ("int16", -9999), ("float32", float("nan"))])
def test_a_drawn_cloud_that_is_nodata_is_restored(tmp_path, dtype, nodata):
    """The cloud is filled, the swath's outside is not, and run and record say how many pixels that were."""
    image, mask = _scene(tmp_path, dtype, nodata)
    outcome, codes, record = _run(run_config(tmp_path, image, mask))
    assert (codes[CLOUD == 1] == 1).all()
    assert (codes[SWATH] == 255).all()
    assert (codes[(CLOUD == 0) & ~SWATH] == 0).all()
    restored = pixels(layer(tmp_path / "out" / "image", "restored"))[:, CLOUD == 1]
    assert (restored != nodata).all()
    assert np.isfinite(restored).all()
    (notice,) = record["notices"]
    assert "100 pixels to restore had no value" in notice
    assert "`input.fill_nodata: never`" in notice
    assert notice in outcome.err
    assert command("verify", tmp_path / "out").code == 0


def test_never_keeps_them(tmp_path):
    """With `never` the cloud stays nodata, as it was before there was `drawn`."""
    image, mask = _scene(tmp_path, "uint16", 0)
    _, codes, record = _run(run_config(tmp_path, image, mask, input={"fill_nodata": "never"}))
    assert (codes[CLOUD == 1] == 255).all()
    assert record["holes"]["pixels"] == 0


def test_a_buffer_claims_no_nodata(tmp_path):
    """The buffer of a mask that touches the swath's edge widens it over observed pixels only."""
    hole = CLOUD.copy()
    hole[30:34, 6:10] = 1
    image, mask = _scene(tmp_path, "uint16", 0, hole)
    _, codes, _ = _run(
        run_config(tmp_path, image, None, mask=[{"kind": "raster", "path": str(mask), "buffer": "3 px"}])
    )
    assert (codes[SWATH] == 255).all()
    assert (codes[hole == 1] == 1).all()
    assert codes[31, 12] == 1


def test_a_drawn_volume_mask_claims_nan(tmp_path):
    """NIfTI: voxels without a value under the mask file are restored, others stay."""
    values = smooth((1, 12, 20, 22), "float32")
    hole = np.zeros(values.shape, dtype=np.uint8)
    hole[:, 4:8, 6:12, 6:12] = 1
    values[hole == 1] = np.nan
    values[:, :, :2] = np.nan
    image = write_image(tmp_path / "image.nii.gz", values)
    mask = write_image(tmp_path / "mask.nii.gz", hole)
    _, codes, record = _run(run_config(tmp_path, image, mask))
    assert (codes[hole[0] == 1] == 1).all()
    assert (codes[:, :2] == 255).all()
    assert f"{int(hole.sum())} pixels to restore had no value" in record["notices"][0]


def test_nothing_is_said_where_nothing_was_claimed(tmp_path):
    """A drawn mask over observed pixels gives no notice."""
    hole = np.zeros(SHAPE, dtype=np.uint8)
    hole[25:30, 25:30] = 1
    image, mask = _scene(tmp_path, "uint16", 0, hole)
    _, _, record = _run(run_config(tmp_path, image, mask))
    assert record["notices"] == []


def _states(image: ArraySource, *entries: dict[str, Any]) -> list[int]:
    """Return the states of an image of one line, under `drawn`."""
    masks = open_masks([mask_options(entry) for entry in entries], image, lambda path: path, "drawn")
    return masks.read(Box.whole(image.space.shape))[0, 0].tolist()


def _line(values: list[int]) -> ArraySource:
    return ArraySource(values=np.array([[values]]), space=raster_space((1, len(values))), no_value=0)


def test_derived_masks_claim_no_nodata(tmp_path):
    """Thresholds, classes and slice numbers leave nodata alone; gaps of nodata are holes as ever."""
    image = _line([0, 0, 5, 9, 0, 7])
    scl = write_image(tmp_path / "scl.tif", np.array([[[9, 9, 9, 4, 4, 4]]], np.uint8))
    assert _states(image, {"kind": "threshold", "below": 6}) == [NEVER, NEVER, FILL, KEEP, NEVER, KEEP]
    assert _states(image, {"kind": "scl", "path": str(scl)}) == [NEVER, NEVER, FILL, KEEP, NEVER, KEEP]
    assert _states(image, {"kind": "slices", "slices": [1, 2], "axis": "i"})[:3] == [NEVER, NEVER, FILL]
    assert _states(image, {"kind": "nodata", "max_gap": "2 px"}) == [NEVER, NEVER, KEEP, KEEP, FILL, KEEP]


def test_a_drawn_hole_counts_beside_other_masks(tmp_path):
    """What is drawn is a hole even where another entry says that nothing was acquired."""
    scl = write_image(tmp_path / "scl.tif", np.array([[[0, 0, 4, 4]]], np.uint8))
    drawn = write_image(tmp_path / "drawn.tif", np.array([[[0, 1, 0, 1]]], np.uint8))
    entries = ({"kind": "scl", "path": str(scl)}, {"kind": "raster", "path": str(drawn)})
    assert _states(_line([0, 0, 5, 5]), *entries) == [NEVER, FILL, KEEP, FILL]


def test_an_inverted_mask_draws_only_where_its_file_speaks(tmp_path):
    """Of a mask of clear pixels, 0 is a hole over nodata too; where it has its own nodata, nothing was drawn."""
    clear = write_image(tmp_path / "clear.tif", np.array([[[255, 0, 1, 0]]], np.uint8), nodata=255)
    assert _states(_line([0, 0, 5, 5]), {"kind": "raster", "path": str(clear), "invert": True}) == [
        NEVER,
        FILL,
        KEEP,
        FILL,
    ]


def test_windows_say_what_the_whole_image_says(tmp_path):
    """States and counts under `drawn` do not depend on where an image is cut."""
    image, mask = _scene(tmp_path, "uint16", 0)
    source = ArraySource(values=pixels(image), space=raster_space(SHAPE), no_value=0)
    entry = mask_options({"kind": "raster", "path": str(mask), "buffer": "2 px"})
    composed = open_masks([entry], source, lambda path: path, "drawn")
    states, drawn, _ = composed.look(Box.whole(SHAPE))
    for box in Box.whole(SHAPE).tiles((7, 11)):
        part = composed.look(box)
        assert np.array_equal(part[0], states[box.at()])
        assert np.array_equal(part[1], np.broadcast_to(drawn, states.shape)[box.at()][: len(part[1])])
    assert int(drawn.any(axis=0).sum()) == int(CLOUD.sum())


def test_the_mask_of_a_guide_claims_nothing(tmp_path):
    """Nodata of a reference is unknown, also under the mask that was drawn for it: none of it is valid."""
    image, mask = _scene(tmp_path, "uint16", 0)
    ref = SourceRef(kind="geotiff", paths=(str(image),))
    guide = GuideRef(source=ref, masks=({"kind": "raster", "path": str(mask)},), base=str(tmp_path))
    opened = open_guide(guide, ArraySource(values=pixels(image), space=_space_of(image)))
    assert (opened.mask.read(Box.whole(SHAPE))[0][CLOUD == 1] == NEVER).all()


def _space_of(image: Path) -> Any:
    from pipeline.formats import open_any

    return open_any(str(image)).space
