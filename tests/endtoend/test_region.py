"""A part of an image is restored as if the rest were not there; images along other axes are turned onto its grid."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.warp import transform_bounds

from pipeline.api import restore
from pipeline.commands.template import config_template
from pipeline.config.region import RegionConfig
from pipeline.config.schema import load_config
from pipeline.errors import ConfigError
from pipeline.formats import open_any
from pipeline.formats._repeat import repeated
from pipeline.formats._resample import resampled
from pipeline.formats._view import cropped
from pipeline.geometry.box import Box
from pipeline.image.open import open_source
from tests.helpers import blobs, command, layer, order_of, pixels, result_hash, run_config, smooth, write_image
from tests.support_formats import UTM33, Affine

PART = {2: Box((7, 11), (70, 80)), 3: Box((1, 2, 5), (12, 18, 20))}
SHAPES = {2: (80, 96), 3: (14, 20, 24)}


def _region(box: Box) -> dict[str, list[int]]:
    return {axis: [a, b] for axis, a, b in zip("ijk", box.start[::-1], box.stop[::-1], strict=False)}


def _cut(path: Path, values: np.ndarray, box: Box, name: str) -> Path:
    """Write a part of what `path` holds beside it, as another program would cut it out."""
    part = values[(slice(None), *box.slices)]
    if ".nii" in name:
        nibabel.save(nibabel.load(path).slicer[tuple(reversed(box.slices))], path.parent / name)
        return path.parent / name
    row, col = box.start
    return write_image(path.parent / name, part, transform=Affine(10, 0, 5e5 + 10 * col, 0, -10, 5e6 - 10 * row))


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz"])
def test_a_part_is_restored_like_a_file_that_was_cut_out(tmp_path, suffix):
    """Image, mask and reference cut by hand give the same bytes, places and headers as `input.region`."""
    ndim = 3 if ".nii" in suffix else 2
    box, shape = PART[ndim], SHAPES[ndim]
    given = {
        "image": smooth((2, *shape), "int16"),
        "mask": blobs(shape, seed=1, n=6, radius=5)[None],
        "other": smooth((2, *shape), "int16", seed=4),
    }
    files = {name: write_image(tmp_path / f"{name}{suffix}", values) for name, values in given.items()}
    (tmp_path / "cut").mkdir()
    parts = {name: _cut(files[name], values, box, f"cut/{name}{suffix}") for name, values in given.items()}
    for folder, named, more in ((tmp_path, files, {"region": _region(box)}), (tmp_path / "cut", parts, {})):
        guide = {"references": [{"path": str(named["other"]), "mask": []}], **more}
        assert command("run", run_config(folder, named["image"], named["mask"], input=guide), "--quiet").code == 0
    whole, cut = tmp_path / "out" / "image", tmp_path / "cut" / "out" / "image"
    assert result_hash(whole) == result_hash(cut)
    assert not layer(cut, "restored").space.mismatch(layer(whole, "restored").space, tolerance=1e-6)
    record = json.loads((whole / "record.json").read_text())
    assert record["space"]["region"] == _region(box)
    assert record["notices"][0].startswith(f"../../image{suffix}: only i [{box.start[-1]}, {box.stop[-1]}]")
    assert json.loads((cut / "record.json").read_text())["space"]["region"] is None
    assert command("verify", whole).code == 0
    row = json.loads(command("plan", tmp_path / "run.yaml", "--json").out)["images"][0]
    assert row["shape"] == list(box.shape)
    ends = [f"{axis} {a} to {b - 1}" for axis, (a, b) in _region(box).items()]
    assert f"Restored was a part of the file (<code>input.region</code>): {', '.join(ends)}," in _report(whole)
    assert f"Of a part ({', '.join(ends)}) of the image image (" in _report(whole)
    assert "a part of the file" not in _report(cut)
    assert "a part (" not in _report(cut)


def _report(folder: Path) -> str:
    return (folder / "report.html").read_text()


def test_plan_says_how_to_start_what_it_planned(tmp_path):
    """With the part that was given on the command line: without it the whole image would be restored."""
    image = write_image(tmp_path / "image.tif", smooth((1, 80, 96)))
    mask = write_image(tmp_path / "mask.tif", blobs((80, 96), seed=1)[None])
    given = "input.region={i: [0, 64], j: [0, 64]}"
    said = command("plan", run_config(tmp_path, image, mask), "--set", given).out
    assert said.rstrip().endswith(f"run.yaml --set '{given}'")
    secret = ["--set", "input.exclude=https://me:secret@host/x.tif"]
    told = command("plan", run_config(tmp_path, image, mask), *secret).out
    assert "https://***@host/x.tif" in told
    assert "secret" not in told


def test_a_part_of_zarr(tmp_path):
    """What is written of it lies where the part lay."""
    values, box = smooth((2, 80, 96)), PART[2]
    image = write_image(tmp_path / "image.zarr", values)
    mask = write_image(tmp_path / "mask.tif", blobs((80, 96), seed=1)[None])
    config = run_config(tmp_path, image, mask, input={"region": _region(box)}, model={"kind": "identity"})
    assert command("run", config, "--quiet").code == 0
    restored = layer(tmp_path / "out" / "image", "restored")
    assert np.array_equal(pixels(restored), values[(slice(None), *box.slices)])
    assert restored.space == open_any(str(image)).space.part(box)


def test_masks_mean_in_a_part_what_they_mean_in_the_whole(tmp_path):
    """A buffer reaches in from outside, slices have their numbers in the file, a gap is as long as it is."""
    values = smooth((1, 14, 20, 24), "float32")
    values[:, 8, 3:5, :18] = np.nan
    image = write_image(tmp_path / "image.nii", values)
    drawn = np.zeros((1, 14, 20, 24), np.uint8)
    drawn[0, 5, 1, 10] = 1
    mask = write_image(tmp_path / "mask.nii", drawn)
    entries = [
        {"kind": "raster", "path": str(mask), "buffer": "3 px"},
        {"kind": "slices", "slices": [4, 11], "axis": "k"},
        {"kind": "nodata", "max_gap": "2 px"},
    ]
    box = PART[3]
    config = run_config(tmp_path, image, None, mask=entries)
    whole, part = order_of(config).job, order_of(config, f"input.region={json.dumps(_region(box))}").job
    states = [job.open_mask(open_source(replace(job.source, staged=""))) for job in (whole, part)]
    expected = states[0].read(Box.whole((14, 20, 24)))[(slice(None), *box.slices)]
    assert np.array_equal(states[1].read(Box.whole(box.shape)), expected)
    assert [bool((plane == 1).all()) for plane in expected[0]].count(True) == 2
    assert {0, 1} <= set(np.unique(expected))


def test_bounds_name_every_pixel_that_they_touch():
    """In the raster's reference system or another; what reaches out is cut off, what lies outside is refused."""
    raster = _raster((80, 96))
    assert _of(raster, bounds=[500110, 4999300, 500800, 4999930]) == PART[2]
    assert _of(raster, bounds=[500110.004, 4999299.996, 500800.004, 4999930]) == PART[2]
    assert _of(raster, bounds=[500109, 4999299, 500801, 4999931]) == Box((6, 10), (71, 81))
    assert _of(raster, bounds=[0, 0, 500100, 9e6]) == Box((0, 0), (80, 10))
    south_up = replace(raster, space=replace(raster.space, affine=(10.0, 0.0, 5e5, 0.0, 10.0, 4999200.0)))
    assert _of(south_up, bounds=[500110, 4999300, 500800, 4999930]) == Box((10, 11), (73, 80))
    degrees = transform_bounds(UTM33, "EPSG:4326", 500200, 4999400, 500300, 4999500)
    found = _of(raster, bounds=list(degrees), crs="EPSG:4326")
    assert (found & Box((50, 20), (60, 30))) == Box((50, 20), (60, 30))
    assert found.size < 13 * 13
    with pytest.raises(ConfigError, match=r"image\.tif: bounds .* lie outside the image; shape \(80, 96\).*UTM"):
        _of(raster, bounds=[0, 0, 5, 5])
    assert _of(raster, bounds=[500109.9995, 4999899.9995, 500110.0005, 4999900.0005]).size == 1
    for named in ("EPSG:nothing", "http://127.0.0.1:9/x", "/etc/hostname", ""):
        with pytest.raises(ConfigError, match=f"crs '{named}' is no reference system"):
            _of(raster, bounds=[0, 0, 5, 5], crs=named)
    with pytest.raises(ConfigError, match="no operation leads from one reference system to the other"):
        _of(raster, bounds=[0, 0, 5, 5], crs='LOCAL_CS["mine"]')
    with pytest.raises(ConfigError, match="has no reference system for bounds; name the part by i and j"):
        _of(replace(raster, space=replace(raster.space, crs="")), bounds=[0, 0, 5, 5])
    with pytest.raises(ConfigError, match="bounds are of rasters; name the part of a volume by i, j and k"):
        _of(_raster((4, 5, 6)), bounds=[0, 0, 5, 5])


