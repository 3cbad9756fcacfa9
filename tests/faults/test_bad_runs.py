"""What goes wrong for a user: an exit code a scheduler can act on, a message with file, value and remedy, no result."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
from itertools import count
from pathlib import Path
from unittest import mock

import nibabel
import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from pipeline import run
from pipeline.blocks.events import Events
from pipeline.errors import OutputConflict
from pipeline.execute import base as execute
from pipeline.plan.workdir import WorkFolder
from pipeline.system.lock import locked
from pipeline.system.room import explain_full_disk
from tests.faults.conftest import SHAPE
from tests.helpers import blobs, command, layer, pixels, run_config, smooth, tiny_weights, write_image
from tests.support_formats import same_bytes


def _constant(folder: Path, image: Path | str, hole: Path | None, **sections) -> Path:
    """A config whose run takes no time: a constant in every hole."""
    return run_config(folder, image, hole, **{"model": {"kind": "constant", "options": {"value": 7}}, **sections})


def _fails(config: Path, code: int, *words: str, extra: tuple[str, ...] = ()) -> str:
    """Run, expect the exit code and all words in the message, no traceback and nothing under a final name."""
    outcome = command("run", config, *extra)
    assert outcome.code == code, f"exit code {outcome.code}: {outcome.err}"
    for word in words:
        assert word in outcome.err, outcome.err
    assert "Traceback" not in outcome.err
    published = [p.name for p in (config.parent / "out").glob("[!.]*/*")]
    assert published == []
    return outcome.err


# --- inputs -----------------------------------------------------------------------------------------------------


def test_a_missing_file(scene):
    """Exit 4; names the file and the one that looks like it."""
    folder, image, mask = scene
    _fails(_constant(folder, folder / "imoge.tif", mask), 4, "imoge.tif", "no such file", image.name)


@pytest.mark.parametrize("value", ["-9999", ".inf", "1e400", "nan", "0.5", "65536"])
def test_a_nodata_value_that_no_pixel_can_have(scene, value):
    """Exit 2: what the file itself declares would be taken for measured, without a word."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    said = f"no pixel of {image} can be {float(value.lstrip('.')):.17g}"
    _fails(config, 2, said, "uint16", extra=("--set", f"input.nodata={value}"))
    reference = shutil.copy(image, folder / "other.tif")
    given = f"input.references=[{{path: {reference}, nodata: {value}, mask: []}}]"
    if value != "nan":
        _fails(config, 2, "nodata of the reference", "uint16", extra=("--set", given))
    write_image(folder / "image.tif", smooth((1, *SHAPE)).astype("float32"))
    assert command("run", config, "--set", f"input.nodata={value}").code == 0


@pytest.mark.parametrize("name", ["image.tif", "image.nii.gz"])
def test_a_truncated_image(tmp_path, name):
    """Exit 4: half a file is said to be damaged, whether the header or the pixels are cut."""
    shape = SHAPE if name.endswith("tif") else (20, 22, 24)
    values = np.random.default_rng(0).integers(0, 60_000, (1, *shape)).astype("uint16")
    image = write_image(tmp_path / name, values)
    mask = write_image(tmp_path / f"mask{''.join(image.suffixes)}", blobs(shape, n=3)[None])
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    _fails(_constant(tmp_path, image, mask), 4, name)


def test_a_truncated_mask(scene):
    """Exit 4; names the mask, not the image."""
    folder, image, mask = scene
    mask.write_bytes(mask.read_bytes()[:200])
    _fails(_constant(folder, image, mask), 4, "mask.tif")


def test_a_text_file_with_the_name_of_an_image(scene):
    """Exit 4: what the file says counts, not what it is called."""
    folder, image, mask = scene
    image.write_text("these are not the pixels you are looking for\n")
    _fails(_constant(folder, image, mask), 4, "image.tif")


def _odd(folder: Path, values: np.ndarray, *, setup=None, **profile) -> Path:
    return write_image(folder / "image.tif", values, setup=setup, **profile)


