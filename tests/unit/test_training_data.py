"""Training data: fixed validation cases, honest hold-outs, drawn tensions, augmentation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from ruamel.yaml import YAML

from pipeline.errors import ConfigError
from pipeline.training.config import Augment, read_config
from pipeline.training.data import HOLE, NORMALISED, TARGET, VALID, _base_fill, augmented, samples

SMALL = {
    "name": "small",
    "masks": {"points": 1, "cloud": 1},
    "kriging": {},
    "train": [{"synthetic": "optical", "count": 2}],
    "tile": 48,
    "patch": 32,
    "masks_per_tile": 2,
    "bands_per_mask": 1,
    "network": {"widths": [8, 12]},
    "output": "small.safetensors",
    "cache": "cache",
}


def _config(folder: Path, **changes: object) -> Path:
    path = folder / "train.yaml"
    with path.open("w") as file:
        YAML().dump(SMALL | changes, file)
    return path


def _image(path: Path, shape: tuple[int, int], seed: int = 0) -> None:
    values = np.random.default_rng(seed).normal(1000, 100, (2, *shape)).astype(np.int16)
    with rasterio.open(path, "w", driver="GTiff", count=2, height=shape[0], width=shape[1], dtype="int16") as file:
        file.write(values)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_validation_cases_outlive_the_cache_and_other_data(tmp_path):
    """Time of change, a new cache and other training images leave every validation case bit for bit."""
    _image(tmp_path / "held.tif", (100, 100))
    held = [{"paths": ["held.tif"], "contrast": 0}]
    first = _config(tmp_path, validate_on=held)
    before = [(s.family, s.box, s.planes().copy()) for s in samples(read_config(first), first)[1]]
    assert {family for family, _, _ in before} == {"points", "cloud"}
    shutil.rmtree(tmp_path / "cache")
    os.utime(tmp_path / "held.tif", (1, 1))
    again = _config(tmp_path, validate_on=held, masks_per_tile=3, train=[{"synthetic": "optical", "count": 3}])
    after = [(s.family, s.box, s.planes()) for s in samples(read_config(again), again)[1]]
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        assert one[:2] == other[:2]
        assert np.array_equal(one[2], other[2])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_single_image_holds_out_pixels_not_only_holes(tmp_path):
    """Tiles validated on overlap no tile trained on."""
    _image(tmp_path / "mine.tif", (130, 170))
    path = _config(tmp_path, train=[{"paths": ["mine.tif"], "contrast": 0}])
    training, held = samples(read_config(path), path)
    assert training
    assert held
    assert all((a.box & b.box).empty for a in training for b in held)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_two_views_of_a_scene_are_held_out_together(tmp_path):
    """A coarser copy of a held-out scene is not trained on."""
    for k in range(3):
        _image(tmp_path / f"scene{k}.tif", (100, 100), k)
    parts = [{"paths": ["scene*.tif"], "contrast": 0}, {"paths": ["scene*.tif"], "contrast": 0, "zoom": [2, 2]}]
    path = _config(tmp_path, train=parts)
    training, held = samples(read_config(path), path)
    assert {s.scene for s in held} == {f"{tmp_path.name}/scene0.tif"}
    assert {s.scene for s in training} == {f"{tmp_path.name}/scene{k}.tif" for k in (1, 2)}
    assert {s.box.shape for s in training} == {(48, 48), (96, 96)}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_changed_mask_makes_samples_anew(tmp_path):
    """The cache knows the files of masks, too: what a new mask hides is not trained on."""
    _image(tmp_path / "mine.tif", (100, 100))
    part = {"paths": ["mine.tif"], "contrast": 0, "observed": 0.3, "masks": [{"kind": "raster", "path": "clouds.tif"}]}
    path = _config(tmp_path, train=[part])
    shares = []
    for columns in (10, 30):
        clouds = np.zeros((1, 100, 100), np.uint8)
        clouds[..., :columns] = 1
        with rasterio.open(
            tmp_path / "clouds.tif", "w", driver="GTiff", count=1, height=100, width=100, dtype="uint8"
        ) as file:
            file.write(clouds)
        made = [s.planes() for s in samples(read_config(path), path)[0] if s.box.start[1] == 0]
        assert made
        shares.append({int(((planes[VALID] == 0) & (planes[HOLE] == 0)).all(axis=0).sum()) for planes in made})
    assert shares == [{10}, {30}]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_clouded_tiles_are_used_when_enough_of_them_is_observed(tmp_path):
    """`observed` says how much; the message of an empty set names the key; masks lie beside the config."""
    _image(tmp_path / "mine.tif", (100, 100))
    with rasterio.open(
        tmp_path / "clouds.tif", "w", driver="GTiff", count=1, height=100, width=100, dtype="uint8"
    ) as file:
        file.write((np.random.default_rng(1).random((1, 100, 100)) < 0.3).astype(np.uint8))
    part = {"paths": ["mine.tif"], "contrast": 0, "masks": [{"kind": "raster", "path": "clouds.tif"}]}
    strict = _config(tmp_path, train=[part])
    with pytest.raises(ConfigError, match="observed"):
        samples(read_config(strict), strict)
    lax = _config(tmp_path, train=[part | {"observed": 0.5}])
    training, _ = samples(read_config(lax), lax)
    assert training
    for sample in training:
        planes = sample.planes().astype(np.float32)
        unknown = (planes[VALID] == 0) & (planes[HOLE] == 0)
        assert 0.2 < unknown.mean() < 0.4
        # filled by the spline, as in a run: a constant there would show
        assert planes[NORMALISED][unknown].std() > 0.2
        assert not planes[TARGET][unknown].any()


def test_tensions_are_drawn_for_training_and_fixed_for_validation(tmp_path):
    """Within the family's range; the middle of it where scores are compared."""
    config = read_config(_config(tmp_path, tensions={"points": [0.6, 1.0]}))
    rng = np.random.default_rng(0)
    drawn = {_base_fill(config, "points", (1.0, 1.0), rng).options["t"] for _ in range(20)}
    assert len(drawn) > 10
    assert min(drawn) >= 0.6
    assert max(drawn) <= 1.0
    assert _base_fill(config, "points", (1.0, 1.0), None).options == {"t": 0.8}
    assert "t" not in _base_fill(config, "cloud", (1.0, 1.0), rng).options


