"""A reference that shows hardly anything of what is to be restored: silence would be an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.image.scene import Clock, open_scene
from pipeline.image.unseen import unseen_notices
from tests.helpers import blobs, order_of, run_config, smooth, write_image

HOLE = blobs((60, 70), n=3) > 0


def said(tmp_path: Path, hidden: np.ndarray, *, missing: bool = False, role: str = "references") -> list[str]:
    """Return what is said of a guide that its mask, or NaN, hides there."""
    image, mask = (
        write_image(tmp_path / "image.tif", smooth((2, 60, 70))),
        write_image(tmp_path / "m.tif", HOLE[None].astype(np.uint8)),
    )
    values = smooth((2, 60, 70), seed=1).astype(np.float32)
    values[:, hidden & missing] = np.nan
    write_image(tmp_path / "date.tif", values)
    write_image(tmp_path / "hidden.tif", hidden[None].astype(np.uint8))
    own = [] if missing else [{"kind": "raster", "path": str(tmp_path / "hidden.tif")}]
    given = {role: [{"path": str(tmp_path / "date.tif"), "mask": own}]}
    config = run_config(tmp_path, image, mask, input=given)
    scene, _ = open_scene(order_of(config).job, Clock())
    return unseen_notices(scene)


@pytest.mark.parametrize("missing", [False, True], ids=["mask", "NaN"])
def test_a_reference_that_is_hidden_at_the_holes_is_named(tmp_path: Path, missing: bool) -> None:
    """All hidden, and nearly all: it is named with what it shows, whatever it shows elsewhere."""
    (note,) = said(tmp_path, HOLE, missing=missing)
    assert "reference" in note
    assert "date.tif: it shows nothing of what is to be restored" in note
    nearly = HOLE.copy()
    nearly[tuple(np.argwhere(HOLE)[: int(0.05 * HOLE.sum())].T)] = False
    (note,) = said(tmp_path, nearly, missing=missing)
    assert "it shows 4.8 % of what" in note


def test_an_auxiliary_with_the_same_lesion_is_no_fault(tmp_path: Path) -> None:
    """A lesion is masked in all contrasts: that is said, but it is no warning, and no other date would help."""
    (note,) = said(tmp_path, HOLE, role="auxiliary")
    assert "date.tif: it shows nothing of what is to be restored" in note
    assert "Right for a lesion that is in both" in note
    assert "WARNING" not in note
    assert "date that shows more" not in note


def test_nothing_is_said_of_one_that_shows_more(tmp_path: Path) -> None:
    """Half of the holes is worth having; so is a reference that is hidden elsewhere only."""
    half = HOLE & (np.arange(70) < np.median(np.argwhere(HOLE)[:, 1]))
    assert said(tmp_path, half) == []
    assert said(tmp_path, ~HOLE) == []


@pytest.mark.parametrize("role", ["references", "auxiliary"])
@pytest.mark.parametrize(("inside", "elsewhere", "warned"), [(1.0, 0.0, True), (0.5, 0.0, False), (1.0, 1.0, False)])
def test_one_that_was_blanked_at_the_same_pixels_is_named(
    tmp_path: Path, role: str, inside: float, elsewhere: float, warned: bool
) -> None:
    """No pixel that can be hidden looks like them, so no self-test finds it; with `nodata` it is hidden there."""
    draw = np.random.default_rng(0).random(HOLE.shape)
    values = smooth((2, 60, 70), "uint16", seed=1)
    values[1, np.where(HOLE, draw < inside, draw < elsewhere)] = 7
    image = write_image(tmp_path / "image.tif", smooth((2, 60, 70)))
    mask = write_image(tmp_path / "m.tif", HOLE[None].astype(np.uint8))
    entry = {"path": str(write_image(tmp_path / "date.tif", values)), "mask": []}
    config = run_config(tmp_path, image, mask, input={role: [entry]})
    notes = unseen_notices(open_scene(order_of(config).job, Clock())[0])
    assert bool(notes) == warned
    if warned:
        (note,) = notes
        assert "date.tif: 100 % of what is to be restored is exactly 7 in it" in note
        config = run_config(tmp_path, image, mask, input={role: [{**entry, "nodata": 7}]})
        assert "it shows nothing" in unseen_notices(open_scene(order_of(config).job, Clock())[0])[0]