GLOBE = "+proj=geos +h=35785831 +lon_0=0 +sweep=y"


@pytest.mark.parametrize(
    ("crs", "affine", "bounds", "of", "expected"),
    [
        ("EPSG:4326", (1, 0, 160, 0, -1, 30), [-170, -10, -160, 10], None, Box((20, 30), (40, 40))),
        ("EPSG:4326", (1, 0, 160, 0, -1, 30), [-170, -10, -160, 10], "EPSG:4326", Box((20, 30), (40, 40))),
        ("EPSG:4326", (1, 0, 160, 0, -1, 30), [19332354, -9000, 20771339, 9000], "EPSG:3857", Box((29, 13), (31, 27))),
        ("EPSG:4326", (1, 0, -180, 0, -1, 30), [190, -10, 200, 10], None, Box((20, 10), (40, 20))),
        (GLOBE, (180000, 0, -5.7e6, 0, -180000, 5.4e6), [-120, -89, 120, 89], "EPSG:4326", Box((0, 1), (60, 62))),
        ("EPSG:32633", (10, 0, 3e5, 0, -10, 5e6), [-180, -90, 180, 90], "EPSG:4326", Box((0, 0), (60, 64))),
        (
            "EPSG:3413",
            (10000, 0, -320000, 0, -10000, 300000),
            [-180, 89, 180, 90],
            "EPSG:4326",
            Box((19, 21), (41, 43)),
        ),
    ],
    ids=["from 0 to 360", "in degrees", "across the date line", "beyond it", "globe", "whole earth", "pole"],
)
def test_bounds_across_the_earth(crs, affine, bounds, of, expected):
    """Longitudes repeat; edges that leave the world, or come back on its other side, take nothing away."""
    from rasterio.crs import CRS

    raster = _raster((60, 64))
    raster = replace(raster, space=replace(raster.space, crs=CRS.from_user_input(crs).to_wkt(), affine=affine))
    assert _of(raster, bounds=bounds, crs=of) == expected


