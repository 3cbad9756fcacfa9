"""Slices that look lost are named with the entry that restores them, by `inspect`, `config new` and a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import load_config
from pipeline.formats import open_any
from pipeline.image.lost import Lost, look_lost
from pipeline.testing import ArraySource, volume_space
from tests.helpers import blobs, command, layer, run_config, smooth, write_image

SHAPE = (24, 20, 22)


def _head(n: int = 1, dtype: str = "int16") -> np.ndarray:
    """An ellipsoid of tissue in air of 0, which leaves the slices at all ends empty."""
    values = smooth((n, *SHAPE), dtype)
    grid = np.meshgrid(*(np.linspace(-1.2, 1.2, size) for size in SHAPE), indexing="ij")
    return np.where(sum(axis**2 for axis in grid) < 1, values, 0).astype(dtype)


def _found(values: np.ndarray) -> dict[str, dict[int, dict[int, str]]]:
    source = ArraySource(values=values, space=volume_space(SHAPE))
    return {lost.axis: lost.slices for lost in look_lost(source) if lost.slices}


def test_a_sound_volume_lost_nothing():
    """Empty slices at the ends, a gap between two things and slices that were repeated are none."""
    assert _found(_head()) == {}
    assert _found(np.zeros((1, *SHAPE), np.int16)) == {}
    two = _head()
    two[:, 9:14] = 0
    assert _found(two) == {}
    repeated = np.repeat(_head()[:, ::2], 2, axis=1)
    assert _found(repeated) == {}
    mask = (_head() > 0).astype(np.int16)
    mask[:, 12] = 0
    assert _found(mask) == {}


@pytest.mark.parametrize(("axis", "name"), [(1, "k"), (2, "j"), (3, "i")])
def test_each_way_to_lose_a_slice_is_found(axis, name):
    """Along any axis, up to three in a row, one value or none, a copy or far too dark."""
    values = np.moveaxis(_head(dtype="float32"), axis, 0)
    values[6:9] = 0
    values[10] = np.nan
    values[12] = values[11]
    values[14] *= 0.3
    assert _found(np.moveaxis(values, 0, axis)) == {
        name: {0: {6: "0 all over", 7: "0 all over", 8: "0 all over", 10: "no value", 12: "a copy of slice 11",
                   14: "far darker than those beside it"}}
    }  # fmt: skip


@pytest.mark.parametrize("voxels", [1, 50, 22 * 7, 22 * 20 * 5])
def test_what_is_found_does_not_depend_on_how_much_is_looked_at_together(voxels, monkeypatch):
    """Large slices are cut into strips, so that a volume of few of them takes no more memory than others."""
    values = np.concatenate([_head(dtype="float32"), _head(dtype="float32") + 1])
    values[0, 6], values[1, 12], values[:, :, 9], values[:, :, :, 8] = 0, values[1, 11], values[:, :, 8], np.nan
    found = _found(values)
    assert {name: {volume: list(lost) for volume, lost in one.items()} for name, one in found.items()} == {
        "k": {0: [6], 1: [12]},
        "j": {0: [9], 1: [9]},
        "i": {0: [8], 1: [8]},
    }
    monkeypatch.setattr("pipeline.image.lost._AT_ONCE", voxels)
    assert _found(values) == found


def test_codes_with_voxels_without_a_value_are_codes(monkeypatch):
    """Slices of a label map may well be alike; what has no value is no code of its own each time that it is met."""
    labels = (_head() > 0).astype(np.float32)
    labels[:, :, :2] = np.nan
    labels[:, 12] = 0
    monkeypatch.setattr("pipeline.image.lost._AT_ONCE", 1)
    assert _found(labels) == {}


def test_commands_name_lost_slices(tmp_path: Path):
    """With the entry as it has to stand in a config; nothing is marked by itself, and what is marked is not named."""
    values = _head()
    values[:, 11] = 0
    image = write_image(tmp_path / "head.nii.gz", values)
    mask = write_image(tmp_path / "lesion.nii.gz", blobs(SHAPE, seed=1, n=1, radius=3)[None])
    said = "slice 11 (0 all over) along k looks lost, counted from 0"
    entry = "{kind: slices, slices: [11], axis: k}"
    assert said in command("inspect", image).out
    started = command("config", "new", image, "-o", tmp_path / "new.yaml")
    assert "some slices look lost, see its comments" in started.err + started.out
    text = (tmp_path / "new.yaml").read_text()
    assert f"  # - {entry}   # look lost" in text
    config = run_config(tmp_path, image, mask)
    assert said in command("plan", config).out
    assert command("run", config, "--quiet").code == 0
    notices = json.loads((tmp_path / "out" / "head" / "record.json").read_text())["notices"]
    assert [note for note in notices if note.endswith(f"and no mask marks it; if so, restore it with {entry}")]
    assert not layer(tmp_path / "out" / "head", "source").read(_plane(11)).all()
    (tmp_path / "new.yaml").write_text(text.replace(f"  # - {entry}", f"  - {entry}"))
    assert load_config(tmp_path / "new.yaml").mask
    table = json.loads(command("plan", tmp_path / "new.yaml", "--json").out)
    assert table["images"][0]["holes"] > 0
    assert not [note for note in table["images"][0]["notices"] if "lost" in note]


def _plane(k: int):
    from pipeline.geometry.box import Box

    return Box((k, 0, 0), (k + 1, *SHAPE[1:]))


def test_a_damaged_volume_is_looked_at_as_far_as_it_goes(tmp_path: Path):
    """Its header is shown, with what is wrong; a start config is written."""
    image = write_image(tmp_path / "head.nii.gz", _head())
    image.write_bytes(image.read_bytes()[:-400])
    table = json.loads(command("inspect", image, "--json").out)
    assert table["grid"].startswith(f"shape {SHAPE}")
    assert "head.nii.gz" in table["notices"][-1]
    assert command("config", "new", image, "-o", tmp_path / "new.yaml").code == 0


def test_of_a_part_slices_have_their_numbers_in_the_file(tmp_path: Path):
    """The entry that is named counts there, too; of a series the volumes are named."""
    values = _head(3)
    values[1, 11] = 7
    image = write_image(tmp_path / "head.nii", values)
    mask = write_image(tmp_path / "lesion.nii", blobs(SHAPE, seed=1, n=1, radius=3)[None])
    config = run_config(tmp_path, image, mask, input={"region": {"k": [4, 20]}})
    notices = json.loads(command("plan", config, "--json").out)["images"][0]["notices"]
    assert [n for n in notices if "slice 11 (7 all over) along k of volume 1 looks lost" in n], notices
    assert [n for n in notices if n.endswith("{kind: slices, slices: [11], axis: k, volumes: [1]}")]
    assert open_any(str(image)).n_channels == 3


def test_of_a_long_series_some_are_told():
    """A notice for each of a hundred volumes would hide all others; the entries are those of all."""
    lost = Lost(axis="k", slices={volume: {volume: "0 all over"} for volume in range(100)})
    said = lost.sentences(series=True)
    assert len(said) == 5
    assert said[-1] == "slices along k of 96 more volumes look lost, too"
    assert len(lost.texts(series=True)) == len(lost.entries()) == 100


def test_no_real_volume_looks_as_if_it_lost_a_slice(data_dir: Path):
    """Heads, raw and stripped, thick and thin, and a CT."""
    images = [path for path in sorted(data_dir.glob("medical/**/*.nii.gz")) if not _is_mask(path)]
    assert images
    for path in images[:: max(1, len(images) // 6)]:
        source = open_any(str(path))
        assert [lost for lost in look_lost(source) if lost.slices] == [], path


def _is_mask(path: Path) -> bool:
    return any(
        word in path.name.lower() for word in ("mask", "label", "lesion", "gt", "seg", "multiclass", "consensus")
    )
