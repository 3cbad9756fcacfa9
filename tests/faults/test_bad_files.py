"""Damaged, foreign and missing inputs: a SourceError that names the file and what to do, never a traceback."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from rasterio.enums import ColorInterp

from pipeline.errors import ConfigError, SourceError
from pipeline.formats import geotiff, nifti, open_any
from pipeline.geometry.box import Box
from tests.helpers import command
from tests.support_formats import (
    layer_of,
    memory_image,
    options,
    random_values,
    same_bytes,
    whole,
    write_nifti,
    write_tiff,
)


def _cut(path: Path, keep: float) -> Path:
    """Keep the first part of a file only."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    return path


@pytest.mark.parametrize("profile", [{}, {"compress": "deflate"}, {"interleave": "band", "tiled": True}])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
def test_truncated_tiff_is_refused_on_opening(profile: dict[str, object], keep: float, tmp_path: Path) -> None:
    """A download that stopped is seen before any pixel is read, and both lengths are named."""
    path = write_tiff(tmp_path / "in.tif", random_values((2, 200, 300), "uint16"), **profile)
    with pytest.raises(SourceError, match=r"in\.tif"):
        geotiff.open_source([str(_cut(path, keep))])


def test_damaged_tile_names_its_window(tmp_path: Path) -> None:
    """A file of the right length with garbage inside fails on reading, with file, rows and columns."""
    path = write_tiff(tmp_path / "in.tif", random_values((1, 200, 300), "uint16"), compress="deflate")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 4000] = bytes(4000)
    path.write_bytes(bytes(raw))
    source = geotiff.open_source([str(path)])
    with pytest.raises(SourceError, match=r"in\.tif: cannot read rows 0-200, columns 0-300"):
        source.read(whole(source))


def test_damage_found_by_one_thread_does_not_stop_another(tmp_path: Path) -> None:
    """After a failed window the healthy part of the file still reads."""
    path = write_tiff(tmp_path / "in.tif", random_values((1, 200, 300), "uint16"), compress="deflate")
    raw = bytearray(path.read_bytes())
    raw[-4000:-2000] = bytes(2000)
    path.write_bytes(bytes(raw))
    source = geotiff.open_source([str(path)])
    with pytest.raises(SourceError):
        source.read(whole(source))
    assert source.read(Box((0, 0), (5, 300))).shape == (1, 5, 300)


@pytest.mark.parametrize("name", ["in.tif", "in.nii", "in.nii.gz", "in.xyz"])
def test_text_with_an_image_name(name: str, tmp_path: Path) -> None:
    """A web page saved under an image's name is not an image; the message shows how it starts."""
    (tmp_path / name).write_text("<html>404 not found</html>")
    with pytest.raises(SourceError, match=r"in\.(tif|nii|xyz)"):
        open_any(str(tmp_path / name))


@pytest.mark.parametrize("name", ["in.tif", "in.nii", "in.nii.gz"])
def test_empty_file(name: str, tmp_path: Path) -> None:
    """Nothing is not an image."""
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match="not a readable"):
        open_any(str(tmp_path / name))


@pytest.mark.parametrize("name", ["in.tif", "in.nii", "in.nii.gz", "in.zarr"])
def test_folder_with_an_image_name(name: str, tmp_path: Path) -> None:
    """A folder is an image for zarr only, and only with metadata in it."""
    (tmp_path / name).mkdir()
    with pytest.raises(SourceError):
        open_any(str(tmp_path / name))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """The nearest names are suggested; without a folder that is said."""
    write_tiff(tmp_path / "scene_B04.tif", random_values((1, 9, 9), "uint8"))
    with pytest.raises(SourceError, match=r"did you mean scene_B04\.tif"):
        open_any(str(tmp_path / "scene_B40.tif"))
    with pytest.raises(SourceError, match="no folder"):
        open_any(str(tmp_path / "nowhere" / "x.tif"))
    with pytest.raises(SourceError, match="name at least one"):
        open_any([])


def test_unknown_kind_suggests_the_right_one(tmp_path: Path) -> None:
    """A typo in `kind` is a config error with the nearest name."""
    path = write_tiff(tmp_path / "in.tif", random_values((1, 9, 9), "uint8"))
    with pytest.raises(ConfigError, match="geotiff"):
        open_any(str(path), kind="geotif")