def _raster(shape: tuple[int, ...]):
    from tests.support_formats import ArraySource, space_of

    return ArraySource(values=np.zeros((1, *shape), np.uint8), space=space_of(shape), paths=("image.tif",))


def _of(source, **keys) -> Box:
    return RegionConfig(**keys).box(source)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (
            {"i": [0, 97]},
            r"run\.yaml:\d+: input\.region: .*image\.tif: i \[0, 97\] reaches out of the image, which has 96",
        ),
        ({"k": [0, 1]}, "a raster has no axis k"),
        ({"i": [5, 5]}, r"input\.region\.i: must be two whole numbers, the first that is taken and the one after"),
        ({"i": [0.5, 5]}, "must be two whole numbers"),
        ({"j": [-1, 5]}, "must be two whole numbers"),
        ({"j": 5}, "must be two whole numbers"),
        ({}, "names no part"),
        ({"i": [0, 5], "bounds": [0, 0, 1, 1]}, "give bounds or i, not both"),
        ({"i": [0, 5], "crs": "EPSG:4326"}, "crs is that of bounds"),
        ({"bounds": [5, 0, 1, 1]}, "with left < right"),
        ({"bounds": [179, 0, -179, 1]}, r"across the date line right is counted on: \[179, 0, 181.0, 1\]"),
        ({"x": [0, 5]}, r"unknown key.*known: bounds, crs, i, j, k"),
    ],
)
def test_what_is_no_part_is_said(tmp_path, region, said):
    """With the key, its line and what is wrong; nothing is begun."""
    image = write_image(tmp_path / "image.tif", smooth((1, 80, 96)))
    mask = write_image(tmp_path / "mask.tif", blobs((80, 96))[None])
    outcome = command("run", run_config(tmp_path, image, mask, input={"region": region}))
    assert outcome.code == 2
    assert re.search(said, outcome.err), outcome.err
    assert not (tmp_path / "out" / "image").exists()


