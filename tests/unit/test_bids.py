"""BIDS: names and their derivatives, sidecars of all levels, masks by name, lost slices, the arguments of BIDS Apps."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer.main

from pipeline.cli import app
from pipeline.commands.bids.images import Choice, ImageInputs, find_inputs, images_of
from pipeline.commands.bids.lost import lost_slices
from pipeline.config.bids import Derivation, bids_image, bids_name, dataset_of
from pipeline.config.lesions import lesions, masks_in, places
from pipeline.errors import ConfigError, SourceError
from pipeline.provenance.bids import sidecars
from pipeline.system.signals import stop_if_asked
from tests.helpers import command, order_of, run_config, smooth, write_image
from tests.support_bids import lesion, write_data_set


def _files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}" if name.endswith(".json") else "")


@pytest.mark.parametrize(
    ("name", "role", "made"),
    [
        ("sub-01_T1w.nii.gz", "restored", "sub-01_desc-inpainted_T1w.nii.gz"),
        ("sub-01_T1w.nii", "mask", "sub-01_desc-inpaintedT1w_mask.nii"),
        ("sub-01_T2w.nii.gz", "uncertainty", "sub-01_desc-inpaintedT2w_uncertainty.nii.gz"),
        ("sub-01_desc-preproc_T1w.nii.gz", "restored", "sub-01_desc-preprocInpainted_T1w.nii.gz"),
        (
            "sub-01_task-rest_run-2_space-T1w_bold.nii.gz",
            "restored",
            "sub-01_task-rest_run-2_space-T1w_desc-inpainted_bold.nii.gz",
        ),
    ],
)
def test_a_derivative_keeps_the_entities(tmp_path, name, role, made):
    """`desc` comes last; layers of two contrasts never have one name."""
    _files(tmp_path, "dataset_description.json", f"sub-01/anat/{name}")
    image = bids_image(tmp_path / "sub-01" / "anat" / name)
    place = Derivation(target=tmp_path / "out", image=image, metadata={}, reads=())
    assert place.name(role) == made
    assert place.folder == tmp_path / "out" / "sub-01" / "anat"


@pytest.mark.parametrize("name", ["T1w", "sub_01_T1w.nii", "sub-01_T1-w.nii", "sub-01_sub-02_T1w.nii", "sub-01_.nii"])
def test_other_names_are_none_of_bids(name):
    """No extension, no label, a suffix with a dash, one entity twice, no suffix."""
    assert bids_name(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sub-01/anat/brain.nii.gz", "its name is not like"),
        ("sub-01/sub-01_T1w.nii.gz", "does not lie in a folder like sub-01/anat"),
        ("sub-02/anat/sub-01_T1w.nii.gz", "does not lie in a folder like sub-01/anat"),
    ],
)
def test_what_is_no_image_of_a_data_set_is_said(tmp_path, name, why):
    """With the reason."""
    _files(tmp_path, "dataset_description.json", name)
    with pytest.raises(ConfigError, match=why):
        bids_image(tmp_path / name)
    (tmp_path / "dataset_description.json").unlink()
    with pytest.raises(ConfigError, match="is no image of a BIDS data set"):
        bids_image(tmp_path / name)


def test_the_nearest_sidecar_wins(tmp_path):
    """All levels are read, those of another task or echo are not; a damaged one is named."""
    _files(tmp_path, "dataset_description.json", "sub-01/func/sub-01_task-rest_echo-1_bold.nii.gz")
    said = {
        "bold.json": {"a": 0, "b": 0, "c": 0, "d": 0},
        "task-rest_bold.json": {"b": 1, "c": 1, "d": 1},
        "task-flanker_bold.json": {"d": 9},
        "sub-01/sub-01_task-rest_bold.json": {"c": 2, "d": 2},
        "sub-01/func/sub-01_task-rest_echo-1_bold.json": {"d": 3},
        "sub-01/func/sub-01_task-rest_echo-2_bold.json": {"d": 9},
        "sub-01/func/sub-01_task-rest_echo-1_sbref.json": {"d": 9},
    }
    for name, content in said.items():
        (tmp_path / name).write_text(json.dumps(content))
    image = bids_image(tmp_path / "sub-01/func/sub-01_task-rest_echo-1_bold.nii.gz")
    assert image.metadata() == {"a": 0, "b": 1, "c": 2, "d": 3}
    for broken in ("{", "[]"):
        (tmp_path / "bold.json").write_text(broken)
        with pytest.raises(SourceError, match=r"bold\.json"):
            image.metadata()
    (tmp_path / "bold.json").unlink()
    (tmp_path / "bold.json").symlink_to(".git/annex/objects/key")
    with pytest.raises(SourceError, match=r"bold\.json: is a link to \.git/annex/objects/key, .*fetch it"):
        image.metadata()


def test_the_nearest_data_set_is_the_one_of_a_file(tmp_path):
    """A derivative within a data set has a name of its own in links."""
    inner = "derivatives/lesion-masks"
    _files(tmp_path, "dataset_description.json", f"{inner}/sub-01/anat/sub-01_desc-lesion_mask.nii.gz")
    (tmp_path / inner / "dataset_description.json").write_text('{"DatasetType": "derivative"}')
    image = tmp_path / "sub-01/anat/sub-01_T1w.nii.gz"
    _files(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    mask = tmp_path / inner / "sub-01/anat/sub-01_desc-lesion_mask.nii.gz"
    assert dataset_of(image).link == "raw"
    assert dataset_of(mask).link == "lesionmasks"
    reads = (str(image), str(mask), "/elsewhere/x.nii", str(image))
    place = Derivation(target=tmp_path / "derivatives/out", image=bids_image(image), metadata={}, reads=reads)
    assert place.sources() == (
        ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz", "bids:lesionmasks:sub-01/anat/sub-01_desc-lesion_mask.nii.gz"],
        {"raw": "../..", "lesionmasks": "../lesion-masks"},
    )
    assert place.own_uri(tmp_path / "private" / "record.json") == "record.json"


@pytest.mark.parametrize(
    ("mask", "belongs"),
    [
        ("sub-01_ses-1_roi.nii.gz", True),
        ("sub-01_ses-1_acq-x_FLAIR_roi.nii.gz", True),
        ("sub-01_ses-1_label-lesion_dseg.nii", True),
        ("sub-01_ses-1_desc-wmlesion_mask.nii.gz", True),
        ("sub-01_ses-1_lesion_mask.nii.gz", True),
        ("sub-01_ses-1_FLAIR_Lesion_mask.nii.gz", True),
        ("sub-01_ses-1_T1w_lesion_mask.nii.gz", False),
        ("sub-01_ses-1_desc-brain_mask.nii.gz", False),
        ("sub-01_ses-1_label-hippocampus_roi.nii.gz", False),
        ("sub-01_ses-1_T1w_roi.nii.gz", False),
        ("sub-01_ses-2_roi.nii.gz", False),
        ("sub-01_roi.nii.gz", False),
        ("sub-01_ses-1_acq-y_roi.nii.gz", False),
    ],
)
def test_masks_of_lesions_are_told_by_name(tmp_path, mask, belongs):
    """Of the same subject, session and contrast; a region that is said to be of something else is no lesion."""
    _files(tmp_path, mask)
    image = bids_name("sub-01_ses-1_acq-x_FLAIR.nii.gz")
    assert [path.name for path in masks_in([tmp_path], image)] == ([mask] if belongs else [])


def test_a_mask_that_was_not_fetched_is_a_mask(tmp_path):
    """A link of git-annex that leads nowhere: whoever opens it says so, instead of finding no mask."""
    mask = tmp_path / "sub-01_ses-1_desc-lesion_mask.nii.gz"
    mask.symlink_to("../.git/annex/objects/gone")
    assert masks_in([tmp_path], bids_name("sub-01_ses-1_FLAIR.nii.gz")) == [mask]


def test_masks_lie_where_the_user_says_before_all_others(tmp_path):
    """Flat or by subject; own names with wildcards; what this program has filled is no mask."""
    image = tmp_path / "heads/sub-01/anat/sub-01_T1w.nii.gz"
    own = "heads/derivatives/ours"
    _files(tmp_path / "heads", "dataset_description.json", "sub-01/anat/sub-01_T1w.nii.gz")
    _files(tmp_path, f"{own}/sub-01/anat/sub-01_desc-inpaintedlesion_mask.nii.gz", "flat/sub-01_desc-metal_mask.nii.gz")
    name = bids_name(image.name)
    assert [path.name for path in lesions(str(image))] == ["sub-01_desc-inpaintedlesion_mask.nii.gz"]
    (tmp_path / own / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "inpaint-pipeline"}]}')
    assert lesions(str(image)) == []
    first = next(iter(places(image, name, [tmp_path / "flat"])))
    assert [path.name for path in masks_in(first, name, ["*_desc-metal_mask.nii*"])] == [
        "sub-01_desc-metal_mask.nii.gz"
    ]
    assert masks_in(first, name) == []


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_slices_that_a_series_lost(tmp_path, axis):
    """Any one value or NaN all over, along the axis they were acquired; volumes lost as a whole are told apart."""
    values = smooth((8, 5, 6, 7), "float32")
    along = 3 - "ijk".index(axis)
    moved = np.moveaxis(values, along, 1)
    moved[:, 0] = 0  # outside of the body
    moved[1, 2], moved[3, 2], moved[3, 4] = np.nan, 7, 0
    moved[5] = 0
    moved[6, 3, 0] = 0  # a part of a slice
    found = lost_slices(write_image(tmp_path / "x.nii.gz", values), axis)
    assert {volume: tuple(slices) for volume, slices in found.slices.items()} == {1: (2,), 3: (2, 4)}
    assert found.volumes == (5,)
    assert found.entries() == [
        {"kind": "slices", "slices": [2], "axis": axis, "volumes": [1]},
        {"kind": "slices", "slices": [2, 4], "axis": axis, "volumes": [3]},
    ]


def test_too_few_volumes_tell_nothing(tmp_path):
    """A lone flat slice may never have had values."""
    values = smooth((2, 5, 6, 7), "int16")
    values[0, 2] = 0
    assert lost_slices(write_image(tmp_path / "x.nii.gz", values)).slices == {}


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        ("in out participant --participant-label 01 02 --json", ["01", "02"]),
        ("in out participant --participant_label 01,02", ["01,02"]),
        ("in out participant --participant-label=01 02 -q", ["01", "02"]),
        ("--participant-label 01 in out participant", ["01"]),
        ("in out participant --set a=b --participant-label 01 --participant-label 02", ["01", "02"]),
        ("in out participant --participant-label 01 --set a=b", ["01"]),
    ],
)
def test_lists_are_taken_as_bids_apps_take_them(words, labels):
    """One after the other, with commas or again; with `_`; before and after the folders."""
    bids = typer.main.get_command(app).commands["bids"]
    context = bids.make_context("bids", words.split())
    assert context.params["participant_label"] == labels
    assert str(context.params["output_dir"]) == "out"


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set with lesions, guides and a series."""
    return write_data_set(tmp_path_factory.mktemp("looked") / "heads")