def test_palette_is_refused(tmp_path: Path) -> None:
    """A colour table says class codes; a mean of two classes is a third one."""

    def setup(dataset: rasterio.io.DatasetWriter) -> None:
        dataset.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
        assert dataset.colorinterp[0] == ColorInterp.palette

    path = write_tiff(tmp_path / "in.tif", np.ones((1, 9, 9), np.uint8), setup=setup, photometric="palette")
    with pytest.raises(SourceError, match="colour table"):
        open_any(str(path))


def test_complex_and_other_drivers_are_refused(tmp_path: Path) -> None:
    """Complex radar values and formats whose header we could not give back are refused by name."""
    path = write_tiff(tmp_path / "in.tif", np.ones((1, 9, 9), np.complex64))
    with pytest.raises(SourceError, match="complex64"):
        open_any(str(path))
    write_tiff(tmp_path / "in.png", np.ones((1, 9, 9), np.uint8), driver="PNG")
    (tmp_path / "in.png").rename(tmp_path / "png.tif")
    with pytest.raises(SourceError, match="PNG"):
        open_any(str(tmp_path / "png.tif"))


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_truncated_nifti(keep: float, tmp_path: Path) -> None:
    """An uncompressed volume that ends early is refused on opening, with both lengths."""
    path = write_nifti(tmp_path / "in.nii", random_values((20, 20, 20), "int16"))
    with pytest.raises(SourceError, match=r"in\.nii"):
        open_any(str(_cut(path, keep)))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.98])
def test_truncated_gzip_says_how_far_it_went(keep: float, tmp_path: Path) -> None:
    """Staging and reading a cut `.nii.gz` name the file, the bytes found and the bytes expected."""
    path = _cut(write_nifti(tmp_path / "in.nii.gz", random_values((20, 20, 20), "int16")), keep)
    source = nifti.open_source([str(path)])
    with pytest.raises(SourceError, match=r"in\.nii\.gz.*of 16352 expected bytes"):
        source.stage(tmp_path / "staged")
    assert list((tmp_path / "staged").iterdir()) == []
    with pytest.raises(SourceError, match=r"in\.nii\.gz.*expected"):
        source.read(whole(source))


def test_gzip_that_holds_too_little(tmp_path: Path) -> None:
    """An intact gzip of a truncated volume is found by its length, and nothing is staged."""
    raw = write_nifti(tmp_path / "in.nii", random_values((20, 20, 20), "int16")).read_bytes()
    path = tmp_path / "in.nii.gz"
    path.write_bytes(gzip.compress(raw[:10000]))
    source = nifti.open_source([str(path)])
    with pytest.raises(SourceError, match="10000 of 16352 expected bytes"):
        source.stage(tmp_path / "staged")
    assert list((tmp_path / "staged").iterdir()) == []
    with pytest.raises(SourceError, match="expected"):
        source.read(whole(source))


@pytest.mark.parametrize("many", [3, 300_000])
def test_bytes_after_a_whole_gzip_are_left_out_and_named(many: int, tmp_path: Path) -> None:
    """What follows a stream that is whole by its checksum costs no voxel; after one that is too short it does."""
    values = random_values((20, 20, 20), "int16")
    raw = write_nifti(tmp_path / "in.nii", values).read_bytes()
    path = tmp_path / "in.nii.gz"
    path.write_bytes(gzip.compress(raw) + b"x" * many)
    source = nifti.open_source([str(path)])
    staged = source.stage(tmp_path / "staged")
    assert staged.notices == (f"{path}: other bytes follow the compressed image, which is whole: left out",)
    expected = nifti.open_source([str(tmp_path / "in.nii")]).read(whole(source))
    for image in (source, staged):
        np.testing.assert_array_equal(image.read(whole(image)), expected)

    path.write_bytes(gzip.compress(raw[:10000]) + b"x" * many)
    with pytest.raises(SourceError, match=r"10000 of 16352 expected bytes.*Not a gzipped file"):
        nifti.open_source([str(path)]).stage(tmp_path / "staged")


def test_flipped_bit_in_gzip_fails_the_checksum(tmp_path: Path) -> None:
    """Silent damage is found by the checksum when the file is staged."""
    path = tmp_path / "in.nii.gz"
    write_nifti(tmp_path / "in.nii", random_values((20, 20, 20), "int16"))
    raw = bytearray(gzip.compress((tmp_path / "in.nii").read_bytes(), compresslevel=0))
    raw[5000] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(SourceError, match="CRC"):
        nifti.open_source([str(path)]).stage(tmp_path / "staged")


