"""NIfTI: stored integers, both matrices and their codes, and every other header byte come back."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from pipeline.errors import ConfigError, SourceError
from pipeline.formats import _gzip, nifti
from pipeline.geometry.box import Box
from tests.support_formats import (
    digest,
    layer_of,
    memory_image,
    options,
    random_values,
    same_bytes,
    whole,
    write_nifti,
)


def _inflated(path: Path) -> bytes:
    """Return the file's bytes without gzip."""
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.name.endswith(".gz") else raw


def _restore(path: Path, tmp_path: Path) -> Path:
    """Pass a file through reader and writer with the identity in between."""
    source = nifti.open_source([str(path)]).stage(tmp_path / "staged")
    result = tmp_path / ("restored" + ("".join(path.suffixes)))
    nifti.write(layer_of(source), result, source, source.read, options(tmp_path))
    return result


def _scaled(header: Any) -> None:
    header["scl_slope"], header["scl_inter"] = 2.0, 1.0


def _acquisition(header: Any) -> None:
    """Fill the fields that tools forget."""
    header["descrip"] = b"FSL 6.0"
    header["aux_file"] = b"aux.txt"
    header["cal_min"], header["cal_max"] = 5.0, 900.0
    header["toffset"] = 1.5
    header["pixdim"][4] = 2.54
    header.set_dim_info(freq=0, phase=1, slice=2)
    header["slice_code"], header["slice_end"], header["slice_duration"] = 3, 6, 0.05
    header["intent_code"], header["intent_name"] = 3, b"t-test"


def _sform_only(header: Any) -> None:
    header["qform_code"] = 0


def _qform_only(header: Any) -> None:
    header["qform_code"], header["sform_code"] = 1, 0


def _both_different(header: Any) -> None:
    header["qform_code"], header["sform_code"] = 1, 4
    header["srow_x"][3] = 17.0


def _neither(header: Any) -> None:
    header["qform_code"], header["sform_code"] = 0, 0


def _with_extensions(header: Any) -> None:
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept as it is"))
    header.extensions.append(nibabel.nifti1.Nifti1Extension("afni", b"<AFNI/>" * 40))


