"""Where the self-test looks, and with which hole shapes."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.scene import Clock, open_scene
from pipeline.testbed import self_test
from tests.helpers import order_of, run_config, smooth, write_image


@pytest.mark.parametrize("n_planes", [1, 3])
def test_one_hole_in_a_large_image_is_found(tmp_path, n_planes):
    """Of more windows than are looked at, those with holes are among them; a hole beside a window is no pattern."""
    values = smooth((3, 1600, 1600), "uint8")
    hole = np.zeros((n_planes, 1600, 1600), np.uint8)
    hole[0, 697:702, 697:702] = 1
    image = write_image(tmp_path / "image.tif", values)
    mask = write_image(tmp_path / "mask.tif", hole)
    config = run_config(tmp_path, image, mask, patch={"size": 16, "overlap": 4}, model={"kind": "nearest"})
    order = order_of(config)
    scene, _ = open_scene(order.job, Clock())
    verdict = self_test(scene, None)
    assert verdict.placements >= 2
    assert verdict.hidden_pixels >= 64
    assert not verdict.note