def test_palette_data(scene):
    """Exit 4: colour numbers have no in-between."""
    folder, _, mask = scene
    table = {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)}
    image = _odd(folder, np.ones((1, *SHAPE), "uint8"), setup=lambda d: d.write_colormap(1, table))
    _fails(_constant(folder, image, mask), 4, "image.tif", "palette")


def test_complex_data(scene):
    """Exit 4: complex numbers are refused by name."""
    folder, _, mask = scene
    image = _odd(folder, np.ones((1, *SHAPE), "complex64"))
    _fails(_constant(folder, image, mask), 4, "image.tif", "complex")


def test_structured_data(tmp_path):
    """Exit 4: a NIfTI of RGB structs is no measurement."""
    values = np.zeros((6, 7, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    from tests.support_formats import write_nifti

    image = write_nifti(tmp_path / "image.nii.gz", values)
    mask = write_image(tmp_path / "mask.nii.gz", np.ones((1, 8, 7, 6), "uint8"))
    _fails(_constant(tmp_path, image, mask), 4, "image.nii.gz", "RGB")


def test_zero_bands(scene):
    """An empty band list is a mistake in the config: exit 2."""
    folder, image, mask = scene
    _fails(_constant(folder, image, mask, input={"bands": []}), 2, "input.bands")


def test_a_band_that_is_not_there(scene):
    """Says how many bands there are."""
    folder, image, mask = scene
    outcome = command("run", _constant(folder, image, mask, input={"bands": [9]}))
    assert outcome.code in (2, 4)
    assert "9" in outcome.err
    assert "2" in outcome.err


# --- masks ------------------------------------------------------------------------------------------------------


def test_a_mask_of_another_place(scene):
    """Exit 4: no overlap; names both grids."""
    folder, image, _ = scene
    hole = blobs(SHAPE, n=3)[None]
    mask = write_image(folder / "far.tif", hole, transform=Affine(10, 0, 9e5, 0, -10, 9e6))
    _fails(_constant(folder, image, mask), 4, "far.tif", "does not overlap the image", "900000", "500000")


def test_a_mask_with_another_affine(tmp_path):
    """Exit 4: a shifted NIfTI mask would restore the wrong tissue."""
    shape = (10, 12, 14)
    image = write_image(tmp_path / "image.nii.gz", smooth((1, *shape), "int16"))

    mask = write_image(tmp_path / "right.nii.gz", blobs(shape, n=2)[None])
    right = nibabel.load(mask)
    affine = right.affine.copy()
    affine[0, 3] += 1.0
    mask = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.asarray(right.dataobj), affine), mask)
    _fails(_constant(tmp_path, image, mask), 4, "mask.nii.gz", "origins 1 mm apart")


def test_an_empty_mask_is_no_error(scene):
    """Exit 0, a notice, and the output is the input."""
    folder, image, _ = scene
    mask = write_image(folder / "mask.tif", np.zeros((1, *SHAPE), "uint8"))
    outcome = command("run", _constant(folder, image, mask))
    assert outcome.code == 0, outcome.err
    assert "nothing to restore" in outcome.err
    out = folder / "out" / "image"
    assert same_bytes(pixels(layer(out, "restored")), pixels(image))
    assert not pixels(layer(out, "source")).any()
    record = json.loads((out / "record.json").read_text())
    assert record["holes"]["pixels"] == 0
    assert any("nothing to restore" in notice for notice in record["notices"])
    assert command("verify", folder / "out").code == 0


def test_a_mask_over_nodata_only(tmp_path):
    """Exit 0 with `never`: what the mask marks has no value; the notice says so and what fills it."""
    values = smooth((1, *SHAPE))
    values[0, 8:14, 8:14] = 0
    hole = np.zeros((1, *SHAPE), "uint8")
    hole[0, 9:13, 9:13] = 1
    image = write_image(tmp_path / "image.tif", values, nodata=0)
    mask = write_image(tmp_path / "mask.tif", hole)
    config = _constant(tmp_path, image, mask, input={"fill_nodata": "never"})
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert "no pixel that has a value" in outcome.err
    assert "36 pixels without one" in outcome.err
    assert "fill_nodata: inside" in outcome.err
    filled = command("run", config, "--overwrite", "--set", "input.fill_nodata=inside")
    assert filled.code == 0, filled.err
    assert "nothing to restore" not in filled.err