HEADERS = {
    "slope and inter": _scaled,
    "acquisition": _acquisition,
    "sform only": _sform_only,
    "qform only": _qform_only,
    "both, different": _both_different,
    "neither": _neither,
    "extensions": _with_extensions,
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("case", HEADERS)
def test_every_inflated_byte_survives(case: str, version: int, order: str, suffix: str, tmp_path: Path) -> None:
    """Header, extensions and voxels come back byte for byte, in both versions and byte orders."""
    values = random_values((7, 6, 5, 3), "int16")
    path = write_nifti(tmp_path / f"in{suffix}", values, setup=HEADERS[case], version=version, order=order)
    if case == "slope and inter":
        _poke_slope(path, version, order)
    assert _inflated(_restore(path, tmp_path)) == _inflated(path)


def _poke_slope(path: Path, version: int, order: str) -> None:
    """Set slope 2 and intercept 1 in the file itself: nibabel resets them when it saves."""
    raw = bytearray(_inflated(path))
    at, kind = (112, "f4") if version == 1 else (176, "f8")
    raw[at : at + 2 * int(kind[1])] = np.array([2, 1], dtype=order + kind).tobytes()
    path.write_bytes(gzip.compress(bytes(raw)) if path.name.endswith(".gz") else bytes(raw))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_integers_stay_unscaled(suffix: str, tmp_path: Path) -> None:
    """int16 with slope 2 and intercept 1 is read as stored; the scaling is a fact beside it."""
    values = random_values((7, 6, 5), "int16")
    path = write_nifti(tmp_path / f"in{suffix}", values)
    _poke_slope(path, 1, "<")
    source = nifti.open_source([str(path)])
    assert source.scale_offset == ((2.0, 1.0),)
    assert same_bytes(source.read(whole(source)), values.T[np.newaxis])
    assert np.array_equal(nibabel.load(path).get_fdata(), values * 2.0 + 1.0)


def test_axes_are_named_backwards_and_nothing_moves(tmp_path: Path) -> None:
    """Voxel (i, j, k, t) is value [t, k, j, i], and the affine is that of the file."""
    values = random_values((7, 6, 5, 3), "uint8")
    path = write_nifti(tmp_path / "in.nii", values)
    source = nifti.open_source([str(path)])
    assert source.space.shape == (5, 6, 7)
    assert source.read(whole(source))[2, 4, 3, 1] == values[1, 3, 4, 2]
    affine = nibabel.load(path).affine[:3]
    assert np.array_equal(np.reshape(source.space.affine, (3, 4)), affine)
    assert source.channel_names == ("volume_1", "volume_2", "volume_3")


def test_windows_of_gzip_equal_those_of_its_staged_copy(tmp_path: Path) -> None:
    """The slow way and the fast way give the same voxels."""
    path = write_nifti(tmp_path / "in.nii.gz", random_values((7, 6, 5, 3), "int32"), order=">")
    source = nifti.open_source([str(path)])
    staged = source.stage(tmp_path / "staged")
    assert source.compressed
    assert not staged.compressed
    box = Box((1, 2, 3), (4, 5, 6))
    assert same_bytes(staged.read(box, slice(1, 3)), source.read(box, slice(1, 3)))
    assert staged.read(box).dtype == np.dtype("int32").newbyteorder("=")


def test_a_file_that_cannot_be_mapped_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems in user space map no files; the voxels of a window are those of a mapped one."""
    path = write_nifti(tmp_path / "in.nii", random_values((5, 6, 7, 2), "int16", 3))
    image, box = nifti.open_source([str(path)]), Box((1, 2, 0), (4, 5, 5))
    mapped = np.array(image.read(box))

    def unmapped(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(np, "memmap", unmapped)
    assert np.array_equal(image.read(box), mapped)


def test_a_volume_is_taken_once(tmp_path: Path) -> None:
    """By number and by name it is the same one, as for bands of rasters."""
    path = write_nifti(tmp_path / "in.nii", np.zeros((3, 4, 5, 2), np.int16))
    with pytest.raises(ConfigError, match="2, volume_2 name one band"):
        nifti.open_source([str(path)], bands=[2, "volume_2"])


def test_metres_and_microns_become_millimetres(tmp_path: Path) -> None:
    """The grid is in mm whatever the file's unit is; the file's own header stays."""
    path = write_nifti(
        tmp_path / "in.nii",
        random_values((4, 4, 4), "uint8"),
        setup=lambda h: h.set_xyzt_units("micron", "sec"),
    )
    source = nifti.open_source([str(path)])
    assert source.space.units == "mm"
    assert source.space.spacing[0] == pytest.approx(0.0025)
    assert _inflated(_restore(path, tmp_path)) == _inflated(path)


@pytest.mark.parametrize(("disk", "shape", "channels"), [
    ((6, 5), (1, 5, 6), 1),
    ((6, 5, 1), (1, 5, 6), 1),
    ((6, 5, 4, 1), (4, 5, 6), 1),
    ((6, 5, 4, 1, 3), (4, 5, 6), 3),
])  # fmt: skip
def test_unusual_ranks(disk: tuple[int, ...], shape: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    """Slices and vector images with singleton axes are volumes or series, and keep their own dim."""
    path = write_nifti(tmp_path / "in.nii", random_values(disk, "int16"))
    source = nifti.open_source([str(path)])
    assert (source.space.shape, source.n_channels) == (shape, channels)
    assert _inflated(_restore(path, tmp_path)) == _inflated(path)


def test_five_dimensions_are_refused(tmp_path: Path) -> None:
    """A series of vectors is neither a volume nor a series of volumes."""
    path = write_nifti(tmp_path / "in.nii", random_values((6, 5, 4, 2, 3), "int16"))
    with pytest.raises(SourceError, match="neither a volume nor a series"):
        nifti.open_source([str(path)])


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "rgb"])
def test_unsuitable_voxels_are_refused(dtype: str, tmp_path: Path) -> None:
    """RGB and complex voxels are refused by name."""
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]) if dtype == "rgb" else np.dtype(dtype)
    path = tmp_path / "in.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), dtype=kind), np.eye(4)), path)
    with pytest.raises(SourceError, match="cannot be restored"):
        nifti.open_source([str(path)])


def test_label_images_are_refused(tmp_path: Path) -> None:
    """Intent 1002 says that the values are class codes; a regression of them would be wrong."""
    path = write_nifti(
        tmp_path / "in.nii",
        random_values((4, 4, 4), "int16"),
        setup=lambda h: h.set_intent("label", name="atlas"),
    )
    with pytest.raises(SourceError, match="1002"):
        nifti.open_source([str(path)])


def test_non_finite_voxels_are_never_touched(tmp_path: Path) -> None:
    """NaN and infinity mean that nothing was observed; integers always mean something."""
    values = np.ones((4, 4, 4), dtype=np.float32)
    values[1, 2, 3] = np.nan
    source = nifti.open_source([str(write_nifti(tmp_path / "in.nii", values))])
    never = source.never(whole(source))
    assert never.sum() == 1
    assert never[0, 3, 2, 1]
    integers = nifti.open_source([str(write_nifti(tmp_path / "int.nii", np.ones((4, 4, 4), "int16")))])
    assert not integers.never(whole(integers)).any()


@pytest.mark.parametrize("order", ["<", ">"])
def test_uncertainty_has_slope_one_and_the_same_grid(order: str, tmp_path: Path) -> None:
    """Uncertainty is in physical units; both matrices, codes, units and TR are those of the input."""
    path = write_nifti(tmp_path / "in.nii.gz", random_values((7, 6, 5, 3), "uint8"), setup=_acquisition, order=order)
    source = nifti.open_source([str(path)])
    layer = layer_of(source, "uncertainty", dtype=np.dtype("float32"), nodata=float("nan"))
    result = tmp_path / "uncertainty.nii.gz"
    nifti.write(layer, result, source, lambda b: np.full((3, *b.shape), 0.25, np.float32), options(tmp_path))
    before, after = nibabel.load(path), nibabel.load(result)
    assert np.array_equal(after.get_fdata(), np.full((7, 6, 5, 3), 0.25))
    for name in ("qform_code", "sform_code", "xyzt_units", "quatern_b", "qoffset_x", "toffset", "slice_code"):
        assert after.header[name] == before.header[name]
    assert np.array_equal(after.header["pixdim"], before.header["pixdim"])
    assert np.array_equal(after.affine, before.affine)
    assert after.header.endianness == order
    assert (after.dataobj.slope, after.dataobj.inter) == (1, 0)
    assert (after.header["cal_max"], after.header["intent_code"]) == (0, 0)


def test_source_layer_of_a_series_may_be_one_volume(tmp_path: Path) -> None:
    """A single code volume for a series is 3-D and drops the input's extensions."""
    path = write_nifti(tmp_path / "in.nii", random_values((7, 6, 5, 3), "int16"), setup=_with_extensions)
    source = nifti.open_source([str(path)])
    layer = layer_of(source, "source", n_channels=1, dtype=np.dtype("uint8"), nodata=None)
    result = tmp_path / "source.nii"
    nifti.write(layer, result, source, lambda b: np.full((1, *b.shape), 255, np.uint8), options(tmp_path))
    image = nibabel.load(result)
    assert image.shape == (7, 6, 5)
    assert len(image.header.extensions) == 0
    assert (np.asarray(image.dataobj) == 255).all()


def test_a_series_is_pulled_once_slab_by_slab(tmp_path: Path) -> None:
    """Within a small memory bound no voxel is asked for twice, although volumes are stored one by one."""
    image = memory_image((9, 8, 7), "int16", channels=3)
    asked = []

    def pull(box: Box) -> Any:
        asked.append(box)
        return image.read(box)

    path = tmp_path / "out.nii"
    nifti.write(layer_of(image), path, image, pull, options(tmp_path, memory_bytes=2 * 8 * 7 * 2 * 3))
    assert [box.shape for box in asked] == [(1, 8, 7)] * 9
    result = nifti.open_source([str(path)])
    assert same_bytes(result.read(whole(result)), image.values)


def test_gzip_bytes_do_not_depend_on_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One core or many, today or tomorrow: the same single gzip member, readable by anyone."""
    monkeypatch.setattr(_gzip, "_PIECE", 1000)
    raw = tmp_path / "raw"
    raw.write_bytes(random_values((12345,), "uint8").tobytes())
    for threads in (1, 4):
        _gzip.deflate_file(raw, tmp_path / f"{threads}.gz", threads=threads)
    assert digest(tmp_path / "1.gz") == digest(tmp_path / "4.gz")
    assert gzip.decompress((tmp_path / "4.gz").read_bytes()) == raw.read_bytes()
    assert (tmp_path / "4.gz").read_bytes()[3:8] == b"\0" * 5


def test_empty_file_is_a_valid_gzip(tmp_path: Path) -> None:
    """Nothing in, nothing out."""
    (tmp_path / "raw").touch()
    _gzip.deflate_file(tmp_path / "raw", tmp_path / "raw.gz")
    assert gzip.decompress((tmp_path / "raw.gz").read_bytes()) == b""


def test_staging_again_after_the_file_changed(tmp_path: Path) -> None:
    """A staged copy belongs to one state of the file: a new file is inflated anew."""
    path = write_nifti(tmp_path / "in.nii.gz", random_values((7, 6, 5), "int16", seed=1))
    nifti.open_source([str(path)]).stage(tmp_path / "staged")
    values = random_values((7, 6, 5), "int16", seed=2)
    source = nifti.open_source([str(write_nifti(path, values))]).stage(tmp_path / "staged")
    assert same_bytes(source.read(whole(source)), values.T[np.newaxis])


def test_an_incomplete_staged_copy_is_made_again(tmp_path: Path) -> None:
    """A copy of the wrong length is never trusted."""
    values = random_values((7, 6, 5), "int16")
    path = write_nifti(tmp_path / "in.nii.gz", values)
    staged = nifti.open_source([str(path)]).stage(tmp_path / "staged")
    Path(staged.data_path).write_bytes(b"short")
    again = nifti.open_source([str(path)]).stage(tmp_path / "staged")
    assert same_bytes(again.read(whole(again)), values.T[np.newaxis])


def test_two_files_are_refused(tmp_path: Path) -> None:
    """One NIfTI file is one image; several are several sources."""
    path = write_nifti(tmp_path / "in.nii", random_values((4, 4, 4), "int16"))
    with pytest.raises(SourceError, match="2 NIfTI files"):
        nifti.open_source([str(path), str(path)])
