"""Which weights an image gets by itself: computed tomography is told from everything else by its numbers."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.formats import open_any
from pipeline.models import _choice
from pipeline.models._choice import HOUNSFIELD, ModelChoice, auto_weights, by_holes, hounsfield
from pipeline.models.base import Card, Shipped
from pipeline.synthetic.body import body_volume
from pipeline.synthetic.brain import brain_volume
from tests.helpers import write_image

RNG = np.random.default_rng(0)
BODY = body_volume((16, 56, 64), seed=1)


def _padded() -> np.ndarray:
    """A scanner's round field of view in a square image."""
    body = BODY.copy()
    body[:, :8, :8] = -3024
    return body


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (BODY, True),
        (_padded(), True),
        (np.where(BODY > 900, 3071, BODY), True),
        (brain_volume((32, 40, 32), seed=1).truth, False),
        (RNG.normal(0, 1000, 10_000), False),
        (RNG.uniform(-4096, 4095, 10_000), False),
        (RNG.uniform(-1000, 0, 0), False),
        (np.full(100, -2000.0), False),
        (BODY + 1024, False),
    ],
    ids=["body", "padding", "metal", "mr", "standardised", "phase", "empty", "padding only", "not calibrated"],
)
def test_hounsfield_units_are_recognised(values, expected):
    """Air and soft tissue where they belong, next to nothing below."""
    assert hounsfield(np.asarray(values, dtype=np.float64)) is expected


@pytest.fixture
def cards(monkeypatch):
    """Weights for MR and CT as if they were shipped."""
    made = [
        Shipped(name=name, ndim=3, path=Path(name), card=Card(name=name, ndim=3, suits=suits, sha256="0" * 12))
        for name, suits in (("bones", HOUNSFIELD), ("t1", ""))
    ]
    monkeypatch.setattr(_choice, "shipped", lambda: tuple(made))
    return made


def _nifti(path: Path, stored: np.ndarray, intercept: float = 0.0) -> Path:
    image = nib.Nifti1Image(stored.transpose(2, 1, 0), np.eye(4))
    image.header.set_slope_inter(1, intercept)
    image.to_filename(path)
    return path


def test_volumes_get_weights_by_their_numbers(tmp_path, cards):
    """The file's slope and intercept count: stored values alone say nothing."""
    shifted = (BODY.astype(np.int32) + 1024).astype(np.uint16)
    assert auto_weights(open_any(str(_nifti(tmp_path / "ct.nii.gz", BODY)))) == ("bones",)
    assert auto_weights(open_any(str(_nifti(tmp_path / "shift.nii", shifted, -1024.0)))) == ("bones",)
    assert auto_weights(open_any(str(_nifti(tmp_path / "mr.nii", shifted)))) == ("t1",)


def test_without_weights_for_it_ct_gets_the_default(tmp_path, cards):
    """The self-test decides whether they are of use."""
    del cards[0]
    assert auto_weights(open_any(str(_nifti(tmp_path / "ct.nii.gz", BODY)))) == ("t1",)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ct_abdomen/example_ct.nii.gz", True),
        ("ms_patient07_mni/T1.nii.gz", False),
        ("ms_patient19_mni/FLAIR.nii.gz", False),
        ("brats2013_pat0003/Flair_subtrMeanDivStd.nii.gz", False),
        ("oasis_t1_brains/1000_SS.nii.gz", False),
        ("tumour_t1c_thick/brain1_image.nii.gz", False),
        ("chris_head/pcasl.nii.gz", False),
        ("chris_head/chris_PD.nii.gz", False),
        ("ms_long_patient01_raw/study1_T2W.nii.gz", False),
        ("child_head_t1/sag_anon_t1.nii.gz", False),
    ],
)
def test_real_volumes_are_told_apart(data_dir, cards, path, expected):
    """Contrasts, scanners and ways of normalising."""
    assert (auto_weights(open_any(str(data_dir / "medical" / path))) == ("bones",)) is expected


def test_rasters_get_small_weights_unless_holes_are_thin(tmp_path):
    """A twentieth of the hole pixels decides; where one file is named nobody looks at the holes."""
    image = open_any(str(write_image(tmp_path / "image.tif", np.ones((1, 8, 8), np.float32))))
    files = ModelChoice().weights_files(image)
    assert [path.stem for path in files] == ["optical", "optical_small"]
    assert [by_holes(files, lambda share=share: share).stem for share in (0.0, 0.04, 0.05, 1.0)] == [
        "optical_small", "optical_small", "optical", "optical",
    ]  # fmt: skip
    assert by_holes(ModelChoice(weights="optical").weights_files(image), pytest.fail).stem == "optical"
    assert by_holes(ModelChoice(kind="tension").weights_files(image), pytest.fail) is None