def test_of_a_batch_each_image_has_its_own_part(tmp_path):
    """One that is too small for it fails, and the others are restored; of a series the parts go into the cube."""
    for day, rows in (("20240601", 80), ("20240611", 80), ("20240621", 40)):
        write_image(tmp_path / f"s_{day}.tif", smooth((1, rows, 96), seed=int(day)))
    write_image(tmp_path / "mask.tif", blobs((80, 96))[None])
    more = {"region": {"j": [30, 70]}}
    entry = [{"kind": "raster", "path": str(tmp_path / "mask.tif"), "outside": "keep"}]
    config = run_config(tmp_path, str(tmp_path / "s_*.tif"), None, input=more, mask=entry)
    assert command("run", config, "--quiet").code == 5
    failed = json.loads((tmp_path / "out" / "run.json").read_text())["sources"][2]["error"]
    assert "s_20240621.tif: j [30, 70] reaches out of the image, which has 40 there" in failed
    assert [layer(tmp_path / "out" / f"s_202406{day}1", "restored").space.shape for day in "01"] == [(40, 96)] * 2
    series = [
        "input.series=true",
        "output.cube=true",
        f"output.directory={tmp_path / 'cube'}",
        'input.exclude="*21.tif"',
    ]
    outcome = command("run", config, "--quiet", *(part for key in series for part in ("--set", key)))
    assert outcome.code == 0, outcome.err
    assert open_any(str(tmp_path / "cube" / "s_20240601" / "s_20240601_restored.tif")).space.shape == (40, 96)


def test_a_part_does_not_depend_on_blocks_and_is_another_request(tmp_path):
    """Shares of blocks give the bytes of one run; another part needs `--overwrite`."""
    image = write_image(tmp_path / "image.tif", smooth((2, 80, 96)))
    mask = write_image(tmp_path / "mask.tif", blobs((80, 96), seed=1, n=6)[None])
    config = run_config(tmp_path, image, mask, input={"region": _region(PART[2])})
    assert command("run", config, "--quiet").code == 0
    apart = ("--set", f"output.directory={tmp_path / 'apart'}", "--set", "compute.block=32")
    assert [command("shard", share, config, *apart, "--quiet").code for share in ("1/2", "2/2")] == [0, 0]
    assert command("assemble", config, *apart, "--quiet").code == 0
    assert result_hash(tmp_path / "apart" / "image") == result_hash(tmp_path / "out" / "image")
    other = ("--set", "input.region.i=[0, 64]")
    assert command("run", config, *other, "--quiet").code == 6
    assert command("run", config, *other, "--quiet", "--overwrite").code == 0
    assert layer(tmp_path / "out" / "image", "restored").space.shape == (63, 64)


