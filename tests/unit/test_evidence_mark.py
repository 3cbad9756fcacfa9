"""Which images are looked at for contaminated pixels: what a producer has screened, in one quantity, is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.evidence.mark import with_doubt
from pipeline.image.scene import Clock, open_scene
from tests.helpers import order_of, run_config, write_image, write_tiff
from tests.unit.test_evidence_doubt import clouds, ground, ring


@pytest.mark.parametrize(
    ("bands", "under_mask", "looked_at"), [(1, "nodata", False), (1, "values", True), (2, "nodata", True)]
)
def test_one_quantity_whose_holes_have_no_value_is_taken_as_observed(
    tmp_path: Path, bands: int, under_mask: str, looked_at: bool
) -> None:
    """What is warm beside the gaps of a temperature is no haze: of one quantity that was screened nothing is doubted.

    A cloud that is seen under the mask has edges to be looked for, and several bands tell haze from ground.
    """
    hole = clouds(2)
    values = (ground(1) + np.array([500, 400, 300, 50])[:, None, None] * ring(hole, 4.0))[:bands]
    if under_mask == "nodata":
        values[:, hole] = -9999
    image = write_tiff(tmp_path / "image.tif", values.astype(np.float32), nodata=-9999)
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    scene, _ = open_scene(order_of(run_config(tmp_path, image, mask)).job, Clock())
    assert scene is not None
    marked, doubt = with_doubt(scene)
    assert (marked.states.doubted + marked.states.hazy > 0) == (doubt is not None) == looked_at
