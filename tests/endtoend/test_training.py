"""Adapt the shipped weights to one's own image, restore it with them: the story of docs/training.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import blobs, command, layer, pixels, smooth, write_image

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
SHAPE = (112, 144)


@pytest.mark.slow
def test_weights_are_adapted_to_an_image_and_used_on_it(tmp_path):
    """The four lines of the page train; the run takes the weights, its self-test judges them, observed pixels stay."""
    grain = np.random.default_rng(1).integers(0, 200, (2, *SHAPE), dtype=np.uint16)
    truth = smooth((2, *SHAPE)) + grain
    hole = blobs(SHAPE, n=4, radius=5) > 0
    image = write_image(tmp_path / "scene.tif", np.where(hole, 0, truth).astype(truth.dtype))
    write_image(tmp_path / "clouds.tif", hole[None].astype(np.uint8))
    four = re.search(r"```yaml\n(name:.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert four is not None
    quick = "steps: 4\nvalidate_every: 2\ntile: 48\npatch: 32\nmasks_per_tile: 2\nbatch: 2\n"
    (tmp_path / "mine.yaml").write_text(four[1] + quick)
    trained = command("train", tmp_path / "mine.yaml", "--json")
    assert trained.code == 0, trained.err
    facts = json.loads(trained.out)
    assert facts["gain_db"]["mean"] >= facts["gain_db_at_start"]["mean"]
    config = tmp_path / "run.yaml"
    config.write_text(
        "input: {source: scene.tif}\n"
        "mask: [{kind: raster, path: clouds.tif}]\n"
        "model: {kind: autoencoder, weights: mine.safetensors}\n"
        "compute: {executor: serial}\n"
        "output: {directory: out}\n"
    )
    ran = command("run", config)
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "out" / "scene" / "record.json").read_text())
    assert any("mine" in row["method"] for row in record["self_test"]["methods"])
    restored = pixels(layer(tmp_path / "out" / "scene", "restored"))
    assert np.array_equal(restored[:, ~hole], pixels(image)[:, ~hole])
    assert command("verify", tmp_path / "out").code == 0