def test_what_locates_a_raster_moves_with_the_part(tmp_path):
    """Control points and polynomials count pixels; its own mask and the other fields of the header stay."""

    def setup(dataset) -> None:
        dataset.gcps = ([GroundControlPoint(10, 20, 14.0, 45.0, 0), GroundControlPoint(70, 90, 14.1, 44.9, 0)], UTM33)
        dataset.rpcs = RPC(100, 10, 45, 1, [1.0] * 20, [1.0] * 20, 40, 40, 14, 1, [1.0] * 20, [1.0] * 20, 48, 48, 0, 0)
        dataset.write_mask(np.pad(np.full((60, 60), 255, np.uint8), ((10, 10), (20, 16))))
        dataset.update_tags(FLIGHT="7")

    image = write_image(tmp_path / "image.tif", smooth((1, 80, 96)), setup=setup, crs=None, transform=None)
    mask = write_image(tmp_path / "mask.tif", blobs((80, 96))[None], crs=None, transform=None)
    config = run_config(tmp_path, image, mask, input={"region": _region(PART[2])}, model={"kind": "identity"})
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    with rasterio.open(tmp_path / "out" / "image" / "image_restored.tif") as result, rasterio.open(image) as whole:
        assert [(p.row, p.col, p.x) for p in result.gcps[0]] == [(3, 9, 14.0), (63, 79, 14.1)]
        assert (result.rpcs.line_off, result.rpcs.samp_off, result.rpcs.lat_off) == (33, 37, 45)
        assert result.tags()["FLIGHT"] == "7"
        inside = whole.dataset_mask()[PART[2].slices]
        assert set(np.unique(inside)) == {0, 255}
        assert np.array_equal(result.dataset_mask() > 0, (inside > 0) | (blobs((80, 96))[PART[2].slices] > 0))
    assert command("verify", tmp_path / "out" / "image").code == 0


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_the_header_of_a_part_of_a_volume(tmp_path, codes):
    """Either matrix says where its first voxel lies; what is told of all slices together is left out."""

    def setup(header) -> None:
        header.set_qform(header.get_sform(), code=1)
        header["slice_code"], header["slice_end"], header["slice_duration"] = 1, 13, 0.1
        header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))

    image = write_image(tmp_path / "image.nii", smooth((2, 14, 20, 24), "int16"), setup=setup)
    mask = write_image(tmp_path / "mask.nii", blobs((14, 20, 24))[None], setup=setup)
    for file in (image, mask):
        with file.open("r+b") as opened:
            opened.seek(252)
            opened.write(np.asarray(codes, "<i2").tobytes())
    config = run_config(tmp_path, image, mask, input={"region": _region(PART[3])}, model={"kind": "identity"})
    outcome = command("run", config, "--quiet")
    assert outcome.code == 0, outcome.err
    before, after = nibabel.load(image), nibabel.load(tmp_path / "out" / "image" / "image_restored.nii")
    assert np.array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj)[5:20, 2:18, 1:12])
    expected = before.slicer[5:20, 2:18, 1:12]
    if codes != (0, 0):
        # without a matrix nothing says where it lies: the middle is the origin of either
        np.testing.assert_allclose(after.affine, expected.affine, atol=1e-4)
    assert (int(after.header["qform_code"]), int(after.header["sform_code"])) == codes
    assert (int(after.header["slice_code"]), int(after.header["slice_end"])) == (0, 0)
    assert [e.get_content() for e in after.header.extensions] == [b"kept"]
    assert command("verify", tmp_path / "out" / "image").code == 0


def test_a_part_of_a_guide_on_another_grid():
    """It is interpolated as for the whole image: the part begins where the grid of the image says."""
    raster = _raster((80, 96))
    fine = replace(raster.space, shape=(160, 192), affine=(5.0, 0.0, 5e5, 0.0, -5.0, 5e6))
    guide = resampled(replace(raster, values=smooth((1, 160, 192)), space=fine), raster.space)
    part = cropped(guide, PART[2])
    expected = guide.read(Box.whole((80, 96)))[(slice(None), *PART[2].slices)]
    assert np.array_equal(part.read(Box.whole(PART[2].shape)), expected)
    assert np.array_equal(part.read(Box((3, 4), (9, 11))), expected[:, 3:9, 4:11])
    again = cropped(part, Box((3, 4), (9, 11)))
    assert np.array_equal(again.read(Box.whole(again.space.shape)), expected[:, 3:9, 4:11])
    assert again.space == part.space.part(Box((3, 4), (9, 11)))
    with pytest.raises(ValueError, match="not inside"):
        part.read(Box((0, 0), (64, 10)))


TURNS = {"mirrored": ("k", "j", "-i"), "turned": ("-j", "k", "-i"), "lying": ("j", "i", "k")}
"""Axes of a file in place of i, j, k, by those of the image that they are."""


