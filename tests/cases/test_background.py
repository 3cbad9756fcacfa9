"""The empty background of a volume of which one organ was kept: no evidence for holes that lie in the organ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.image.open import open_source
from pipeline.image.scene import Clock, Scene, open_scene
from pipeline.plan.refs import SourceRef
from tests.helpers import command, order_of, pixels, run_config, smooth
from tests.support_formats import write_nifti

SHAPE = (36, 36, 36)
GRID = np.stack(np.meshgrid(*(np.arange(n) - 18 for n in SHAPE), indexing="ij"))
ORGAN = np.sqrt((GRID**2).sum(axis=0)) < 15
VALUES = smooth(SHAPE, dtype="int16")
SURFACE = ORGAN & (np.sqrt(((GRID - 9) ** 2).sum(axis=0)) < 6)
"""A lesion at the surface of the organ."""


def opened(folder: Path, values: NDArray[np.generic], hole: NDArray[np.bool_], **given: object) -> tuple[Scene, str]:
    """Return a volume, opened with a drawn mask, and all that is said of it."""
    image, mask = folder / "head.nii.gz", folder / "mask.nii.gz"
    write_nifti(image, values)
    write_nifti(mask, hole.astype(np.uint8))
    scene, notices = open_scene(order_of(run_config(folder, image, mask, input=given)).job, Clock())
    return scene, "\n".join(notices)


def cut_out(background: int = 0) -> NDArray[np.int16]:
    """Return the organ alone."""
    return np.where(ORGAN, VALUES, background).astype(np.int16)


@pytest.mark.parametrize("background", [0, -7])
def test_an_empty_background_is_no_evidence_for_a_hole_at_the_surface(tmp_path: Path, background: int) -> None:
    """It is taken for nodata and that is said; holes stay what they are."""
    scene, said = opened(tmp_path, cut_out(background), SURFACE)
    assert (scene.states.holes, scene.states.never) == (SURFACE.sum(), (~ORGAN).sum())
    assert f"all around it is exactly {background} and what is to be restored is not" in said
    assert scene.values.low.min() > background


def test_what_is_restored_at_the_surface_is_like_the_organ(tmp_path: Path) -> None:
    """Half of the error, or less; the background and its header come back as they were."""
    image, mask, errors = tmp_path / "head.nii.gz", tmp_path / "mask.nii.gz", {}
    write_nifti(image, np.where(SURFACE, VALUES // 2, cut_out()).astype(np.int16))
    write_nifti(mask, SURFACE.astype(np.uint8))
    for nodata in ("auto", "none"):
        config = run_config(tmp_path, image, mask, input={"nodata": nodata}, model={"kind": "tension"})
        assert command("run", config, "--overwrite").code == 0
        (restored,) = tmp_path.rglob("*_restored.nii.gz")
        found = pixels(restored)[0]
        errors[nodata] = np.abs(found.astype(float) - pixels_of(VALUES))[pixels_of(SURFACE)].mean()
        assert (found == pixels(image)[0])[pixels_of(~SURFACE)].all()
    assert errors["auto"] < 0.5 * errors["none"]
    assert command("verify", restored.parent).code == 0


def pixels_of(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return values `(x, y, z)` as they are read, `(z, y, x)`."""
    return np.ascontiguousarray(values.T)


def test_blanked_voxels_do_not_say_where_the_organ_ends(tmp_path: Path) -> None:
    """Nothing is changed, and the notice says what to write if they lie in it."""
    scene, said = opened(tmp_path, np.where(SURFACE, 0, cut_out()), SURFACE)
    assert scene.states.never == 0
    assert "write `input.nodata: 0`" in said


@pytest.mark.parametrize(
    ("values", "hole"),
    [
        pytest.param(cut_out(), ORGAN & (np.sqrt((GRID**2).sum(axis=0)) < 6), id="deep inside"),
        pytest.param(np.where(GRID[2] == 3, 0, cut_out()), GRID[2] == 3, id="a lost slice"),
        pytest.param(cut_out(), np.sqrt(((GRID - 9) ** 2).sum(axis=0)) < 6, id="across the surface"),
        pytest.param(np.where(ORGAN, VALUES, VALUES % 5), SURFACE, id="noise around"),
        pytest.param(np.stack([cut_out(), VALUES], axis=-1), SURFACE, id="cut out in one channel only"),
    ],
)
def test_elsewhere_it_is_evidence(tmp_path: Path, values: NDArray[np.generic], hole: NDArray[np.bool_]) -> None:
    """Where holes do not reach it, or reach across, and where it is no background, all is as it was."""
    scene, said = opened(tmp_path, values.astype(np.int16), hole)
    assert scene.states.never == 0
    assert "all around it" not in said