def test_thin_holes_are_kriged_in_part_and_validated_apart(tmp_path):
    """Both fills that self-tests choose are trained on, and each has validation cases of its own."""
    path = _config(tmp_path, kriging={"points": 0.5})
    config = read_config(path)
    rng = np.random.default_rng(0)
    assert {_base_fill(config, "points", (1.0, 1.0), rng).kind for _ in range(20)} == {"tension", "kriging"}
    assert {_base_fill(config, "cloud", (1.0, 1.0), rng).kind for _ in range(20)} == {"tension"}
    assert {s.family for s in samples(config, path)[1]} == {"cloud", "points", "points kriged"}
    assert _base_fill(config, "points kriged", (1.0, 1.0), None).kind == "kriging"
    assert _base_fill(config, "points", (1.0, 1.0), None).kind == "tension"


def test_thick_voxels_meet_both_units_of_length(tmp_path):
    """Self-tests may count length in voxels or in mm, so training has both."""
    config = read_config(_config(tmp_path, ndim=3, masks={"blobs": 1}, patch=16, tile=24))
    rng = np.random.default_rng(0)
    assert {_base_fill(config, "blobs", (4.0, 1.0, 1.0), rng).options["isotropic"] for _ in range(20)} == {True, False}
    assert "isotropic" not in _base_fill(config, "blobs", (1.0, 1.0, 1.0), rng).options


