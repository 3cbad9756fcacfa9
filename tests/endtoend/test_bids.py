"""A BIDS data set from end to end: what `bids` makes of it is valid, opens elsewhere, replaces nothing of others."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pytest

from pipeline.config.bids import Derivation, bids_image
from pipeline.output.dataset import add_derivatives
from tests.helpers import Outcome, command
from tests.support_bids import LOST, VOLUMES, lesion, write_data_set

CHEAP = ("--set", "model.kind=harmonic", "--set", "compute.executor=serial")
ONE = "sub-01/ses-1/anat/sub-01_ses-1"
SERIES = "sub-01/ses-1/func/sub-01_ses-1_task-rest"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Return the folder with the data set `heads` and its derivatives `out`, both levels done, and what was said."""
    folder = tmp_path_factory.mktemp("bids")
    write_data_set(folder / "heads")
    outcome = command("bids", folder / "heads", folder / "out", "participant", *CHEAP)
    assert outcome.code == 0, outcome.err
    assert command("bids", folder / "heads", folder / "out", "group").code == 0
    return folder, outcome


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _values(path: Path) -> Any:
    return np.asarray(nibabel.load(path).dataobj)


def _resolved(uri: str, target: Path) -> Path:
    """Return the file that a BIDS URI of a derivative means."""
    _, name, within = uri.split(":")
    links = _json(target / "dataset_description.json")["DatasetLinks"]
    return target / (links[name] if name else "") / within


def test_the_validator_has_nothing_to_object(finished):
    """Neither errors nor warnings, but that nobody is named as author."""
    folder, _ = finished
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    validator = shutil.which("bids-validator-deno", path=places)
    assert validator, "bids-validator-deno is in the dependency group `test`"
    done = subprocess.run([validator, folder / "out", "--format", "json"], capture_output=True, check=False)
    report = json.loads(done.stdout)
    issues = {(issue["severity"], issue["code"], issue["location"]) for issue in report["issues"]["issues"]}
    assert issues == {("warning", "TOO_FEW_AUTHORS", "/dataset_description.json")}
    assert set(report["summary"]["subjects"]) == {"01", "02"}
    assert report["summary"]["tasks"] == ["rest"]


@pytest.mark.parametrize(
    ("raw", "made", "seed"),
    [(f"{ONE}_T1w", f"{ONE}_desc-inpainted", 1), ("sub-02/anat/sub-02_T1w", "sub-02/anat/sub-02_desc-inpainted", 2)],
)
def test_the_image_is_the_same_outside_of_its_mask(finished, raw, made, seed):
    """Header and observed voxels are those of the source; the mask is the lesion; each layer lies on the grid."""
    folder, _ = finished
    before, after = (
        nibabel.load(folder / "heads" / f"{raw}.nii.gz"),
        nibabel.load(folder / "out" / f"{made}_T1w.nii.gz"),
    )
    mask = _values(folder / "out" / f"{made}T1w_mask.nii.gz")
    assert np.array_equal(mask, lesion(seed).T)
    assert np.array_equal(before.dataobj.get_unscaled()[mask == 0], after.dataobj.get_unscaled()[mask == 0])
    assert not np.array_equal(before.dataobj.get_unscaled()[mask == 1], after.dataobj.get_unscaled()[mask == 1])
    assert before.header.binaryblock == after.header.binaryblock
    errors = nibabel.load(folder / "out" / f"{made}T1w_uncertainty.nii.gz")
    assert np.array_equal(errors.affine, before.affine)
    assert np.array_equal(np.asarray(errors.dataobj) > 0, mask == 1)