def _turned(path: Path, axes: tuple[str, ...], name: str) -> Path:
    """Write a volume along other axes, as another program would."""
    image = nibabel.load(path)
    moves = [("ijk".index(axis[-1]), -1 if axis.startswith("-") else 1) for axis in axes]
    order = np.empty((3, 2))
    for at, (axis, sign) in enumerate(moves):
        order[axis] = at, sign
    nibabel.save(image.as_reoriented(order), path.parent / name)
    return path.parent / name


@pytest.mark.parametrize("turn", list(TURNS))
def test_volumes_along_other_axes_are_turned(tmp_path, turn):
    """Mask and reference with a mask of its own, also for a part: to the byte what they give along the image's axes."""
    shape = SHAPES[3]
    image = write_image(tmp_path / "image.nii", smooth((1, *shape), "int16"))
    mask = write_image(tmp_path / "mask.nii.gz", blobs(shape, seed=1, n=6, radius=5)[None])
    other = write_image(tmp_path / "other.nii.gz", smooth((1, *shape), "int16", seed=4))
    hidden = write_image(tmp_path / "hidden.nii", blobs(shape, seed=2)[None])
    hashes = []
    for there in (False, True):
        files = [_turned(path, TURNS[turn], f"t_{path.name}") if there else path for path in (mask, other)]
        # slices of the reference have their numbers in its own file; its other mask lies as the image does
        axis, lost = ("k", 3)
        if there:
            at = [step[-1] for step in TURNS[turn]].index("k")
            axis, lost = "ijk"[at], shape[0] - 1 - 3 if TURNS[turn][at].startswith("-") else 3
        entries = [{"kind": "raster", "path": str(hidden)}, {"kind": "slices", "slices": [lost], "axis": axis}]
        for region in (None, _region(PART[3])):
            more = {"references": [{"path": str(files[1]), "mask": entries}], "region": region}
            folder = tmp_path / f"{there}{region is None}"
            config = run_config(tmp_path, image, files[0], input=more, output={"directory": str(folder)})
            outcome = command("run", config, "--quiet")
            assert outcome.code == 0, outcome.err
            hashes.append(result_hash(folder / "image"))
            notices = json.loads((folder / "image" / "record.json").read_text())["notices"]
            assert sum("voxel by voxel, without interpolation" in note for note in notices) == 3 * there, notices
    assert hashes[:2] == hashes[2:]


def test_a_raster_whose_rows_run_north_is_turned(tmp_path):
    """A reference and a mask south up, as some programs write netCDF, are read without `resample`."""
    values, hole, other = smooth((2, 80, 96)), blobs((80, 96), seed=1, n=6)[None], smooth((2, 80, 96), seed=4)
    south_up = {"transform": Affine(10, 0, 5e5, 0, 10, 5e6 - 800)}
    image = write_image(tmp_path / "image.tif", values)
    hashes = []
    for name, turn, profile in (("north", slice(None), {}), ("south", slice(None, None, -1), south_up)):
        mask = write_image(tmp_path / f"mask_{name}.tif", hole[:, turn], **profile)
        guide = write_image(tmp_path / f"other_{name}.tif", other[:, turn], **profile)
        folder = tmp_path / name
        more = {"references": [{"path": str(guide), "mask": []}]}
        outcome = command(
            "run", run_config(tmp_path, image, mask, input=more, output={"directory": str(folder)}), "--quiet"
        )
        assert outcome.code == 0, outcome.err
        hashes.append(result_hash(folder / "image"))
    assert hashes[0] == hashes[1]
    notices = json.loads((tmp_path / "south" / "image" / "record.json").read_text())["notices"]
    assert sum("rows and columns run other ways than the image's; turned onto" in note for note in notices) == 2


