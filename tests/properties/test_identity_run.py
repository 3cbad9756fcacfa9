"""The permanent oracles: identity gives back the input, a constant gives exactly constant holes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipeline.formats import open_any
from pipeline.output.verify import header
from tests.helpers import blobs, command, layer, pixels, run_config, smooth, write_image
from tests.support_formats import DTYPES, random_values, same_bytes

FILES = ("image.tif", "image.nii.gz", "image.nii", "image.zarr")


def _values(shape: tuple[int, ...], dtype: str, hole: np.ndarray, seed: int) -> np.ndarray:
    """Anything at all where observed, including NaN, infinity and extremes; numbers that float32 can carry in holes.

    Wide types: a hole is restored in float32 around the median, so hole values stay within 2^23 of it.
    """
    kind = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    anything = random_values(shape, dtype, seed)
    if kind.kind == "f":
        # larger numbers are undeclared fill values: refused with a message
        anything = np.where(np.isfinite(anything) & (np.abs(anything) > 1e19), kind.type(np.inf), anything)
    if kind.itemsize <= 2:
        return anything
    near = rng.integers(1, 5000, shape).astype(dtype)
    extreme = (rng.random(shape) < 0.1) & ~hole
    return np.where(extreme, anything, near).astype(dtype)


@st.composite
def scenes(draw: st.DrawFn) -> dict[str, object]:
    """Draw file kind, dtype, shape (also one pixel wide), channels and a hole mask with at least one kept pixel."""
    name = draw(st.sampled_from(FILES))
    ndim = 3 if ".nii" in name else 2
    shape = tuple(draw(st.integers(1, 40 if ndim == 2 else 14)) for _ in range(ndim))
    if int(np.prod(shape)) < 8:
        shape = (8, *shape[1:])
    return {
        "name": name,
        "dtype": draw(st.sampled_from(DTYPES)),
        "shape": shape,
        "channels": draw(st.integers(1, 3)),
        "share": draw(st.sampled_from([0.02, 0.3, 0.7])),
        "seed": draw(st.integers(0, 10_000)),
    }


def _identity(folder: Path, scene: dict[str, object]) -> tuple[Path, np.ndarray]:
    shape, seed = scene["shape"], scene["seed"]
    full = (scene["channels"], *shape)
    hole = np.random.default_rng(seed).random(shape) < scene["share"]
    hole.flat[0], hole.flat[1:6] = True, False
    values = _values(full, scene["dtype"], np.broadcast_to(hole, full), seed)
    image = write_image(folder / scene["name"], values)
    mask = write_image(folder / ("mask.nii.gz" if len(shape) == 3 else "mask.tif"), hole[None].astype(np.uint8))
    config = run_config(folder, image, mask, model={"kind": "identity"})
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    return image, hole


# a run takes half a second: shrinking would take minutes and the scene is small anyway
@settings(max_examples=8, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(scenes())
def test_identity_returns_every_pixel(scene):
    """Output bytes are input bytes: any format, dtype, shape, number of bands and mask."""
    with tempfile.TemporaryDirectory() as folder:
        image, _ = _identity(Path(folder), scene)
        source, restored = open_any(str(image)), layer(Path(folder) / "out" / "image", "restored")
        assert same_bytes(pixels(restored), pixels(source))
        check = header(source, restored)
        assert check.held, check.detail


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["image.tif", "image.nii.gz"])
def test_identity_for_every_dtype(tmp_path, name, dtype):
    """Every stored dtype travels unchanged through the two main formats, observed and hole pixels alike."""
    shape = (9, 7, 8) if ".nii" in name else (37, 29)
    scene = {"name": name, "dtype": dtype, "shape": shape, "channels": 2, "share": 0.2, "seed": 3}
    image, _ = _identity(tmp_path, scene)
    assert same_bytes(pixels(layer(tmp_path / "out" / "image", "restored")), pixels(image))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("dtype", "value"), [("uint8", 37), ("int16", -2001), ("float32", 0.1), ("float64", 12.25)])
def test_a_constant_field_gives_exactly_constant_holes(tmp_path, name, dtype, value):
    """Weights sum to exactly 1: blending one number gives that number, to the last bit; the rest is untouched."""
    shape = (14, 13, 15) if ".nii" in name else (50, 45)
    values = smooth((2, *shape), dtype)
    hole = blobs(shape, seed=1, n=5, radius=4).astype(bool)
    image = write_image(tmp_path / name, values)
    mask = write_image(tmp_path / ("mask.nii.gz" if len(shape) == 3 else "mask.tif"), hole[None].astype(np.uint8))
    model = {"kind": "constant", "options": {"value": value, "scale": 2.0}}
    outcome = command("run", run_config(tmp_path, image, mask, model=model), "--quiet")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out" / "image"
    restored = pixels(layer(folder, "restored"))
    expected = np.where(hole, np.asarray(value, dtype="float32").astype(dtype), values)
    assert same_bytes(restored, expected)
    assert set(np.unique(pixels(layer(folder, "source")))) == {0, 2}
    sigma = pixels(layer(folder, "uncertainty"))
    assert (sigma[:, hole] > 0).all()
    assert (sigma[:, ~hole] == 0).all()
    record = json.loads((folder / "record.json").read_text())
    assert record["holes"] == {
        "pixels": int(hole.sum()), "fraction": pytest.approx(hole.mean()), "planes": 1, "never_touched": 0,
        "doubted": 0,
        "hazy": 0,
        "by_source": {"network": int(hole.sum())}, "asked": int(hole.sum()), "filled": int(hole.sum()), "left": {},
        "account": f"all {hole.sum()} {'voxels' if '.nii' in name else 'pixels'} to restore were filled",
    }  # fmt: skip


def test_a_hole_larger_than_many_patches_is_constant_too(tmp_path):
    """Patches that see no observed pixel at all follow the model as well; nothing else shines through."""
    values = smooth((1, 130, 120), "float32")
    hole = np.zeros((130, 120), dtype=bool)
    hole[5:125, 8:] = True
    image = write_image(tmp_path / "image.tif", values)
    mask = write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    model = {"kind": "constant", "options": {"value": 3.25}}
    outcome = command("run", run_config(tmp_path, image, mask, model=model), "--quiet")
    assert outcome.code == 0, outcome.err
    restored = pixels(layer(tmp_path / "out" / "image", "restored"))
    assert same_bytes(restored, np.where(hole, np.float32(3.25), values))