def test_a_mask_over_everything(scene):
    """Exit 3: nothing observed is left; says what to check."""
    folder, image, _ = scene
    mask = write_image(folder / "mask.tif", np.ones((1, *SHAPE), "uint8"))
    _fails(_constant(folder, image, mask), 3, "image.tif", "cover everything", "invert")


def test_no_mask_at_all(scene):
    """Exit 2: says how to say where the holes are."""
    folder, image, _ = scene
    _fails(_constant(folder, image, None, mask=[]), 2, "image.tif", "mask:")


# --- configs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("compute: {exekutor: serial}", ("run.yaml:3", "exekutor", "executor")),
        ("seed: 1\nseed: 2", ("run.yaml:4", "duplicate", "seed")),
        ("patch: {size: large}", ("run.yaml:3", "patch.size", "large")),
        ("compute: {memory_per_worker: lots}", ("run.yaml:3", "memory_per_worker", "lots")),
        ("model: {kind: tensoin}", ("run.yaml:3", "tensoin", "tension")),
    ],
)
def test_a_wrong_config(scene, line, words):
    """Exit 2 with line, value and the nearest right word, and no folder made."""
    folder, image, mask = scene
    config = folder / "run.yaml"
    config.write_text(f"input: {{source: {image}}}\nmask: [{{kind: raster, path: {mask}}}]\n{line}\n")
    _fails(config, 2, *words)
    assert not (folder / "out").exists()


def test_a_config_that_is_not_there(tmp_path):
    """Exit 2 and the name."""
    outcome = command("run", tmp_path / "nothing.yaml")
    assert outcome.code == 2
    assert "nothing.yaml" in outcome.err


def test_an_unknown_catalog_name(scene):
    """Exit 2; suggests the nearest name."""
    folder, _, mask = scene
    _fails(_constant(folder, "demo-sentinal", mask), 2, "demo-sentinal", "demo-sentinel")


def test_an_unknown_command():
    """Exit 2, as any usage error."""
    assert command("rnu").code == 2
    assert command("run").code == 2


# --- machine ----------------------------------------------------------------------------------------------------


def test_more_memory_than_given(scene):
    """Exit 3 with both numbers and the keys to change; nothing was computed."""
    folder, image, mask = scene
    config = _constant(folder, image, mask, compute={"memory_per_worker": "100 MiB"})
    _fails(config, 3, "needs 0.23 GiB", "100 MiB", "compute.memory_per_worker", "Allow at least 0.3 GiB")
    assert not (folder / "out" / ".work" / "image" / "journal").exists()


def test_a_gpu_that_is_not_there(scene, monkeypatch):
    """Exit 3 and the key to change."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folder, image, mask = scene
    model = {"kind": "autoencoder", "weights": str(tiny_weights(folder))}
    config = run_config(folder, image, mask, model=model, compute={"device": "cuda"})
    _fails(config, 3, "cuda", "compute.device")


def test_weights_that_are_not_there(scene):
    """Exit 2 and the name."""
    folder, image, mask = scene
    model = {"kind": "autoencoder", "weights": str(folder / "none.safetensors")}
    _fails(run_config(folder, image, mask, model=model), 2, "none.safetensors", "no such file")


def test_weights_with_another_hash(scene):
    """Exit 2; names both hashes."""
    folder, image, mask = scene
    weights = tiny_weights(folder)
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    model = {"kind": "autoencoder", "weights": str(weights)}
    _fails(run_config(folder, image, mask, model=model), 2, "tiny2.safetensors", "sha256")


# --- output -----------------------------------------------------------------------------------------------------


def test_an_output_of_another_plan(scene):
    """Exit 6, says `--overwrite`; with it the old result is replaced by the one a fresh folder would get."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    assert command("run", config).code == 0
    before = pixels(layer(folder / "out" / "image", "restored"))
    other = ("--set", "model.options={value: 9}")
    outcome = command("run", config, *other)
    assert outcome.code == 6
    assert "--overwrite" in outcome.err
    assert same_bytes(pixels(layer(folder / "out" / "image", "restored")), before)
    assert command("run", config, *other, "--overwrite").code == 0
    after = pixels(layer(folder / "out" / "image", "restored"))
    assert set(np.unique(after[before != after])) == {9}