def _marked(found: ImageInputs) -> list[str]:
    return [Path(entry["path"]).name for entry in found.mask]


def test_a_lesion_is_hidden_in_guides_and_a_spoilt_contrast_is_not(heads, tmp_path):
    """Masks named by a pattern are of one image: each guide has those of its own name."""
    image = bids_image(heads / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz")
    of_lesion = find_inputs(image, Choice(root=heads))
    assert [Path(guide["mask"][0]["path"]).name for guide in of_lesion.auxiliary] == _marked(of_lesion)
    wider = find_inputs(image, Choice(root=heads, buffer="1 mm"))
    assert [entry["buffer"] for entry in (*wider.mask, *wider.auxiliary[0]["mask"])] == ["1 mm"] * 2
    assert "buffer" not in of_lesion.mask[0]
    metal = heads.parent / "masks" / "sub-01_ses-1_T1w_desc-metal_mask.nii.gz"
    metal.parent.mkdir(exist_ok=True)
    write_image(metal, lesion(4)[None])
    spoilt = Choice(root=heads, mask_folders=(metal.parent,), mask_names=("*_desc-metal_mask.nii.gz",))
    found = find_inputs(image, spoilt)
    assert _marked(found) == [metal.name]
    assert [(Path(guide["path"]).name, guide["mask"]) for guide in found.auxiliary] == [
        ("sub-01_ses-1_FLAIR.nii.gz", [])
    ]


def test_a_mask_on_another_grid_is_named(heads):
    """The next place is looked at; what is found nowhere leaves no mask."""
    image = bids_image(heads / "sub-03/anat/sub-03_T1w.nii.gz")
    other = heads.parent / "shifted"
    other.mkdir()
    write_image(other / "sub-03_label-lesion_mask.nii.gz", lesion(3)[None, :-1])
    found = find_inputs(image, Choice(root=heads, mask_folders=(other,)))
    assert found.mask == ()
    assert "mask sub-03_label-lesion_mask.nii.gz lies on another grid and is not used: shape" in found.remarks[0]


def test_a_mask_along_other_axes_is_taken(heads):
    """Another program stored it mirrored: the same voxels, which a run turns onto the image."""
    image = bids_image(heads / "sub-03/anat/sub-03_T1w.nii.gz")
    other = heads.parent / "mirrored"
    other.mkdir()
    mask = write_image(other / "sub-03_label-lesion_mask.nii.gz", lesion(3)[None])
    mirrored = nibabel.load(mask).as_reoriented(np.array([[0, -1], [2, 1], [1, 1]]))
    nibabel.save(mirrored, mask)
    assert nibabel.load(mask).shape != nibabel.load(image.path).shape
    found = find_inputs(image, Choice(root=heads, mask_folders=(other,)))
    assert _marked(found) == [mask.name]
    assert not [remark for remark in found.remarks if mask.name in remark]


def test_images_are_chosen_by_label_session_and_suffix(heads):
    """Phase is no image to fill in; a name that is not of BIDS is no image of the set."""
    anat = heads / "sub-02" / "anat"
    for name in ("sub-02_part-phase_T1w.nii.gz", "brain_T1w.nii.gz", "sub-02_T1w.nii.gz.part"):
        (anat / name).touch()
    names = [image.path.name for image in images_of(Choice(root=heads, modalities=("T1w",)))]
    assert names == [f"sub-0{n}_T1w.nii.gz".replace("01_", "01_ses-1_") for n in (1, 2, 3)]
    one = Choice(root=heads, sessions=("1",), modalities=("T1w", "bold"))
    assert [image.name.suffix for image in images_of(one)] == ["T1w", "bold"]
    with pytest.raises(ConfigError, match="did you mean 01"):
        images_of(Choice(root=heads, participants=("1",)))
    with pytest.raises(ConfigError, match="has no T1w images, sessions 2"):
        images_of(Choice(root=heads, sessions=("2",), modalities=("T1w",)))


@pytest.mark.parametrize(
    ("image", "output", "why"),
    [
        ("x.tif", {}, "its name is not like sub-01_T1w.nii.gz"),
        ("sub-01_T1w.nii.gz", {}, "no folder above it has a dataset_description.json"),
        ("sub-01_T1w.nii.gz", {"format": "zarr"}, "derivatives are NIfTI; add `same` to output.format"),
    ],
)
def test_results_of_other_images_are_no_derivatives(tmp_path, image, output, why):
    """The config's line is named, before anything is computed."""
    path = write_image(tmp_path / image, smooth((1, 8, 9, 10) if image.endswith("gz") else (1, 20, 20)))
    config = run_config(tmp_path, path, path, output={"bids": "made", **output})
    with pytest.raises(ConfigError, match=rf"run\.yaml:1: output\.bids: .*{why}"):
        order_of(config)


def test_what_a_derivative_says_of_itself_stays(tmp_path):
    """An image that was processed before: its space, units and brain mask stay true, how it was made does not."""
    _files(tmp_path, "dataset_description.json")
    image = tmp_path / "sub-01/anat/sub-01_space-orig_desc-preproc_T1w.nii.gz"
    image.parent.mkdir(parents=True)
    write_image(image, smooth((1, 8, 9, 10), "int16"))
    said = {
        "SkullStripped": True,
        "SpatialReference": "bids::x.nii",
        "Units": "K",
        "Sources": ["y"],
        "Description": "z",
    }
    (image.parent / "sub-01_space-orig_desc-preproc_T1w.json").write_text(json.dumps(said))
    order = order_of(run_config(tmp_path, image, image, output={"bids": str(tmp_path / "made")}))
    holes = {"filled": 3, "fraction": 0.1, "left": {}, "by_source": {}, "account": "all"}
    record = {"holes": holes, "references": [], "outputs": [], "self_test": None, "model": None, "request": "r"}
    told = sidecars(order, {**record, "disclaimer": "no device"}, 1.0, 2.0)
    restored = told["restored"]
    assert (restored["SkullStripped"], restored["SpatialReference"], restored["Units"]) == (True, "bids::x.nii", "K")
    assert restored["Sources"] == ["bids:raw:sub-01/anat/sub-01_space-orig_desc-preproc_T1w.nii.gz"]
    assert restored["Description"].startswith("3 voxels (10 %) are estimates of inpaint-pipeline")
    assert told["uncertainty"]["Units"] == "K"
    assert "SkullStripped" not in told["mask"]
    assert restored["Inpainting"]["Record"] == "record.json", "results lie elsewhere: their folder is nobody's business"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 130)])
def test_a_stop_is_one_of_the_whole_data_set(tmp_path, monkeypatch, number, code):
    """The next image is not begun, whoever asked, and nobody takes it for an image that failed."""
    begun: list[str] = []

    def asked(order, *_, **__):
        begun.append(order.stem)
        os.kill(os.getpid(), number)
        stop_if_asked()
        raise AssertionError("went on")

    monkeypatch.setattr("pipeline.run.plan_of", asked)
    outcome = command("bids", write_data_set(tmp_path / "heads"), tmp_path / "out", "participant", "--quiet")
    assert outcome.code == code, outcome.err
    assert len(begun) == 1
    assert not list((tmp_path / "out").rglob(f"{begun[0]}/outcome.json"))
