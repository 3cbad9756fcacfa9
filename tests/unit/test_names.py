"""Names that follow from names: masks beside an image, and paths that name a part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.names import sibling_masks
from pipeline.config.placeholders import PathResolver, resolver_of
from pipeline.errors import ConfigError, SourceError


def _found(folder: Path, image: str, *others: str) -> list[tuple[str, str]]:
    """Make empty files and return kind and name, seen from the folder, of the masks that belong to the image."""
    for name in (image, *others):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    masks = sibling_masks(str(folder / image))
    return [(mask.kind, str(Path(mask.model_dump()["path"]).resolve().relative_to(folder.resolve()))) for mask in masks]


@pytest.mark.parametrize(
    ("image", "mask", "kind"),
    [
        ("x.tif", "x_mask.tif", "raster"),
        ("x.tif", "x_mask.geojson", "vector"),
        ("LC08_L2SP_190024_T1_SR_B4.TIF", "LC08_L2SP_190024_T1_QA_PIXEL.TIF", "qa_pixel"),
        ("LC08_L2SP_190024_T1_ST_B10.TIF", "LC08_L2SP_190024_T1_QA_PIXEL.TIF", "qa_pixel"),
        ("LE07_L1TP_190024_T1_B4.TIF", "LE07_L1TP_190024_T1_QA_PIXEL.TIF", "qa_pixel"),
        ("LC08_L1TP_190024_01_T1_B4.TIF", "LC08_L1TP_190024_01_T1_BQA.TIF", "qa_pixel"),
        ("HLS.S30.T33UUP.2021132T100031.v2.0.B8A.tif", "HLS.S30.T33UUP.2021132T100031.v2.0.Fmask.tif", "qa_pixel"),
        ("IMG_DATA/R10m/T33UUP_20210512_B04_10m.jp2", "IMG_DATA/R20m/T33UUP_20210512_SCL_20m.jp2", "scl"),
        ("sub-01_T1w.nii.gz", "sub-01_T1w_label-lesion_roi.nii.gz", "raster"),
        ("sub-01_ses-2_T1w.nii.gz", "sub-01_ses-2_space-orig_desc-T1lesion_mask.nii.gz", "raster"),
    ],
)
def test_masks_are_found_by_the_names_of_products(tmp_path, image, mask, kind):
    """As people, USGS, NASA, ESA and BIDS call them."""
    assert _found(tmp_path, image, mask) == [(kind, mask)]


@pytest.mark.parametrize(
    ("image", "other"),
    [
        ("LC08_A_SR_B4.TIF", "LC08_B_QA_PIXEL.TIF"),
        ("sub-01_T1w.nii.gz", "sub-010_label-lesion_roi.nii.gz"),
        ("sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2_label-lesion_roi.nii.gz"),
        ("sub-01_T1w.nii.gz", "sub-01_FLAIR_label-lesion_roi.nii.gz"),
        ("sub-01_T1w.nii.gz", "sub-01_label-lesion_T1w.nii.gz"),
        ("sub-01_space-MNI_T1w.nii.gz", "sub-01_space-T1w_label-lesion_mask.nii.gz"),
        ("brain_T1w.nii.gz", "brain_lesion_mask.nii.gz"),
    ],
)
def test_masks_of_others_are_not(tmp_path, image, other):
    """Another scene, subject, session, contrast or space; an image is no mask."""
    assert _found(tmp_path, image, other) == []


def test_lesions_of_both_sides_and_of_derivatives(tmp_path):
    """Several lesion masks are all taken; without one beside the image the data set's derivatives are looked at."""
    image = "sub-01/anat/sub-01_T1w.nii.gz"
    derived = "derivatives/lesions/sub-01/anat/sub-01_label-lesion_desc-manual_mask.nii.gz"
    assert _found(tmp_path, image, derived) == []
    assert _found(tmp_path, image, derived, "dataset_description.json") == [("raster", derived)]
    sides = [f"sub-01/anat/sub-01_label-{side}_desc-T1lesion_mask.nii.gz" for side in "LR"]
    assert _found(tmp_path, image, *sides) == [("raster", side) for side in sides]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{stem}_mask.tif", "/c/sub-01_ses-2_T1w_mask.tif"),
        ("{folder}/m.tif", "/d/anat/m.tif"),
        ("{folder}/../lesion/{stem}.tif", "/d/lesion/sub-01_ses-2_T1w.tif"),
        ("{stem:-4}_roi.nii", "/c/sub-01_ses-2_roi.nii"),
        ("{stem:6}/{stem:7:12}.nii", "/c/sub-01/ses-2.nii"),
        ("{stem:-3:}.nii", "/c/T1w.nii"),
        ("{stem/_.*/}/x.nii", "/c/sub-01/x.nii"),
        (r"{stem/_ses-(\d+).*/-\1}.nii", "/c/sub-01-2.nii"),
        (r"{stem/\d{2}/99}.nii", "/c/sub-99_ses-2_T1w.nii"),
        ("{stem/nowhere/x}.nii", "/c/sub-01_ses-2_T1w.nii"),
        ("{other}.nii", "/c/{other}.nii"),
    ],
)
def test_paths_that_follow_from_an_image(text, path):
    """Folder, name, slices of the name as Python counts them, and what a regular expression makes of it."""
    assert resolver_of(["/d/anat/sub-01_ses-2_T1w.nii.gz"], "/c")(text) == path


def test_an_image_elsewhere_has_a_folder_too():
    """What follows the path of an address is none of it."""
    resolve = resolver_of(["https://host/scenes/a/B04.tif?sig=x/y"], "/c")
    assert resolve("{folder}/QA.tif") == "https://host/scenes/a/QA.tif"


def test_nothing_in_a_name_is_a_variable(monkeypatch):
    """An image may be called like a variable or a home folder."""
    monkeypatch.setenv("SECRET", "s")
    assert resolver_of(["/d/${SECRET}.tif"], "/c")("{stem}_m.tif") == "/c/${SECRET}_m.tif"
    assert resolver_of(["/d/~root.tif"], "/c")("{stem}_m.tif") == "/c/~root_m.tif"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{stem/(/}", "is no regular expression"),
        (r"{stem/a/\3}", "is no regular expression"),
        ("{folder:3}", "only a name"),
    ],
)
def test_what_is_no_part_of_a_path_is_said(text, message):
    """The placeholder is quoted."""
    with pytest.raises(ConfigError, match=message):
        resolver_of(["/d/a.tif"], "/c")(text)


def test_no_image_no_part_of_it():
    """In `input.source` there is no image yet."""
    with pytest.raises(
        ConfigError, match=r"'\{stem\}' stands for a part of an image's path, and this is the path of the image itself"
    ):
        PathResolver(base="/c")("{stem}.tif")


def test_a_mask_beside_the_image_is_pointed_at(tmp_path):
    """A path that is right from the image's folder says what to write."""
    (tmp_path / "a_mask.tif").touch()
    resolve = resolver_of([str(tmp_path / "a.tif")], "/c", files_only=True)
    with pytest.raises(SourceError, match=r"write '\{folder\}/\{stem\}_mask.tif'"):
        resolve("{stem}_mask.tif")