def test_nifti_whose_file_shrinks_after_opening(tmp_path: Path) -> None:
    """A file cut while the run is on gives an error, not a bus error."""
    path = write_nifti(tmp_path / "in.nii", random_values((20, 20, 20), "int16"))
    source = nifti.open_source([str(path)])
    _cut(path, 0.5)
    with pytest.raises(SourceError, match="truncated"):
        source.read(whole(source))


@pytest.mark.parametrize(("at", "value"), [(70, 1), (70, 1536), (70, 999), (40, 9)])
def test_nifti_header_fields_out_of_range(at: int, value: int, tmp_path: Path) -> None:
    """Bit, 128-bit and unknown voxel types, and an impossible rank, are refused."""
    path = write_nifti(tmp_path / "in.nii", random_values((20, 20, 20), "int16"))
    raw = bytearray(path.read_bytes())
    raw[at : at + 2] = np.int16(value).tobytes()
    path.write_bytes(bytes(raw))
    with pytest.raises(SourceError, match=r"in\.nii"):
        open_any(str(path))


def test_damaged_zarr_chunk_names_its_window(tmp_path: Path) -> None:
    """A chunk that does not decode is an error of the input, not of the program."""
    image = memory_image((33, 47), "uint16")
    module_path = tmp_path / "in.zarr"
    from pipeline.formats import zarr as zarr_format

    zarr_format.write(layer_of(image), module_path, image, image.read, options(tmp_path))
    chunk = module_path / "restored" / "c" / "0" / "0" / "0"
    raw = bytearray(chunk.read_bytes())
    raw[len(raw) // 2] ^= 255
    chunk.write_bytes(bytes(raw))
    source = open_any(str(module_path))
    with pytest.raises(SourceError, match=r"in\.zarr: cannot read window"):
        source.read(whole(source))


def test_broken_zarr_metadata(tmp_path: Path) -> None:
    """Metadata that is no JSON is named as such."""
    zarr.create_array(tmp_path / "in.zarr", shape=(3, 4), dtype="int16", dimension_names=("y", "x"))
    (tmp_path / "in.zarr" / "zarr.json").write_text("{")
    with pytest.raises(SourceError, match="metadata"):
        open_any(str(tmp_path / "in.zarr"))


def test_zarr_with_chunks_of_nothing(tmp_path: Path) -> None:
    """No chunk is damaged: what the metadata says of all of them is impossible."""
    zarr.create_array(tmp_path / "in.zarr", shape=(3, 4), chunks=(3, 4), dtype="int16", dimension_names=("y", "x"))
    path = tmp_path / "in.zarr" / "zarr.json"
    facts = json.loads(path.read_text())
    facts["chunk_grid"]["configuration"]["chunk_shape"] = [0, 0]
    path.write_text(json.dumps(facts))
    with pytest.raises(SourceError, match=r"its chunks, \(0, 0\), hold no pixel"):
        open_any(str(tmp_path / "in.zarr"))


def test_url_reads_and_fails_like_a_file(web: str, tmp_path: Path) -> None:
    """A GeoTIFF behind HTTP is read by window; a wrong address is a SourceError that names it."""
    values = random_values((2, 70, 90), "uint16")
    write_tiff(tmp_path / "in.tif", values)
    source = open_any(f"{web}/in.tif")
    assert same_bytes(source.read(whole(source)), values)
    with pytest.raises(SourceError, match=r"absent\.tif"):
        open_any(f"{web}/absent.tif")


@pytest.mark.parametrize("path", ["gs://bucket/head.nii.gz", "https://host/head.nii", "gs://bucket/image.zarr"])
def test_formats_that_cannot_be_read_from_an_address_say_so(tmp_path, path):
    """With what to do, not after a search for a file of that name; as image and as mask."""
    image = str(write_nifti(tmp_path / "image.nii", np.zeros((12, 12, 12), "int16")))
    for name, source, mask in (("image", path, image), ("mask", image, path)):
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            f"input: {{source: '{source}'}}\nmask: {{kind: raster, path: '{mask}'}}\nmodel: {{kind: tension}}\n"
            f"output: {{directory: '{tmp_path / name}'}}\n"
        )
        outcome = command("run", config)
        assert outcome.code == 4, outcome.err
        assert f"{path}: is an address" in outcome.err
        assert "fetch it first" in outcome.err
