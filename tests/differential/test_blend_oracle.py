"""Our blocks against a naive oracle that computes every patch of the lattice and sums in arrays of the image's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.blocks.block import process_block
from pipeline.blocks.store import create_store
from pipeline.geometry.box import Box
from pipeline.image.workspace import open_workspace
from pipeline.masks.base import FILL
from pipeline.output.assemble import Assembler
from pipeline.restore.codes import CLASSICAL
from pipeline.restore.estimate import estimate
from pipeline.survey.survey import survey
from tests.helpers import blobs, order_of, run_config, smooth, tiny_weights, use_everything, write_image

SHAPES = {2: (53, 70), 3: (13, 18, 15)}
PATCHES = {2: {"size": 32, "overlap": 8}, 3: {"size": 12, "overlap": 4}}


def _plan(folder: Path, ndim: int, block: int):
    """Survey a scene with a network (weight forced by the caller) and return its saved plan."""
    suffix = ".tif" if ndim == 2 else ".nii.gz"
    image = write_image(folder / f"image{suffix}", smooth((2, *SHAPES[ndim]), "float32"))
    mask = write_image(folder / f"mask{suffix}", blobs(SHAPES[ndim], n=5, radius=7 - ndim)[None])
    model = {"kind": "autoencoder", "weights": str(tiny_weights(folder, ndim))}
    config = run_config(folder, image, mask, model=model, patch=PATCHES[ndim])
    order = order_of(config, f"compute.block={block}", "compute.batch_size=3")
    plan = survey(order.job).plan
    create_store(plan, order.n_file_channels)
    plan.save()
    return plan


def _oracle(plan) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, sigma, origin and the sum of weights of all patches, image-sized, no blocks; whole patches only."""
    workspace = open_workspace(plan.workdir, plan.digest)
    whole = Box.whole(plan.space.shape)
    pixels = workspace.image.read(whole)
    shape = (len(plan.channels), *whole.shape)
    mean, sigma, weights = np.zeros(shape), np.zeros(shape), np.zeros(whole.shape)
    origin, strongest = np.full(shape, CLASSICAL, dtype=np.uint8), np.zeros(whole.shape)
    for index in plan.lattice.touching(whole):
        weight = plan.lattice.weights(index, whole)
        weights += weight
        window = workspace.window(index, pixels)
        task = workspace.task(index, window, pixels)
        if not task.window.hole.any():
            continue  # a network has nothing to say there
        (result,) = estimate(plan.recipe, workspace.model, [task])
        at = (slice(None), *window.slices)
        mean[at] += weight[window.slices] * result.mean
        sigma[at] += weight[window.slices] * result.sigma
        leads = weight > strongest
        origin[at] = np.where(leads[window.slices], result.origin, origin[at])
        strongest = np.maximum(strongest, weight)
    return mean, sigma, origin, weights


@pytest.mark.parametrize(("ndim", "block"), [(2, 19), (2, 64), (3, 8)])
def test_blocks_give_what_the_whole_image_would(tmp_path, monkeypatch, ndim, block):
    """Bit for bit in all three layers, though blocks skip patches and see only their surroundings."""
    use_everything(monkeypatch)
    plan = _plan(tmp_path, ndim, block)
    assert plan.recipe.network_weight == 0.6
    for number in range(len(plan.blocks)):
        process_block(plan.workdir, plan.digest, number)
    mean, sigma, origin, weights = _oracle(plan)
    assert (weights == 1.0).all()
    whole, assembler = Box.whole(plan.space.shape), Assembler(plan)
    stored = assembler.source.read(whole)
    hole = np.broadcast_to(np.asarray(assembler.state[...]) == FILL, stored.shape)
    expected = np.where(hole, mean.astype(np.float32), stored)
    assert assembler.restored(whole).tobytes() == expected.tobytes()
    assert assembler.uncertainty(whole).tobytes() == np.where(hole, sigma, 0).astype(np.float32).tobytes()
    assert np.array_equal(assembler.origin(whole)[0], np.where(hole[0], origin[0], 0))
    assert not np.array_equal(expected, stored)