def test_overwrite_with_scratch_elsewhere(scene):
    """Working files on another folder are replaced as well: an old plan must not serve a new config."""
    folder, image, mask = scene
    config = _constant(folder, image, mask, compute={"scratch": str(folder / "scratch")})
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert command("verify", folder / "out").code == 0
    outcome = command("run", config, "--set", "model.options={value: 9}", "--overwrite")
    assert outcome.code == 0, outcome.err
    assert (pixels(layer(folder / "out" / "image", "restored")) == 9).any()


def test_a_folder_with_something_else(scene):
    """Exit 6: files of the user are never replaced unasked."""
    folder, image, mask = scene
    precious = folder / "out" / "image" / "thesis.docx"
    precious.parent.mkdir(parents=True)
    precious.write_text("years")
    outcome = command("run", _constant(folder, image, mask))
    assert outcome.code == 6
    assert "--overwrite" in outcome.err
    assert precious.read_text() == "years"


@pytest.mark.parametrize("where", ["out", "out/image"])
def test_a_file_in_the_place_of_the_folder(scene, where):
    """Exit 6: cannot be written; names the folder."""
    folder, image, mask = scene
    path = folder / where
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way")
    outcome = command("run", _constant(folder, image, mask))
    assert outcome.code == 6, outcome.err
    assert str(folder / "out") in outcome.err
    assert "Traceback" not in outcome.err


def test_an_output_in_use(scene):
    """Exit 6 while another process holds the lock; names the process; afterwards the run works."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    assert command("run", config).code == 0
    record = folder / "out" / "image" / "record.json"
    record.unlink()
    with locked(folder / "out" / ".work" / "image" / "lock"):
        outcome = command("run", config)
    assert outcome.code == 6
    assert f"process {os.getpid()} on {socket.gethostname()}" in outcome.err
    assert command("run", config).code == 0


@pytest.mark.parametrize(("first", "second"), [("", "b"), ("a", ""), ("a", "b")])
def test_an_output_in_use_with_another_scratch_folder(scene, first, second):
    """Exit 6 while a run into the same output works elsewhere, which goes on; nothing of either is left behind."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    scratch = {name: [f"compute.scratch={folder / name}"] if name else [] for name in (first, second)}
    outcomes = []

    class Second(Events):
        def blocks(self, stem, *, done, total):
            outcomes.append(command("run", config, *(word for text in scratch[second] for word in ("--set", text))))

    summary = run.run(config, scratch[first], events=Second())
    assert [outcome.code for outcome in outcomes] == [6]
    assert f"in use by process {os.getpid()}" in outcomes[0].err
    assert summary["sources"][0]["state"] == "done"
    assert not list(folder.glob("*/.work"))


