"""Which share of what is hidden lies in thin holes: it decides which weights a raster gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.image.scene import Clock, open_scene
from pipeline.survey.survey import find_model
from pipeline.survey.thin import thin_share
from tests.helpers import order_of, run_config, smooth, write_image

SHAPE = (600, 560)


def _scene(folder: Path, hole: np.ndarray):
    image = write_image(folder / "image.tif", smooth((1, *hole.shape)))
    mask = write_image(folder / "mask.tif", hole[None].astype(np.uint8))
    return open_scene(order_of(run_config(folder, image, mask, model={"kind": "autoencoder"})).job, Clock())[0]


def _holes(*, wide: bool, thin: bool) -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    hole = np.zeros(SHAPE, bool)
    if wide:
        # across the borders of windows of 256 pixels, and so large that it fills one
        hole[100:530, 90:500] = True
    if thin:
        hole |= (rows % 9 == 0) & (columns % 9 == 0)
        hole[:, 20] = True
    return hole


@pytest.mark.parametrize(
    ("wide", "thin", "least", "most", "weights"),
    [
        (True, False, 0.0, 0.005, "optical_small"),
        (False, True, 0.99, 1.0, "optical"),
        (True, True, 0.005, 0.05, "optical_small"),
    ],
)
def test_lost_pixels_and_lines_are_thin_and_clouds_are_not(tmp_path, wide, thin, least, most, weights):
    """Windows cut through holes: what they do not show must not make these look thin."""
    scene = _scene(tmp_path, _holes(wide=wide, thin=thin))
    assert least <= thin_share(scene) <= most
    assert Path(find_model(scene)[1].weights).stem == weights
