"""Opening what a block reads: guides keep their detail in float32, whatever their dtype and offset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rasterio.enums import ColorInterp

from pipeline.errors import ConfigError
from pipeline.formats import geotiff
from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice
from pipeline.image.notices import alpha_notices
from pipeline.image.open import open_guide, open_source
from pipeline.image.workspace import Workspace
from pipeline.masks.base import FILL, KEEP
from pipeline.plan.refs import GuideRef, SourceRef
from tests.helpers import blobs, command, run_config, smooth, write_image
from tests.support_formats import write_tiff


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


RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def _with_alpha(path: Path, values: np.ndarray) -> SourceRef:
    """Write four bands of which the last is alpha."""
    write_tiff(path, values, setup=lambda d: setattr(d, "colorinterp", RGBA))
    return SourceRef(kind="geotiff", paths=(str(path),))


def test_alpha_of_a_guide_hides_pixels_and_is_no_band_of_it(tmp_path: Path) -> None:
    """All that is opaque is seen; with a band that is never observed no pixel of the guide would be."""
    values = np.full((4, 8, 8), 255, dtype=np.uint8)
    values[:3], values[3, :2] = 7, 0
    ref = _with_alpha(tmp_path / "date.tif", values)
    guide = open_guide(GuideRef(source=ref), open_source(ref))
    seen = guide.read(Box((0, 0), (8, 8)))
    assert guide.source.n_channels == 3
    assert not seen.valid[:, :2].any()
    assert seen.valid[:, 2:].all()
    assert (seen.values[:, 2:] == 7).all()


def test_a_guide_of_nothing_but_alpha_is_refused(tmp_path: Path) -> None:
    """It would hide pixels and tell nothing."""
    image = _with_alpha(tmp_path / "date.tif", np.full((4, 8, 8), 255, dtype=np.uint8))
    with pytest.raises(ConfigError, match="no band but alpha"):
        open_guide(GuideRef(source=replace(image, bands=(4,))), open_source(image))


def test_data_that_are_marked_as_alpha_are_named(tmp_path: Path) -> None:
    """GDAL marks the fourth band of bytes so; a band of opacity with soft edges and a hidden part is no data."""
    values = (smooth((4, 64, 64)) * 20 + 100).astype(np.uint8)
    (said,) = alpha_notices(open_source(_with_alpha(tmp_path / "infrared.tif", values)))
    assert "band_4 is marked" in said
    assert "--colorinterp red,green,blue,undefined" in said
    values[3], values[3, :20], values[3, 20:24] = 255, 0, np.arange(64)
    assert not alpha_notices(open_source(_with_alpha(tmp_path / "opacity.tif", values)))


def test_the_image_is_opened_once_a_stage(tmp_path, monkeypatch):
    """Order, rehearsal, survey, blocks, assembling, report: each opens it once, however many questions it has."""
    opened: list[str] = []
    plain = geotiff.open_source

    def counting(paths, **options):
        opened.append(Path(paths[0]).name)
        return plain(paths, **options)

    monkeypatch.setattr(geotiff, "open_source", counting)
    image = write_image(tmp_path / "image.tif", smooth((1, 40, 40)))
    mask = write_image(tmp_path / "mask.tif", blobs((40, 40), n=2)[None])
    assert command("run", run_config(tmp_path, image, mask)).code == 0
    assert opened.count("image.tif") == 6


@pytest.mark.parametrize(
    ("hole", "expected"),
    [
        (((300, 310), (420, 440)), ((240, 384), (320, 448))),
        (((250, 470), (250, 270)), ((192, 448), (192, 336))),
        (((300, 301), (300, 301)), ((224, 368), (224, 368))),
        (((100, 110), (100, 110)), ((192, 320), (192, 320))),
    ],
    ids=["at the edge", "long", "in the middle", "elsewhere"],
)
def test_an_estimate_is_made_from_holes_and_their_surroundings(hole, expected):
    """48 pixels around, 128 at least, from and to multiples of 16, never beyond the patch (192 to 448)."""
    states = np.full((1, 1000, 1000), KEEP, np.uint8)
    states[0, slice(*hole[0]), slice(*hole[1])] = FILL
    lattice = Lattice(shape=(1000, 1000), patch=(256, 256), overlap=(32, 32))
    workspace = Workspace(
        plan=SimpleNamespace(lattice=lattice, ndim=2), image=None, coarse=np.zeros((1, 1, 1), np.float32), model=None
    )
    for box in (Box((0, 0), (1000, 1000)), Box((150, 200), (600, 700))):
        pixels = SimpleNamespace(states_of=lambda part, box=box: states[box.at()][part.at(of=box)])
        window = workspace.window((1, 1), pixels)
        if expected:
            assert window == Box(*zip(*expected, strict=True))
        else:
            assert lattice.support((1, 1)) & window == window