@pytest.mark.parametrize(("first", "second"), [("", "b"), ("a", ""), ("a", "b")])
def test_an_unfinished_run_with_another_scratch_folder(scene, first, second):
    """`status` and exit 6 say where it is; it goes on there, or `--overwrite` drops it."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    scratch = {name: ["--set", f"compute.scratch={folder / name}"] if name else [] for name in (first, second)}

    class Stopped(Events):
        def blocks(self, stem, *, done, total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(config, scratch[first][1:], events=Stopped())
    there = folder / (first or "out")
    told = command("status", folder / "out")
    assert told.code == 0, told.err
    assert "interrupted  0 of " in told.out
    assert (f"in compute.scratch: {folder / 'a'}" in told.out) == (first == "a")
    outcome = command("run", config, *scratch[second])
    assert outcome.code == 6
    assert f"{there}/.work/image holds a run of this image that is not finished; run it with" in outcome.err
    assert (there / ".work" / "image" / "plan.json").exists()
    again = command("run", config, *(scratch[first] if second else (*scratch[second], "--overwrite")))
    assert again.code == 0, again.err
    assert ("its plan is used" in again.err) == bool(second)
    assert not list(folder.glob("*/.work"))


def test_a_scratch_folder_of_others(scene):
    """Another project or user works there with the same name: another scratch folder helps, another output does not."""
    folder, image, mask = scene
    config = _constant(folder, image, mask, compute={"scratch": str(folder / "scratch")})

    class Stopped(Events):
        def blocks(self, stem, *, done, total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(config, events=Stopped())
    other = ("--set", f"output.directory={folder / 'other'}", "--set", "seed=3")
    outcome = command("run", config, *other)
    assert outcome.code == 6
    assert f"{folder}/scratch/.work/image holds a run of another config" in outcome.err
    assert "another compute.scratch" in outcome.err
    assert "another output.directory" not in outcome.err
    assert command("run", config).code == 0
    (folder / "scratch" / ".work").write_text("somebody else's")
    outcome = command("run", config, *other)
    assert outcome.code == 6
    assert f"{folder}/scratch/.work/image: cannot write" in outcome.err
    assert "another compute.scratch" in outcome.err


def test_a_scratch_folder_that_is_not_seen(scene):
    """That of another machine, or one that was cleared: `status` says so, and a run begins anew."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    beside = WorkFolder(folder / "out" / ".work" / "image")
    beside.path.mkdir(parents=True)
    beside.elsewhere.write_text("/nowhere/.work/image\n")
    assert "in compute.scratch: /nowhere, which is not seen here" in command("status", folder / "out").out
    assert command("run", config).code == 0
    assert not beside.path.exists()


def test_a_lock_left_by_a_killed_run_goes_with_a_run_in_a_scratch_folder(scene):
    """What a killed run left beside the results is gone when another one, in a scratch folder, is finished."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    left = folder / "out" / ".work" / "image" / "lock"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    assert command("run", config, "--set", f"compute.scratch={folder / 'scratch'}").code == 0
    assert not (folder / "out" / ".work").exists()


def test_an_output_without_locks(scene, monkeypatch):
    """Exit 6 where the file system of the output knows no locks; with `compute.scratch` on another one it works."""
    folder, image, mask = scene
    config, plain = _constant(folder, image, mask), fcntl.flock

    def unknown_in_out(descriptor, how):
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(folder / "out"):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        plain(descriptor, how)

    monkeypatch.setattr("pipeline.system.lock.fcntl.flock", unknown_in_out)
    _fails(config, 6, "no locks", "compute.scratch")
    outcome = command("run", config, "--set", f"compute.scratch={folder / 'scratch'}")
    assert outcome.code == 0, outcome.err
    assert not (folder / "out" / ".work").exists()


def test_an_output_whose_files_have_no_numbers_of_their_own(scene, monkeypatch):
    """Exit 6 before any work: it would end where the first folder is removed."""
    folder, image, mask = scene
    config, plain, made_up = _constant(folder, image, mask), Path.stat, count(1)

    def told(path, **options):
        facts = plain(path, **options)
        return os.stat_result((facts[0], -next(made_up), *facts[2:])) if ".work" in path.parts else facts

    monkeypatch.setattr(Path, "stat", told)
    _fails(config, 6, "another number (inode) each time", "choose a folder on another one")


def _no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["run.survey", "blocks.block.store", "output.assemble.Assembler.restored"])
def test_a_full_disk(scene, monkeypatch, where):
    """Exit 6 in survey, blocks and writing; nothing is published; with space again the run goes on."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    with monkeypatch.context() as patch:
        patch.setattr(f"pipeline.{where}", _no_space)
        _fails(config, 6, "No space left")
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err