@pytest.mark.parametrize(("soft", "never"), [(False, True), (True, False)])
def test_a_piece_of_an_organ_has_a_background_if_the_organ_ends_at_once(
    tmp_path: Path, soft: bool, never: bool
) -> None:
    """Cut through its middle, a face shows the organ; air that fades into exactly 0 around a head is no background."""
    depth = np.clip((15 - np.sqrt((GRID**2).sum(axis=0))) / 8, 0, 1) if soft else 1
    scene, _ = opened(tmp_path, (cut_out() * depth).astype(np.int16)[13:], SURFACE[13:])
    assert (scene.states.never > 0) == never


def test_channels_share_a_background_whatever_each_holds_in_it(tmp_path: Path) -> None:
    """A voxel of the organ in which one channel holds that value stays evidence, and channels keep one state."""
    other = np.where(ORGAN, VALUES + 50, -3).astype(np.int16)
    dark = ORGAN & ~SURFACE & (GRID[0] == -5)
    other[dark] = -3
    scene, said = opened(tmp_path, np.stack([cut_out(), other], axis=-1), SURFACE)
    assert (scene.states.n_state, scene.states.never) == (1, (~ORGAN).sum())
    assert "all around it is exactly 0 / -3 and what is to be restored is not" in said


def test_blanked_in_one_channel_lies_in_the_organ_by_another(tmp_path: Path) -> None:
    """A lesion that is blanked in the channel to restore has values of its own in the other."""
    values = np.stack([np.where(SURFACE, 0, cut_out()), cut_out() + 1], axis=-1).astype(np.int16)
    scene, _ = opened(tmp_path, values, SURFACE)
    assert scene.states.never == (~ORGAN).sum()


def test_a_background_is_no_hole_for_the_mask_that_picks_nodata(tmp_path: Path) -> None:
    """Beside a drawn mask `kind: nodata` restores what is NaN, and no voxel around the organ."""
    image, mask = tmp_path / "head.nii.gz", tmp_path / "mask.nii.gz"
    values = cut_out().astype(np.float32)
    lost = ORGAN & (GRID[2] == -3) & (GRID[0] < -8)
    values[lost] = np.nan
    write_nifti(image, values)
    write_nifti(mask, SURFACE.astype(np.uint8))
    config = run_config(tmp_path, image, mask, mask=[{"kind": "raster", "path": str(mask)}, {"kind": "nodata"}])
    scene, _ = open_scene(order_of(config).job, Clock())
    assert (scene.states.holes, scene.states.never) == ((SURFACE | lost).sum(), (~ORGAN).sum())


def test_filling_all_nodata_fills_no_background(tmp_path: Path) -> None:
    """`fill_nodata: all` speaks of what was not observed in the organ."""
    values = cut_out().astype(np.float32)
    lost = ORGAN & (GRID[2] == -3)
    values[lost] = np.nan
    scene, _ = opened(tmp_path, values, SURFACE, fill_nodata="all")
    assert (scene.states.holes, scene.states.never) == ((SURFACE | lost).sum(), (~ORGAN).sum())


def test_a_background_needs_no_second_look_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is opened once, so that nothing of it stays open."""
    opened_files: list[object] = []
    monkeypatch.setattr("pipeline.image.scene.open_source", lambda ref: opened_files.append(ref) or open_source(ref))
    scene, _ = opened(tmp_path, cut_out(), SURFACE)
    assert scene.states.never
    assert len(opened_files) == 1


@pytest.mark.parametrize(("given", "nodata"), [("none", None), (5, 5)])
def test_what_the_user_says_of_nodata_counts(tmp_path: Path, given: object, nodata: float | None) -> None:
    """`none` takes the background for measured; another value is nodata alone."""
    scene, said = opened(tmp_path, cut_out(), SURFACE, nodata=given)
    ref: SourceRef = scene.job.source
    assert (ref.nodata == nodata) if nodata else np.isnan(ref.nodata)
    assert "all around it" not in said
