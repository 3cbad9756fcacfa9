"""The command on real images: run, verify, and what each of them is there to show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.output.verify import verify
from pipeline.run import run

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def restore(folder: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """Run a config with a classical fill (weights are tested elsewhere), verify it, and return record and folder."""
    path = folder / "run.json"
    path.write_text(json.dumps({"model": {"kind": "tension"}, "output": {"directory": "out"}} | settings))
    summary = run(path)
    image = folder / "out" / summary["sources"][0]["directory"]
    checks = verify(image)
    assert all(check.held for check in checks), checks
    return json.loads((image / "record.json").read_text()), image


def whole(path: Path) -> np.ndarray[Any, Any]:
    """Read a file at once."""
    image = open_any(str(path))
    return image.read(Box.whole(image.space.shape))


def output(image: Path, record: dict[str, Any], role: str) -> Path:
    """Return the path of an output."""
    return image / next(o["path"] for o in record["outputs"] if o["role"] == role)


def test_nodata_around_a_scene_stays_untouched(data_dir: Path, tmp_path: Path) -> None:
    """Clouds of the rotated scene are restored; the nodata frame around it is not."""
    source = data_dir / "satellite/rgb_bahamas_nodata/RGB.byte.tif"
    record, image = restore(
        tmp_path,
        {
            "input": {"source": str(source)},
            "mask": [{"kind": "threshold", "band": 1, "above": 150, "buffer": "2 px"}],
        },
    )
    before, after = whole(source), whole(output(image, record, "restored"))
    frame = (before == 0).all(axis=0)
    codes = whole(output(image, record, "source"))
    assert frame.mean() > 0.3
    assert (after[:, frame] == 0).all()
    assert (codes[:, frame] == 255).all()
    assert record["holes"]["by_source"]["classical"] == int((codes == 1).sum()) > 10_000


def test_lost_slices_of_one_volume_of_a_series(data_dir: Path, tmp_path: Path) -> None:
    """Only the volume that lost slices is restored; the others come back bit for bit."""
    source = data_dir / "medical/chris_head/pcasl.nii.gz"
    mask = [{"kind": "slices", "slices": [9, 10], "axis": "k", "volumes": [3]}]
    record, image = restore(tmp_path, {"input": {"source": str(source)}, "mask": mask})
    before, after = whole(source), whole(output(image, record, "restored"))
    changed = np.argwhere((before != after).any(axis=(2, 3)))
    assert {tuple(row) for row in changed} == {(3, 9), (3, 10)}
    error = (after[3, 9:11] - before[3, 9:11]).std()
    assert error < 0.5 * before[3, 9:11].std()


def test_dense_material_in_ct(data_dir: Path, tmp_path: Path) -> None:
    """Hounsfield units above a threshold are replaced by values of the tissue around."""
    source = data_dir / "medical/ct_abdomen/example_ct.nii.gz"
    mask = [{"kind": "threshold", "above": 1500, "physical": True, "buffer": "6 mm"}]
    record, image = restore(tmp_path, {"input": {"source": str(source)}, "mask": mask})
    after = whole(output(image, record, "restored"))
    assert after.dtype == np.int32
    assert after.max() <= 1500


def test_an_auxiliary_on_another_grid_is_refused(data_dir: Path, tmp_path: Path) -> None:
    """Unregistered sequences of one patient are not mixed up in silence: both grids are printed."""
    raw = data_dir / "medical/ms_long_patient01_raw"
    settings = {
        "input": {
            "source": str(raw / "study1_T1W.nii.gz"),
            "auxiliary": [{"path": str(raw / "study1_FLAIR.nii.gz")}],
        },
        "mask": [{"kind": "slices", "slices": [12], "axis": "k"}],
    }
    with pytest.raises(ConfigError, match=r"(?s)another grid.*\(39, 320, 320\).*\(36, 320, 320\).*resample: true"):
        restore(tmp_path, settings)
    assert not list((tmp_path / "out/study1_T1W").glob("*restored*"))
