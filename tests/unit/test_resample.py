"""A guide on another grid: linear in world coordinates, and the same bytes in any window."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.formats._resample import resampled
from pipeline.geometry.box import Box
from pipeline.geometry.orientation import Orientation, canonical_space
from pipeline.geometry.space import index_to_world
from pipeline.testing import ArraySource, raster_space, volume_space
from tests.helpers import blobs, command, layer, pixels, result_hash, run_config, smooth, write_image
from tests.support_formats import UTM33, Affine

TARGET = raster_space((60, 50), 10.0)
COARSE = replace(raster_space((23, 24), 27.3), affine=(27.3, 0.0, 499990.0, 0.0, -27.3, 5100011.0))


def _world(space, box: Box) -> np.ndarray:
    index = np.stack(
        [*np.meshgrid(*(np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)), indexing="ij")]
    )
    homogeneous = np.concatenate([index.reshape(box.ndim, -1), np.ones((1, box.size))])
    return (index_to_world(space) @ homogeneous)[:-1].reshape(box.ndim, *box.shape)


def _ramp(space) -> np.ndarray:
    """A plane in world coordinates: linear interpolation must give it back exactly."""
    world = _world(space, Box.whole(space.shape))
    return sum((k + 1) * (w - w.mean()) for k, w in enumerate(world))[None].astype(np.float32)


HEAD = volume_space((12, 14, 10))
OBLIQUE = replace(volume_space((9, 9, 9)), affine=(1.7, 0.1, 0, -0.5, 0, 1.5, 0, -1, 0, 0, 2, -2))


def test_the_same_voxels_along_other_axes_keep_their_values():
    """A guide that another program wrote mirrored and turned is read to its last voxel, without smoothing."""
    given = replace(volume_space((7, 8, 9)), affine=(-1.7, 0, 0.1, 5, 0, 0.1, 2, -1, 0.1, -1.5, 0, 9))
    values = np.random.default_rng(0).normal(size=(1, *given.shape)).astype(np.float32)
    order = Orientation.of(given)
    view = resampled(ArraySource(values=values, space=given), canonical_space(given))
    assert canonical_space(given).mismatch(given)
    found = view.read(Box.whole(view.space.shape))
    np.testing.assert_allclose(found, order.canonical(values), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("target", "given"), [(TARGET, COARSE), (HEAD, OBLIQUE)])
def test_a_plane_in_space_stays_a_plane(target, given):
    """Position, scale and rotation are right on every axis, to rounding."""
    view = resampled(ArraySource(values=_ramp(given), space=given), target)
    whole = Box.whole(target.shape)
    values = view.read(whole)[0]
    world, centre = _world(target, whole), _world(given, Box.whole(given.shape))
    expected = sum((k + 1) * (w - c.mean()) for k, (w, c) in enumerate(zip(world, centre, strict=True)))
    seen = np.isfinite(values)
    assert seen.mean() > 0.5
    assert np.allclose(values[seen], expected[seen], rtol=1e-4, atol=1e-2)
    assert np.array_equal(view.never(whole)[0], ~seen)


def test_windows_agree_with_the_whole_bit_for_bit():
    """Blocks of any size read the same bytes; the view survives a trip to a worker."""
    values = np.random.default_rng(0).normal(1000, 300, (2, *COARSE.shape)).astype(np.float32)
    view = pickle.loads(pickle.dumps(resampled(ArraySource(values=values, space=COARSE), TARGET)))
    full = view.read(Box.whole(TARGET.shape))
    for size in ((7, 11), (60, 1), (33, 50)):
        for box in Box.whole(TARGET.shape).tiles(size):
            assert view.read(box).tobytes() == full[(slice(None), *box.slices)].tobytes()


def test_what_a_neighbour_did_not_observe_is_not_known():
    """One unobserved pixel makes every value that leans on it NaN, and outside the file nothing is known."""
    values = np.full((1, *COARSE.shape), 5.0, dtype=np.float32)
    values[0, 10, 10] = np.nan
    view = resampled(ArraySource(values=values, space=COARSE), TARGET)
    seen = np.isfinite(view.read(Box.whole(TARGET.shape))[0])
    assert (view.read(Box.whole(TARGET.shape))[0][seen] == 5).all()
    y, x = (round((10 + 0.5) * 27.3 / 10 + shift - 0.5) for shift in (-1.1, -1.0))
    assert not seen[y, x]
    assert 9 <= (~seen[y - 8 : y + 9, x - 8 : x + 9]).sum() <= 49
    far = replace(TARGET, affine=(10.0, 0.0, 900000.0, 0.0, -10.0, 5100000.0))
    nothing = resampled(ArraySource(values=values, space=COARSE), far)
    assert np.isnan(nothing.read(Box((0, 0), (5, 5)))).all()


def test_the_same_grid_is_left_alone_and_another_crs_refused():
    """No interpolation without need; other reference systems need a real reprojection."""
    source = ArraySource(values=np.ones((1, *TARGET.shape), np.float32), space=TARGET)
    assert resampled(source, TARGET) is source
    with pytest.raises(ConfigError, match="rio warp"):
        resampled(ArraySource(values=np.ones((1, *COARSE.shape)), space=COARSE), replace(TARGET, crs=UTM33))


def test_a_run_with_a_reference_on_another_grid(tmp_path):
    """Refused with both grids unless `resample: true`; then used, with one hash over block sizes."""
    shape = (66, 70)
    image = write_image(tmp_path / "image.tif", smooth((1, *shape), seed=1))
    mask = write_image(tmp_path / "mask.tif", blobs(shape, n=3, radius=9)[None])
    fine = smooth((1, 140, 148), seed=1)
    other = write_image(tmp_path / "other.tif", fine, transform=Affine(5, 0, 5e5 - 7, 0, -5, 5e6 + 9))
    entry = {"path": str(other), "mask": []}
    outcome = command("run", run_config(tmp_path, image, mask, input={"references": [entry]}))
    assert outcome.code in (2, 4)
    assert "resample: true" in outcome.err
    config = run_config(tmp_path, image, mask, input={"references": [entry | {"resample": True}]})
    hashes = set()
    for block in (16, 64):
        out = tmp_path / f"out-{block}"
        settings = ("--set", f"output.directory={out}", "--set", f"compute.block={block}")
        outcome = command("run", config, *settings)
        assert outcome.code == 0, outcome.err
        hashes.add(result_hash(out / "image"))
    assert len(hashes) == 1
    assert 10 in pixels(layer(out / "image", "source"))
    assert command("verify", out).code == 0