def test_a_sidecar_keeps_what_stays_true_and_says_what_was_made(finished):
    """Metadata of all levels; sources and layers as BIDS URIs that lead to files; nothing of how the input was made."""
    folder, _ = finished
    out = folder / "out"
    sidecar = _json(out / f"{ONE}_desc-inpainted_T1w.json")
    assert (sidecar["RepetitionTime"], sidecar["Manufacturer"], sidecar["EchoTime"]) == (2.3, "B", 0.003)
    names = ["T1w", "FLAIR", "T1w_label-lesion_roi"]
    assert sidecar["Sources"] == [f"bids:raw:{ONE}_{name}.nii.gz" for name in names]
    assert sidecar["SpatialReference"] == sidecar["Sources"][0]
    assert sidecar["SkullStripped"] is False
    assert "not a medical device" in sidecar["Description"]
    facts = sidecar["Inpainting"]
    assert facts["FilledVoxels"] == lesion(1).sum()
    assert 0 < facts["ExpectedError"] < facts["MeanRestored"]
    links = [facts[key] for key in ("Mask", "Uncertainty", "Source", "Record", "Report")]
    assert all(_resolved(uri, out).is_file() for uri in (*sidecar["Sources"], *links))
    mask = _json(out / f"{ONE}_desc-inpaintedT1w_mask.json")
    assert mask["Type"] == "ROI"
    levels = _json(out / f"{ONE}_desc-inpaintedT1w_source.json")["Levels"]
    assert (levels["0"], levels["1"], levels["10"]) == ("observed", "classical", "auxiliary 0")
    assert _json(out / "sub-02/anat/sub-02_desc-inpainted_T1w.json")["Sources"][1].startswith(
        "bids:lesions:sub-02/dwi/"
    )


