"""Opening what a block reads: guides keep their detail in float32, whatever their dtype and offset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.formats import geotiff
from pipeline.geometry.box import Box
from pipeline.image.open import open_guide, open_source
from pipeline.plan.refs import GuideRef, SourceRef
from tests.helpers import blobs, command, run_config, smooth, write_image


def test_a_guide_with_a_large_offset_keeps_its_differences(tmp_path: Path) -> None:
    """float64 around 1e9 is read relative to its middle: steps of 0.25 survive float32."""
    steps = 0.25 * np.arange(48 * 40, dtype=np.float64).reshape(1, 48, 40)
    path = write_image(tmp_path / "date.tif", 1e9 + steps)
    ref = SourceRef(kind="geotiff", paths=(str(path),))
    guide = open_guide(GuideRef(source=ref), open_source(ref))
    whole = guide.read(Box((0, 0), (48, 40)))
    assert whole.values.dtype == np.float32
    assert np.array_equal(np.diff(whole.values.ravel()), np.full(48 * 40 - 1, 0.25))
    part = Box((5, 7), (20, 31))
    assert np.array_equal(guide.read(part).values, whole.values[:, 5:20, 7:31])


def test_a_guide_that_float32_holds_is_not_shifted(tmp_path: Path) -> None:
    """uint16 keeps its stored numbers."""
    path = write_image(tmp_path / "date.tif", np.full((1, 8, 8), 1234, dtype=np.uint16))
    ref = SourceRef(kind="geotiff", paths=(str(path),))
    guide = open_guide(GuideRef(source=ref), open_source(ref))
    assert (guide.read(Box((0, 0), (8, 8))).values == 1234).all()


def test_the_image_is_opened_once_a_stage(tmp_path, monkeypatch):
    """Order, survey, blocks, assembling, report: each opens it once, however many questions it has."""
    opened: list[str] = []
    plain = geotiff.open_source

    def counting(paths, **options):
        opened.append(Path(paths[0]).name)
        return plain(paths, **options)

    monkeypatch.setattr(geotiff, "open_source", counting)
    image = write_image(tmp_path / "image.tif", smooth((1, 40, 40)))
    mask = write_image(tmp_path / "mask.tif", blobs((40, 40), n=2)[None])
    assert command("run", run_config(tmp_path, image, mask)).code == 0
    assert opened.count("image.tif") == 5
