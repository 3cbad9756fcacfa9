"""How large the cells of the coarse fill are, which bounds the memory of the survey."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.image.scene import Clock, Scene, open_scene
from pipeline.plan.memory import MOST_UNKNOWNS
from pipeline.survey.coarse import coarse_factor
from tests.helpers import order_of, run_config, smooth, write_image


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    """An image of 1600 x 1600 pixels, 30,000 of them hidden."""
    folder = tmp_path_factory.mktemp("coarse")
    hole = np.zeros((1, 1600, 1600), dtype=np.uint8)
    hole[:, 100:200, 50:350] = 1
    image, mask = write_image(folder / "image.tif", smooth((1, 1600, 1600))), write_image(folder / "mask.tif", hole)
    return open_scene(order_of(run_config(folder, image, mask)).job, Clock())[0]


@pytest.mark.parametrize(
    ("holes", "doubted", "cell"),
    [
        (30_000, 0, 1),
        # together twice the holes, or 50,000, are what a plan counts
        (30_000, 30_000, 1),
        (30_000, 30_001, 2),
        (3_000, 47_000, 1),
        (3_000, 47_001, 2),
        (MOST_UNKNOWNS, 0, 1),
        (MOST_UNKNOWNS + 1, 0, 2),
        # rounded up: what is hidden alone never makes cells larger than it does without the look
        (10 * MOST_UNKNOWNS - 1, 0, 4),
    ],
)
def test_doubted_pixels_are_counted_when_the_cells_are_chosen(scene, holes, doubted, cell):
    """Together with holes they are no more unknowns than a plan counts."""
    seen = replace(scene, states=replace(scene.states, holes=holes, doubted=doubted))
    assert coarse_factor(seen) == cell