def test_augmentation_changes_tone_sharpness_and_noise_of_observed_pixels_only():
    """Order of brightness survives the tone curve, blur smooths, noise roughens, the rest stays."""
    rng = np.random.default_rng(0)
    values = rng.normal(100, 10, (1, 40, 40)).astype(np.float32)
    observed = np.ones(values.shape, dtype=bool)
    observed[:, :5] = False
    extent = np.array([50], np.float32)

    def changed(**limits: float) -> np.ndarray:
        how = Augment(share=1, **({"gamma": 0, "noise": 0, "blur": 0} | limits))
        return augmented(values, observed, extent, how, np.random.default_rng(3))

    tone, soft, noisy = changed(gamma=1), changed(blur=2), changed(noise=0.2)
    for result in (tone, soft, noisy):
        assert np.array_equal(result[:, :5], values[:, :5])
        assert not np.allclose(result[observed], values[observed])
    order = np.argsort(values[observed])
    assert (np.diff(tone[observed][order]) >= 0).all()
    assert soft[observed].std() < 0.7 * values[observed].std()
    assert noisy[observed].std() > values[observed].std()
    none = augmented(values, observed, extent, Augment(share=0), rng)
    assert np.array_equal(none, values)


def test_samples_of_easy_images_are_left_out(tmp_path):
    """Every stored sample has an error to learn from."""
    path = _config(tmp_path)
    training, held = samples(read_config(path), path)
    for sample in training + held:
        planes = sample.planes().astype(np.float32)
        assert np.abs(planes[TARGET][planes[HOLE] > 0]).mean() > 0.009


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"region": [0.5, 0.5, 0.4, 0.4]}, r"region \[0\.5, 0\.5, 0\.4, 0\.4\]: must be 4 fractions of .*held\.tif"),
        ({"region": [0, 0, 1]}, r"region \[0\.0, 0\.0, 1\.0\]: must be 4 fractions"),
        ({"region": [0, 0, 2, 2]}, "must be 4 fractions"),
        ({"zoom": 0}, r"zoom \[0, 0\]: must be 1 or more for each of the 2 dimensions"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_part_of_an_image_must_be_one(tmp_path, entry, said):
    """A wrong region was said to have no clean tile, or ended as a bug."""
    _image(tmp_path / "held.tif", (60, 60))
    path = _config(tmp_path, train=[{"paths": ["held.tif"], "contrast": 0, **entry}])
    with pytest.raises(ConfigError, match=said):
        samples(read_config(path), path)


def _cut(folder: Path) -> None:
    array = next(folder.glob("*/*.npy"))
    array.write_bytes(array.read_bytes()[:-100])


def _other(folder: Path) -> None:
    next(folder.glob("*/index.json")).write_text('[{"file": 5}]')


def _half(folder: Path) -> None:
    index = next(folder.glob("*/index.json"))
    index.write_bytes(index.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [_cut, _other, _half, lambda folder: next(folder.glob("*/*.npy")).unlink()])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_damaged_cache_is_made_again(tmp_path, damage, caplog):
    """The same samples as before, and a line that says so; a training ended as a bug."""
    _image(tmp_path / "held.tif", (60, 60))
    held = [{"paths": ["held.tif"], "contrast": 0}]
    path = _config(tmp_path, train=held, validate_on=held, masks={"points": 1})
    before = [sample.planes().tobytes() for part in samples(read_config(path), path) for sample in part]
    damage(tmp_path / "cache")
    again = [sample.planes().tobytes() for part in samples(read_config(path), path) for sample in part]
    assert again == before
    assert "is damaged, and made again" in caplog.text


def test_a_cache_that_cannot_be_made_is_the_config_s(tmp_path):
    """A file lies where its folder would."""
    (tmp_path / "cache").write_text("mine")
    path = _config(tmp_path)
    with pytest.raises(ConfigError, match=r"cache: cannot make .* name another folder"):
        samples(read_config(path), path)