def test_what_gdal_says_of_a_full_disk(tmp_path, monkeypatch):
    """It names no cause, so the free space tells; with space left it is what it is."""
    unreadable = rasterio._err.CPLE_OpenFailedError(1, 4, "tiled.tif: not recognized as a supported format")
    with pytest.raises(rasterio._err.CPLE_OpenFailedError), explain_full_disk(tmp_path):
        raise unreadable
    monkeypatch.setattr("pipeline.system.room.free_bytes", lambda _: 4096)
    with pytest.raises(OutputConflict, match="No space left"), explain_full_disk(tmp_path):
        raise unreadable


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_folder_that_can_no_longer_be_written(scene, monkeypatch, number):
    """Exit 6 with file and cause, and no word of a bug; any other command says the same."""
    folder, image, mask = scene
    config = _constant(folder, image, mask)
    lost = OSError(number, os.strerror(number), "/there/file")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.run.survey", mock.Mock(side_effect=lost))
        _fails(config, 6, "/there/file", os.strerror(number), "run again to continue")
    assert not list(folder.rglob("*.error.log"))
    if number != errno.EIO:
        with mock.patch("pipeline.commands.verify.verify_table", side_effect=lost):
            outcome = command("verify", folder)
        assert (outcome.code, "/there/file" in outcome.err) == (6, True)


def test_blocks_that_fail_on_every_attempt(scene, monkeypatch):
    """Exit 5 with the reasons, the other blocks are kept; without the cause the rerun computes the failed ones only."""
    folder, image, mask = scene
    config, plain, failing = _constant(folder, image, mask, compute={"block": 16}), execute.process_block, {1, 3}

    def fails(workdir, digest, block):
        if block in failing:
            raise ValueError(f"planted in {block}")
        return plain(workdir, digest, block)

    with monkeypatch.context() as patch:
        patch.setattr(execute, "process_block", fails)
        _fails(config, 5, "2 of 5 blocks failed", "planted in 1", "planted in 3", "The others are kept", "run again")
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert "5 blocks to restore, 3 of them done before" in outcome.err


def test_a_disk_too_small(scene, monkeypatch):
    """Exit 3 before anything is computed, with needed and free space."""
    folder, image, mask = scene
    full = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    _fails(_constant(folder, image, mask), 3, "1000 B are free", "output.directory")


# --- odd but fine -------------------------------------------------------------------------------------------------


def test_not_a_number_among_observed_pixels(scene):
    """NaN and infinity are no observations: never touched, back bit for bit, and they spoil no neighbour."""
    folder, _, mask = scene
    values = smooth((2, *SHAPE), "float32")
    values[:, 5, 5:9] = np.array([np.nan, np.inf, -np.inf, np.nan])
    hole = pixels(mask)[0].astype(bool)
    hole[5, 5:9] = False
    write_image(mask, hole[None].astype("uint8"))
    image = write_image(folder / "image.tif", values)
    outcome = command("run", run_config(folder, image, mask))
    assert outcome.code == 0, outcome.err
    out = folder / "out" / "image"
    restored = pixels(layer(out, "restored"))
    assert restored[:, ~hole].tobytes() == values[:, ~hole].tobytes()
    assert np.isfinite(restored[:, hole]).all()
    assert (pixels(layer(out, "source"))[0, 5, 5:9] == 255).all()
    assert np.isnan(pixels(layer(out, "uncertainty"))[:, 5, 5:9]).all()
    assert command("verify", folder / "out").code == 0


def test_nodata_equal_to_a_likely_estimate(scene):
    """An estimate that would hit nodata is moved one step: a restored pixel never looks unobserved."""
    folder, _, mask = scene
    image = write_image(folder / "image.tif", smooth((1, *SHAPE)), nodata=7)
    outcome = command("run", _constant(folder, image, mask))
    assert outcome.code == 0, outcome.err
    hole = pixels(mask)[0].astype(bool)
    restored = pixels(layer(folder / "out" / "image", "restored"))[0]
    assert set(np.unique(restored[hole])) == {8}


def test_nodata_equal_to_real_values(scene):
    """With `never`, pixels that carry the nodata value are not touched, even under a mask."""
    folder, _, mask = scene
    values = smooth((1, *SHAPE))
    values[:, ::3] = 0
    image = write_image(folder / "image.tif", values, nodata=0)
    outcome = command("run", _constant(folder, image, mask, input={"fill_nodata": "never"}))
    assert outcome.code == 0, outcome.err
    restored = pixels(layer(folder / "out" / "image", "restored"))
    assert (restored[:, ::3] == 0).all()
    assert (pixels(layer(folder / "out" / "image", "source"))[:, ::3] == 255).all()


