"""Values near the ends of their type: a run restores, reports and keeps what was observed to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import blobs, command, pixels, result_hash, run_config, smooth, write_image

SHAPE = (40, 40)


def _field(low: int | float, high: int | float, dtype: str) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    share = (2 + np.sin(y / 5) + np.cos(x / 7)) / 4
    if np.dtype(dtype).kind == "f":
        return (low + share * (high - low)).astype(dtype)[None]
    # whole numbers of 64 bits are beyond float64
    steps = np.rint(share * 50).astype(int)
    return np.array([[low + int(n) * (high - low) // 50 for n in row] for row in steps], dtype)[None]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("int64", 2**60, 2**60 + 50),
        ("uint64", 2**64 - 51, 2**64 - 1),
        ("uint64", 0, 2**64 - 1),
        ("float32", 1e-44, 1e-42),
        ("float64", 1e-320, 1e-318),
    ],
)
def test_values_near_the_ends_of_their_type(tmp_path, dtype, low, high):
    """No error, no warning of a library, and a standard error no smaller than what float64 rounds away."""
    values = _field(low, high, dtype)
    image = write_image(tmp_path / "image.tif", values)
    hole = blobs(SHAPE, n=2, radius=4)
    config = run_config(tmp_path, image, write_image(tmp_path / "mask.tif", hole[None]))
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out" / "image"
    made, sigma = (pixels(folder / f"image_{name}.tif")[0] for name in ("restored", "uncertainty"))
    assert made.dtype == values.dtype
    assert (made == values[0])[hole == 0].all()
    if np.dtype(dtype).kind in "iu" and low:
        assert (sigma[hole == 1] >= np.spacing(float(low)) / 4).all()
    assert command("verify", tmp_path / "out").code == 0


@pytest.mark.parametrize("role", ["references", "auxiliary"])
@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "tif"), ("float64", "tif"), ("float16", "zarr")])
def test_fill_values_that_nobody_declared_in_a_guide_are_missing_values(tmp_path, role, dtype, suffix):
    """A few made all of it useless, with a warning of numpy, or came through to the holes below them.

    In half precision they are infinite: no finite value is too large there.
    """
    hole = blobs(SHAPE, n=2, radius=4)
    image = write_image(tmp_path / "image.tif", smooth((1, *SHAPE)))
    mask = write_image(tmp_path / "mask.tif", hole[None])
    y, x = np.argwhere(hole)[0]
    made = []
    for missing in (np.finfo(dtype).min if suffix == "tif" else -np.inf, np.nan):
        values = (1.5 * smooth((1, *SHAPE)) + 20).astype(dtype)
        values[:, y, x] = values[:, :2] = missing
        guide = write_image(tmp_path / f"guide{len(made)}.{suffix}", values)
        config = run_config(tmp_path, image, mask, input={role: [{"path": str(guide), "mask": []}]})
        outcome = command("run", config, "--overwrite")
        assert outcome.code == 0, outcome.err
        assert "Warning:" not in outcome.err
        made.append(result_hash(tmp_path / "out" / "image"))
        source = pixels(tmp_path / "out" / "image" / "image_source.tif")[0]
        assert (source[hole == 1] >= 10).any()
    assert made[0] == made[1]
