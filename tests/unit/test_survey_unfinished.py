"""An unfinished run goes on with its own plan, whatever its image is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import IntegrityError
from pipeline.orders import Order
from pipeline.plan.facts import save_survey
from pipeline.survey.survey import survey
from pipeline.survey.unfinished import unfinished_plan, unfinished_survey
from tests.helpers import blobs, order_of, run_config, smooth, tiny_weights, write_image

RASTER, VOLUME = (2, 72, 80), (1, 24, 26, 22)


def _raster(folder: Path) -> Order:
    return order_of(_config(folder))


def _config(folder: Path, values: np.ndarray | None = None, **sections: object) -> Path:
    values = smooth(RASTER, "float32") if values is None else values
    nodata = sections.pop("nodata", None)
    image = write_image(folder / "image.tif", values, **({} if nodata is None else {"nodata": nodata}))
    mask = write_image(folder / "mask.tif", blobs(RASTER[1:], radius=3)[None])
    return run_config(folder, image, mask, **sections)


def _without_values(folder: Path) -> Order:
    """Pixels that are not a number, which the file names as its nodata value, equal no other."""
    values = smooth(RASTER, "float32")
    values[:, :4] = np.nan
    return order_of(_config(folder, values, nodata=float("nan")))


def _part(folder: Path) -> Order:
    return order_of(_config(folder, input={"region": {"i": [3, 77], "j": [2, 70]}}))


def _band(folder: Path) -> Order:
    return order_of(_config(folder, input={"bands": [2]}, output={"refuse_above": 0.5}))


def _reference(folder: Path) -> Order:
    """A date beside the image, through a link."""
    other = write_image(folder / "other.tif", smooth(RASTER, "float32", seed=1))
    (folder / "link.tif").symlink_to(other)
    return order_of(_config(folder, input={"references": [str(folder / "link.tif")]}))


def _network(folder: Path) -> Order:
    weights = tiny_weights(folder / "weights")
    return order_of(_config(folder, model={"kind": "autoencoder", "weights": str(weights)}))


def _no_holes(folder: Path) -> Order:
    image = write_image(folder / "image.tif", smooth(RASTER))
    mask = write_image(folder / "mask.tif", np.zeros((1, *RASTER[1:]), np.uint8))
    return order_of(run_config(folder, image, mask))


def _zarr(folder: Path) -> Order:
    image = write_image(folder / "image.zarr", smooth(RASTER))
    mask = write_image(folder / "mask.tif", blobs(RASTER[1:], radius=3)[None])
    return order_of(run_config(folder, image, mask))


def _volume(folder: Path) -> Order:
    """A compressed one, which is inflated once."""
    image = write_image(folder / "image.nii.gz", smooth(VOLUME))
    mask = write_image(folder / "mask.nii.gz", blobs(VOLUME[1:], radius=3)[None])
    return order_of(run_config(folder, image, mask))


IMAGES = [_raster, _without_values, _part, _band, _reference, _network, _no_holes, _zarr, _volume]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.__name__.strip("_"))
def test_a_run_goes_on_with_its_own_plan(tmp_path, image):
    """What is made again of it is what the survey wrote; a survey made anew would cost most of a small run."""
    order = image(tmp_path)
    found = survey(order.job)
    save_survey(found.plan, found.facts())
    plan, facts = unfinished_survey(order.job)
    assert plan.digest == found.plan.digest == unfinished_plan(order.job).digest
    assert facts["states"]["holes"] == found.states.holes
    other = replace(order.job, config=order.job.config | {"seed": 7})
    with pytest.raises(IntegrityError, match="its config is another"):
        unfinished_survey(other)