@pytest.mark.parametrize("shape", [(60, 1), (1, 60)])
def test_an_image_one_pixel_wide(tmp_path, shape):
    """A line of pixels is restored like anything else."""
    hole = np.zeros(shape, dtype="uint8")
    hole.flat[20:30] = 1
    image = write_image(tmp_path / "image.tif", smooth((1, *shape)))
    mask = write_image(tmp_path / "mask.tif", hole[None])
    outcome = command("run", run_config(tmp_path, image, mask))
    assert outcome.code == 0, outcome.err
    assert command("verify", tmp_path / "out").code == 0


def test_one_bad_image_does_not_stop_the_batch(scene):
    """Exit 5: the good images are done, the bad one stands in run.json with its reason; mended, it alone is run."""
    folder, _, mask = scene
    for name in ("a", "c"):
        write_image(folder / f"scene_{name}.tif", smooth((2, *SHAPE)))
    (folder / "scene_b.tif").write_text("no image")
    config = _constant(folder, folder / "scene_*.tif", mask)
    outcome = command("run", config)
    assert outcome.code == 5, outcome.err
    summary = json.loads((folder / "out" / "run.json").read_text())
    assert {e["stem"]: e["state"] for e in summary["sources"]} == {
        "scene_a": "done",
        "scene_b": "failed",
        "scene_c": "done",
    }
    assert "scene_b.tif" in summary["sources"][1]["error"]
    assert summary["sources"][1]["exit_code"] == 4
    assert summary["exit_code"] == 5
    with rasterio.open(folder / "out" / "scene_c" / "scene_c_restored.tif") as dataset:
        assert dataset.count == 2
    write_image(folder / "scene_b.tif", smooth((2, *SHAPE)))
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("finished by an earlier run") == 2
    assert (folder / "out" / "scene_b" / "record.json").exists()


def test_what_nobody_foresaw_is_the_image_s_own(scene, monkeypatch):
    """In a batch the others are restored: exit 5, an entry with exit code 1, the traceback in a file beside it."""
    folder, image, mask = scene
    other = write_image(folder / "other.tif", smooth((1, *SHAPE)))
    config = run_config(folder, image, mask, input={"source": [[str(image)], [str(other)]]})
    plain = run.survey

    def odd(job, **options):
        if job.source.paths == (str(image),):
            raise ZeroDivisionError("a corner nobody looked into")
        return plain(job, **options)

    monkeypatch.setattr(run, "survey", odd)
    outcome = command("run", config)
    assert outcome.code == 5
    assert "Traceback" not in outcome.err
    summary = json.loads((folder / "out" / "run.json").read_text())
    states = {entry["stem"]: (entry["state"], entry.get("exit_code")) for entry in summary["sources"]}
    assert states == {"image": ("failed", 1), "other": ("done", None)}
    log = folder / "out" / "image.error.log"
    assert str(log) in outcome.err
    assert "ZeroDivisionError: a corner nobody looked into" in log.read_text()


def test_what_nobody_foresaw_in_a_single_image(scene, monkeypatch):
    """Exit 1 and one sentence; the traceback lies in the file that it names, until the image is finished."""
    folder, image, mask = scene

    def odd(*_, **__):
        raise ZeroDivisionError("a corner nobody looked into")

    log, config = folder / "out" / "image.error.log", _constant(folder, image, mask)
    with monkeypatch.context() as now:
        now.setattr(run, "survey", odd)
        log.parent.mkdir()
        log.write_text("mine\n")
        outcome = command("run", config)
        assert outcome.code == 1
        assert "in odd" in outcome.err
        assert log.read_text() == "mine\n"
        log.unlink()
        _fails(config, 1, "a bug, please report it", str(log))
    assert "ZeroDivisionError: a corner nobody looked into" in log.read_text()
    assert command("run", config).code == 0
    assert not log.exists()