def test_without_stated_sides_nothing_is_turned(tmp_path):
    """Codes 0 leave open where right is: the matrix that programs make up then is no reason to mirror a mask."""
    affine = np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = 4.5, -3.5, -2.5
    images = {name: tmp_path / f"{name}.nii" for name in ("image", "mask")}
    nibabel.save(nibabel.Nifti1Image(np.ones((10, 8, 6), np.int16), affine), images["mask"])
    affine[0] *= -1
    nibabel.save(nibabel.Nifti1Image(smooth((6, 8, 10), "int16").T, affine), images["image"])
    for unstated in ("mask", "image"):
        for name, path in images.items():
            with path.open("r+b") as file:
                file.seek(252)
                file.write(np.asarray((0, 0) if name == unstated else (0, 2), "<i2").tobytes())
        outcome = command("run", run_config(tmp_path, images["image"], images["mask"]), "--quiet")
        if unstated == "mask":
            assert outcome.code == 4
            assert re.search(r"\(LAS against RAS\), and .*mask\.nii does not say where right, front", outcome.err)
        guide = {"references": [{"path": str(images["mask"]), "mask": []}]}
        config = run_config(tmp_path, images["image"], None, mask=[{"kind": "slices", "slices": [2]}], input=guide)
        outcome = command("run", config, "--quiet", "--overwrite")
        if unstated == "mask":
            assert outcome.code == 2
            assert re.search(r"mask\.nii does not say where right, front", outcome.err)


def test_from_python_a_part_is_one_of_a_file(tmp_path):
    """Arrays are cut where they are, so that layers have the shape of the image that was given."""
    values, hole = smooth((1, 80, 96)), blobs((80, 96), seed=1)[None]
    image, mask = write_image(tmp_path / "image.tif", values), write_image(tmp_path / "mask.tif", hole)
    more = {"input": {"region": _region(PART[2])}, "model": {"kind": "tension"}, "compute": {"executor": "serial"}}
    assert restore(str(image), str(mask), **more).values.shape == (1, *PART[2].shape)
    with pytest.raises(ConfigError, match="is for files: of an array give the part"):
        restore(values, hole, **more)


def test_derivatives_are_whole_images(tmp_path):
    """A part of a scan would be taken for the scan."""
    image = write_image(tmp_path / "image.nii", smooth((1, 14, 20, 24)))
    mask = write_image(tmp_path / "mask.nii", blobs((14, 20, 24))[None])
    more = {"input": {"region": _region(PART[3])}, "output": {"bids": str(tmp_path / "derivatives")}}
    outcome = command("run", run_config(tmp_path, image, mask, **more))
    assert outcome.code == 2
    assert re.search(r"run\.yaml:\d+: output\.bids: derivatives are whole images; leave out input\.region", outcome.err)


def test_a_start_config_offers_a_part_of_a_large_image(tmp_path):
    """The line is right as it stands; small images are as soon done as a part of them."""
    large = write_image(tmp_path / "large.tif", np.zeros((1, 1400, 700), np.uint8))
    small = write_image(tmp_path / "small.tif", np.zeros((1, 900, 700), np.uint8))
    text = config_template(large, tmp_path).text
    assert "  # region: {i: [94, 606], j: [444, 956]}" in text
    path = tmp_path / "c.yaml"
    path.write_text(text.replace("# region", "region").replace("# say here", "- {kind: threshold, above: 3} # "))
    assert load_config(path).input.region.box(open_any(str(large))) == Box((444, 94), (956, 606))
    assert "region" not in config_template(small, tmp_path).text


def test_a_part_of_bands_of_several_sizes(tmp_path):
    """Coarse pixels are repeated as in the whole image, also where the part begins in the middle of one."""
    fine = write_image(tmp_path / "fine.tif", smooth((1, 80, 96)))
    coarse = write_image(tmp_path / "coarse.tif", smooth((1, 40, 48)), transform=Affine(20, 0, 5e5, 0, -20, 5e6))
    whole = repeated([open_any(str(path)) for path in (fine, coarse)])
    part = cropped(whole, PART[2])
    expected = whole.read(Box.whole((80, 96)))[(slice(None), *PART[2].slices)]
    assert np.array_equal(part.read(Box.whole(PART[2].shape)), expected)
    assert np.array_equal(part.read(Box((3, 4), (9, 11)), slice(1, 2)), expected[1:, 3:9, 4:11])
    assert part.native_chunk <= PART[2].shape
    assert pickle.loads(pickle.dumps(part)).space == whole.space.part(PART[2])