def test_the_expected_error_is_that_of_the_uncertainty(finished):
    """Root mean square over restored voxels; the mean is that of the restored values."""
    folder, _ = finished
    facts = _json(folder / "out" / f"{ONE}_desc-inpainted_T1w.json")["Inpainting"]
    holes = lesion(1).T == 1
    errors = _values(folder / "out" / f"{ONE}_desc-inpaintedT1w_uncertainty.nii.gz")[holes].astype(np.float64)
    assert facts["ExpectedError"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert facts["MeanRestored"] == pytest.approx(
        _values(folder / "out" / f"{ONE}_desc-inpainted_T1w.nii.gz")[holes].mean()
    )


def test_lost_slices_of_a_series_are_found_and_filled(finished):
    """Zero and NaN, in the volumes that lost them; what has no values in any volume stays; so do time step and task."""
    folder, _ = finished
    made = nibabel.load(folder / "out" / f"{SERIES}_desc-inpainted_bold.nii.gz")
    raw, values = _values(folder / "heads" / f"{SERIES}_bold.nii.gz"), np.asarray(made.dataobj)
    mask = _values(folder / "out" / f"{SERIES}_desc-inpaintedbold_mask.nii.gz")
    lost = np.zeros(raw.shape, dtype=np.uint8)
    for volume, slices in LOST.items():
        lost[:, :, list(slices), volume] = 1
    assert np.array_equal(mask, lost)
    assert np.array_equal(raw[lost == 0], values[lost == 0])
    assert np.all(np.abs(values[lost == 1] - 1000) < 900)
    assert made.header.get_zooms()[3] == 2.0
    sidecar = _json(folder / "out" / f"{SERIES}_desc-inpainted_bold.json")
    assert (sidecar["TaskName"], sidecar["RepetitionTime"]) == ("rest", 2.0)
    assert made.shape[3] == VOLUMES


def test_what_is_not_used_is_said(finished):
    """A contrast on another grid, and for images without a mask which names were looked for."""
    folder, outcome = finished
    assert "sub-01_ses-1_T2w.nii.gz lies on another grid and is no guide: shape (10, 12, 14) against (10, 12, 16)" in (
        outcome.err
    )
    assert "sub-03_T1w: no mask was found; looked for *_roi.nii.gz, *lesion*_mask.nii.gz" in outcome.err
    assert "guided by sub-01_ses-1_FLAIR.nii.gz" in outcome.err
    assert "3 of 6 images restored" in outcome.err
    record = _json(folder / "out/inpainting/sub-01_ses-1_T1w/sub-01_ses-1_T1w/record.json")
    # what is a lesion in one contrast is one in all
    assert len(record["masks"]) == 2


def test_the_table_has_a_row_an_image(finished):
    """With what became of it, how well, and a report that is there; its columns are described."""
    folder, _ = finished
    out = folder / "out"
    with (out / "group_inpainting.tsv").open(newline="") as file:
        rows = {
            row["image"].rsplit("/", 1)[-1]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        }
    assert list(rows["sub-03_T1w.nii.gz"]) == list(_json(out / "group_inpainting.json"))
    one = rows["sub-01_ses-1_T1w.nii.gz"]
    assert (one["participant_id"], one["session_id"], one["state"]) == ("sub-01", "ses-1", "restored")
    assert int(one["filled_voxels"]) == lesion(1).sum()
    assert 0 < float(one["expected_error_percent"]) < 50
    assert one["judgement"] in ("sound", "look", "poor")
    assert (out / one["report"]).is_file()
    assert (out / one["restored"]).is_file()
    assert rows["sub-02_T1w.nii.gz"]["session_id"] == "n/a"
    assert rows["sub-03_T1w.nii.gz"]["state"] == "no mask"
    assert "looked for *_roi.nii.gz" in rows["sub-03_T1w.nii.gz"]["verdict"]
    assert str(folder) not in (out / "group_inpainting.tsv").read_text()


def test_the_group_has_a_page_with_a_line_an_image(finished):
    """Pictures and judgement of each; links lead to the reports, and the validator is told to pass it over."""
    folder, _ = finished
    page = folder / "out" / "inpainting" / "index.html"
    links = re.findall(r'<a href="([^"]+)">(sub-[^<]+)</a>', page.read_text(encoding="utf-8"))
    assert {name for _, name in links} >= {"sub-01_ses-1_T1w", "sub-02_T1w"}
    assert all((page.parent / link).is_file() for link, _ in links)


def test_the_config_beside_the_results_is_the_run(finished):
    """Run by itself it finds them finished; `verify` and `status` take the whole data set of derivatives."""
    folder, _ = finished
    outcome = command("run", folder / "out/inpainting/sub-02_T1w/config.yaml")
    assert outcome.code == 0, outcome.err
    assert "finished by an earlier run" in outcome.err
    assert "in the BIDS data set as sub-02/anat/sub-02_desc-inpainted_T1w.nii.gz" in outcome.err
    assert not list((folder / "out").rglob(".inpaint-pipeline.lock"))
    verified = command("verify", folder / "out")
    assert verified.code == 0
    assert "sub-01_ses-1_task-rest_bold: " in verified.out
    assert "3 of 3 images done" in command("status", folder / "out").out


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a folder with the data set `heads` of `sub-02` and `sub-03` only."""
    write_data_set(tmp_path / "heads")
    shutil.rmtree(tmp_path / "heads" / "sub-01")
    return tmp_path


def test_a_file_of_the_user_is_never_replaced(small):
    """One that lies there already stops the run before it begins; one that was changed since stays, too."""
    where = ("bids", small / "heads", small / "out", "participant", "--participant-label", "sub-02", *CHEAP)
    anat = small / "out/sub-02/anat"
    anat.mkdir(parents=True)
    own = anat / "sub-02_desc-inpainted_T1w.nii.gz"
    own.write_text("mine")
    outcome = command(*where)
    assert (outcome.code, own.read_text()) == (6, "mine")
    assert "is not what this program wrote" in outcome.err
    assert not list((small / "out").rglob("record.json"))
    own.unlink()
    assert command(*where).code == 0
    first = own.read_bytes()
    config = small / "out/inpainting/sub-02_T1w/config.yaml"
    kept = config.read_text()
    assert command(*where, "--set", "model.kind=nearest").code == 6, "another config needs --overwrite"
    assert config.read_text() == kept
    assert command(*where, "--set", "model.kind=nearest", "--overwrite").code == 0
    second = own.read_bytes()
    assert second != first
    own.unlink()
    own.write_text("mine again")
    again = (*where, "--set", "model.kind=nearest")
    assert (command(*again).code, own.read_text()) == (6, "mine again")
    own.unlink()
    # what is missing is put there again from the finished results; without links as a copy
    with mock.patch("os.link", side_effect=OSError):
        assert command(*again).code == 0
    assert own.read_bytes() == second
    assert own.stat().st_nlink == 1
    # ended before its last step
    sidecar = anat / "sub-02_desc-inpainted_T1w.json"
    whole = sidecar.read_bytes()
    sidecar.unlink()
    assert command(*again).code == 0
    assert sidecar.read_bytes() == whole
    # a note of the user's within stays, and stops only what would replace it
    noted = json.dumps({**_json(sidecar), "SkullStripped": True, "Note": "looked at"})
    sidecar.write_text(noted)
    assert (command(*again).code, sidecar.read_text()) == (0, noted)
    assert (command(*where, "--overwrite").code, sidecar.read_text()) == (6, noted)


def test_one_bad_image_does_not_stop_the_others(small):
    """Exit 5 names it and why; the table keeps it."""
    broken = small / "heads/sub-03/anat/sub-03_T1w.nii.gz"
    broken.write_bytes(b"no image")
    packed = small / "heads/sub-02/anat/sub-02_T1w.nii.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    outcome = command("bids", small / "heads", small / "out", "participant", *CHEAP)
    assert outcome.code == 5
    assert "1 of 2 images failed: sub-03_T1w (" in outcome.err
    # what was not packed is not packed
    assert np.array_equal(_values(small / "out/sub-02/anat/sub-02_desc-inpaintedT1w_mask.nii"), lesion(2).T)
    rows = json.loads(command("bids", small / "heads", small / "out", "group", "--json").out)["rows"]
    assert [row["state"] for row in rows] == ["restored", "failed"]
    single = command("bids", small / "heads", small / "out", "participant", "--participant-label", "03", *CHEAP)
    assert single.code == 4


def test_an_image_that_is_there_packed_and_not(small):
    """To BIDS it is one image: the second took the place of the first with `--overwrite`, as was advised."""
    packed = small / "heads/sub-02/anat/sub-02_T1w.nii.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    outcome = command("bids", small / "heads", small / "out", "participant", "--participant-label", "02", *CHEAP)
    assert outcome.code == 5
    assert "sub-02_T1w.nii.gz beside it is the same image to BIDS; keep one" in outcome.err
    assert "sub-02_T1w.nii beside it is the same image to BIDS; keep one" in outcome.err
    assert not (small / "out/sub-02").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("heads", "out", "participant", "--participant-label", "03"), 2, "nothing to restore: sub-03_T1w: no mask"),
        (("heads", "out", "participant", "--participant_label", "04"), 2, "has no folder sub-04"),
        (("heads", "out", "participant", "--modalities", "T1w", "dwi"), 2, "--modalities dwi: only T1w, T2w, FLAIR"),
        (("heads", "out", "participant", "--mask-dir", "nowhere"), 2, "nowhere: is no folder"),
        (("heads", "out", "participant", "--modalities", "bold"), 2, "it has no bold images"),
        (("heads", "out", "participant", "--set", "input.source=x.nii"), 2, "finds input.source for each image"),
        (("heads", "out", "participant", "--set", "patch.sise=3"), 2, "unknown key - did you mean 'size'"),
        (("heads/sub-02", "out", "participant"), 2, "is no BIDS data set"),
        (("heads/sub-02", "out", "participant"), 2, "; it lies in one: name"),
        (
            ("heads", "out", "participant", "--buffer", "1 meters"),
            2,
            "--buffer: mask.0.buffer: '1 meters' is no length",
        ),
        (("heads", "heads", "participant"), 6, "derivatives need a folder of their own"),
        (("heads", "heads/derivatives/lesions", "participant"), 6, "holds derivatives of a rater"),
        (("heads", "out", "group"), 2, "run the participant level first"),
        (("heads", "out", "cohort"), 2, "cohort"),
    ],
)
def test_what_cannot_be_is_refused(small, monkeypatch, words, code, said):
    """With the documented code, what was found and what to do; nothing is written."""
    monkeypatch.chdir(small)
    outcome = command("bids", *words)
    assert (outcome.code, said in " ".join(outcome.err.split())) == (code, True), outcome.err
    assert not (small / "out" / "dataset_description.json").exists()


def test_participants_at_once_write_one_description(tmp_path):
    """What each adds to description and .bidsignore is there in the end, with what a person added."""
    write_data_set(tmp_path / "heads")
    image = bids_image(tmp_path / "heads/sub-02/anat/sub-02_T1w.nii.gz")
    out = tmp_path / "out"
    place = Derivation(target=out, image=image, metadata={}, reads=(str(image.path),))

    def adding(number: int) -> None:
        about = {"GeneratedBy": [{"Name": "inpaint-pipeline"}], "DatasetLinks": {f"set{number}": f"../{number}"}}
        add_derivatives(place, {}, {"restored": {"Inpainting": {}}}, {"Name": "x", **about}, [f"line{number}"])

    adding(0)
    (out / "dataset_description.json").write_text(
        json.dumps({**_json(out / "dataset_description.json"), "Authors": ["A", "B"], "Name": "mine"})
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(adding, range(1, 24)))
    description = _json(out / "dataset_description.json")
    assert set(description["DatasetLinks"]) == {f"set{n}" for n in range(24)}
    assert (description["Name"], description["Authors"]) == ("mine", ["A", "B"])
    assert sorted((out / ".bidsignore").read_text().split()) == sorted(f"line{n}" for n in range(24))
