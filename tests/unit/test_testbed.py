"""Where the self-test looks, and with which hole shapes."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.image.scene import Clock, open_scene
from pipeline.selftest.setup import self_test
from tests.helpers import blobs, order_of, run_config, smooth, write_image


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


def tense(n: int, t: float, seed: int) -> NDArray[Any]:
    """Return a Gaussian field `(n, n, n)` float32 whose power falls with frequency as splines of tension `t` assume."""
    noise = np.fft.fftn(np.random.default_rng(seed).standard_normal((n, n, n)))
    square = sum((2 * np.pi * f) ** 2 for f in np.meshgrid(*[np.fft.fftfreq(n)] * 3, indexing="ij"))
    values = np.fft.ifftn(noise / np.sqrt(t * square**2 + (1 - t) * square + 1e-3)).real
    return (1000 + 200 * values / values.std()).astype(np.float32)


def test_wide_holes_of_a_grainy_volume_get_a_slacker_spline(tmp_path):
    """The default is stiff; a file rougher than it assumes gets a slacker one, in steps, and thin holes their own."""
    image, mask = tmp_path / "image.nii", tmp_path / "mask.nii"
    nibabel.save(nibabel.Nifti1Image(tense(48, 0.4, seed=1), np.eye(4)), image)
    nibabel.save(nibabel.Nifti1Image(blobs((48, 48, 48), n=3), np.eye(4)), mask)
    order = order_of(run_config(tmp_path, image, mask, patch={"size": 48, "overlap": 8}, model=None))
    scene, _ = open_scene(order.job, Clock())
    verdict = self_test(scene, None)
    gain = {row.method: row.gain_db for row in verdict.rows}
    assert verdict.recipe.fill.kind == "tension"
    assert verdict.recipe.fill.options["t"] < 0.95
    assert gain["tension t=0.5"] > gain["tension t=0.8"] > gain["tension t=0.95"]
    assert verdict.recipe.thin_fill != verdict.recipe.fill
