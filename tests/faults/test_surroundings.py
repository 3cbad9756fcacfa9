"""What surrounds a run fails it, or belongs to somebody else: streams, limits, folders of other users."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import rasterio
from rasterio.errors import RasterioError

from pipeline import registry, run
from pipeline.errors import ConfigError, OutputConflict, PlanRefused, SourceError
from pipeline.formats._files import writing
from pipeline.plan.disk import check_disk
from pipeline.system.files import sync, unreplaceable
from pipeline.system.room import explain_full_disk, free_bytes, is_full
from tests.helpers import blobs, command, result_hash, run_config, smooth, write_image

SHAPE = (40, 46)


@pytest.fixture
def config(tmp_path):
    """The config of a small raster with the cheapest fill; its results go to `out` beside it."""
    image = write_image(tmp_path / "image.tif", smooth((1, *SHAPE)))
    mask = write_image(tmp_path / "mask.tif", blobs(SHAPE, n=3, radius=4)[None])
    return run_config(tmp_path, image, mask, model={"kind": "constant", "options": {"value": 7}})


def test_a_log_on_a_full_disk_ends_no_run(config):
    """What is said for people is lost; the results are complete, and the exit code says so."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "pipeline", "run", config], stderr=full, stdin=subprocess.DEVNULL, check=False
        )
    assert ended.returncode == 0
    assert (config.parent / "out/image/record.json").exists()


def test_no_file_takes_the_place_of_a_closed_stream():
    """A program that was started without stdin, stdout and stderr writes nothing into its own files by mistake."""
    code = (
        "import os, sys; from pipeline.system.process import mind_streams; mind_streams();"
        "opened = os.open(sys.executable, os.O_RDONLY); sys.stderr.write('said'); sys.stdout.write('given');"
        "sys.exit(0 if opened > 2 else 1)"
    )
    shell = 'exec "$0" -c "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell, sys.executable, code], check=False).returncode == 0


@pytest.mark.parametrize("seconds", [-(2**31), 0, 2**33])
def test_no_byte_depends_on_the_time(config, monkeypatch, seconds):
    """Files from before 1970 or from the future, and time zones that nobody knows, are files like others."""
    folder = config.parent / "out" / "image"
    assert command("run", config).code == 0
    before = result_hash(folder)
    monkeypatch.setenv("TZ", "nowhere/land")
    for name in ("image.tif", "mask.tif", "run.yaml"):
        os.utime(config.parent / name, (seconds, seconds))
    assert command("run", config).code == 0
    assert command("run", config, "--overwrite").code == 0
    assert result_hash(folder) == before
    assert command("verify", folder).code == 0


def test_names_do_not_command_the_terminal(tmp_path):
    """A file or band of somebody else may be called what clears a screen, or hides what follows."""
    name = tmp_path / "a\x1b[2J\x9b1m\u202eb\x07.tif"
    image = write_image(name, smooth((1, *SHAPE)))
    with rasterio.open(image, "r+") as dataset:
        dataset.set_band_description(1, "red\x1b]0;title\x07")
    for path, shown in ((image, "\\u202eb\\x07.tif"), (tmp_path / "no\x1b[1mthing.tif", "no\\x1b[1mthing.tif")):
        asked = [sys.executable, "-m", "pipeline", "inspect", path]
        ended = subprocess.run(asked, capture_output=True, text=True, check=False)
        said = ended.stdout + ended.stderr
        assert shown in said
        assert not set(said) & set("\x1b\x07\x9b\u202e")


@pytest.mark.parametrize("broken", ["image", "mask", "config", "folder"])
def test_a_line_break_in_a_name(tmp_path, broken):
    """Whatever is said of the file, its name stays in one line: the second half would pass for a line of its own."""
    names = {"image": "a.tif", "mask": "m.tif", "config": "c.yaml", "folder": "images"}
    names[broken] = f"b\nx{names[broken]}"
    folder = tmp_path / names["folder"]
    folder.mkdir()
    image = write_image(folder / names["image"], smooth((1, *SHAPE)))
    mask = write_image(tmp_path / names["mask"], blobs(SHAPE, n=1)[None])
    config = folder / names["config"]
    given = {"input": {"source": "*.tif"}, "mask": [{"kind": "raster", "path": str(mask)}]}
    config.write_text(json.dumps(given))
    spoilt = {"mask": mask, "config": config}.get(broken, image)
    spoilt.write_bytes(b"neither an image nor YAML: [")
    asked = [sys.executable, "-m", "pipeline", "plan", config.name]
    ended = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == (2 if broken == "config" else 4), ended.stderr
    said = ended.stdout + ended.stderr
    assert names[broken].replace("\n", "\\n") in said
    assert not [line for line in said.splitlines() if line.startswith("x")]


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f"), (errno.ENOSPC, "free some space")]
)
def test_each_limit_of_what_may_be_written_is_named(tmp_path, number, advice):
    """A quota is no full disk, and a limit on the size of files is no bug; blocks say it in their reasons."""
    lost = OSError(number, os.strerror(number))
    with pytest.raises(OutputConflict, match=f"{os.strerror(number)}.*{advice}"), explain_full_disk(tmp_path):
        raise lost
    with pytest.raises(OutputConflict, match=f"{os.strerror(number)}.*{advice}"):
        check_disk(str(tmp_path), [f"OSError: {lost}"])


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """A folder with an image, a mask and a volume mask that this user may not look into."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    for name in ("image.tif", "mask.tif"):
        write_image(folder / name, blobs(SHAPE)[None])
    look, may = os.stat, os.access

    def no_look(path: object, *more: object, **options: object) -> object:
        if str(path).startswith(f"{folder}/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, *more, **options)

    monkeypatch.setattr(os, "stat", no_look)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(folder) and may(path, mode))
    return folder


@pytest.mark.parametrize("key", ["image.tif", "*.tif", "mask"])
def test_a_folder_that_this_user_may_not_look_into(config, hidden, key):
    """Its files were said not to be there; a mask in it was taken for a fault of the folder of results."""
    given = json.loads(config.read_text())
    if key == "mask":
        given["mask"][0]["path"] = str(hidden / "mask.tif")
    else:
        given["input"]["source"] = str(hidden / key)
    config.write_text(json.dumps(given))
    outcome = command("run", config)
    assert outcome.code == 4, outcome.err
    assert f"no permission to look into {hidden}" in outcome.err


def test_a_mask_that_this_user_may_not_read(config, monkeypatch):
    """An input, so exit 4, with its name."""
    mask = config.parent / "mask.tif"
    may_open = Path.open

    def no_open(path: Path, *more: object, **options: object) -> object:
        if path == mask:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return may_open(path, *more, **options)

    monkeypatch.setattr(Path, "open", no_open)
    outcome = command("run", config)
    assert outcome.code == 4, outcome.err
    assert f"{mask}: cannot be read (Permission denied)" in outcome.err


def test_a_file_system_that_knows_less(config, monkeypatch):
    """Shares of Windows and folders in user space force no folder to disk, and may not say how much is free."""
    force = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        force(descriptor)

    def silent(_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "fsync", files_only)
    monkeypatch.setattr(shutil, "disk_usage", silent)
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert command("verify", config.parent / "out").code == 0


def test_a_disk_that_is_full_of_files(tmp_path, monkeypatch):
    """Bytes are free, and freeing more does not help; file systems that do not count their files say 0 of 0."""
    real = os.statvfs

    def counted(left: int, all_of_them: int):
        def told(path):
            facts = real(path)
            return SimpleNamespace(
                f_frsize=4096, f_bavail=10**6, f_blocks=10**7, f_bfree=10**6, f_files=all_of_them, f_favail=left,
                f_bsize=facts.f_bsize,
            )  # fmt: skip

        monkeypatch.setattr(os, "statvfs", told)

    counted(3, 10**6)
    with pytest.raises(OutputConflict, match=r"No space left.*df -i.*remove files"), explain_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for left, all_of_them in ((10**5, 10**6), (0, 0)):
        counted(left, all_of_them)
        with pytest.raises(OutputConflict, match="free some space"), explain_full_disk(tmp_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failing_disk_is_no_weak_file_system(tmp_path, monkeypatch, number):
    """What was not forced to disk for another reason stays an error, of folders, too."""

    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match=os.strerror(number)):
        sync(tmp_path)


def test_a_disk_that_holds_nothing_says_nothing_of_its_room(tmp_path, monkeypatch):
    """Some file systems in user space answer with zeros: nothing is refused for that."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))
    assert free_bytes(tmp_path / "not yet") is None
    assert not is_full(tmp_path)


@pytest.mark.parametrize(("full", "words"), [(True, "No space left on device"), (False, "was not written whole")])
def test_a_result_that_is_cut_off_without_a_word_is_the_disk_s(config, monkeypatch, full, words):
    """GDAL says nothing of a disk that is full when it closes a file: exit 6, nothing is published, a rerun goes on."""
    plain = run.assemble

    def cut(*arguments, **options):
        written = plain(*arguments, **options)
        os.truncate(written[0].path, written[0].path.stat().st_size - 100)
        return written

    with monkeypatch.context() as patch:
        patch.setattr(run, "assemble", cut)
        patch.setattr("pipeline.output.verify.is_full", lambda _: full)
        outcome = command("run", config)
    assert outcome.code == 6, outcome.err
    assert f"image_restored.tif: {words}" in outcome.err
    assert not (config.parent / "out" / "image").exists()
    assert command("run", config).code == 0


def test_a_summary_that_cannot_be_written_hides_no_error(config, monkeypatch):
    """On a full disk the run ends with what failed first; where the summary alone fails, more room is the remedy."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def unreadable(*_, **__):
        raise SourceError("image.tif: what failed first")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.provenance.summary.write_json", full)
        alone = command("run", config)
        patch.setattr(run, "restore", unreadable)
        first = command("run", config)
    assert alone.code == 6
    assert "run.json (No space left on device); free some space and run again to continue" in alone.err
    assert first.code == 4, first.err
    assert "image.tif: what failed first" in first.err.strip().splitlines()[-1]
    assert "cannot write run.json" in first.err


def test_what_gdal_alone_says_of_a_failing_disk_is_no_bug(config, monkeypatch):
    """Its own classes of errors come through where rasterio copies a file."""
    plain = rasterio.shutil.copy

    def failing(*given, driver, **options):
        # what is read is looked through as a VRT
        if driver == "COG":
            raise rasterio._err.CPLE_AppDefinedError(1, 1, "cog.tif:Error writing TIFF header")
        plain(*given, driver=driver, **options)

    with monkeypatch.context() as patch:
        patch.setattr("rasterio.shutil.copy", failing)
        outcome = command("run", config)
    assert outcome.code == 6, outcome.err
    assert "cannot be written" in outcome.err
    assert "bug" not in outcome.err
    assert command("run", config).code == 0


def test_results_on_a_failing_disk(config, monkeypatch):
    """Every command that reads them names the file, and no traceback is seen."""
    folder = config.parent / "out"
    assert command("run", config).code == 0

    def failing(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    said = r"image/image_\w+\.tif: cannot be read \(Input/output error\); see to its disk"
    monkeypatch.setattr("pipeline.system.facts.hashlib.file_digest", failing)
    state = command("status", folder)
    assert (state.code, "damaged" in state.out, bool(re.search(said, state.out))) == (0, True, True)
    for asked in (("verify", folder), ("run", config)):
        outcome = command(*asked)
        assert outcome.code == 4, outcome.err
        assert re.search(r"cannot be read \(Input/output error\); see to its disk", outcome.err)
    monkeypatch.setattr(Path, "read_bytes", failing)
    outcome = command("run", config)
    assert outcome.code == 6, outcome.err
    assert "run.json: cannot be read (Input/output error)" in outcome.err


def test_no_memory_under_gdal_is_told_as_such(tmp_path):
    """Space and permissions are not what a packer lacks."""

    def write() -> None:
        with writing(tmp_path / "a.tif", tmp_path, (RasterioError,)):
            raise RasterioError("ZSTDEncode:Error in ZSTD_compressStream(): Allocation error : not enough memory")

    with pytest.raises(PlanRefused, match=r"a\.tif: out of memory \(ZSTDEncode"):
        write()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_that_may_open_no_more_files_says_so(config, monkeypatch, number):
    """That is a limit like that of memory, not a bug."""

    def refused(*_, **__):
        raise OSError(number, os.strerror(number), "state.zarr")

    monkeypatch.setattr("pipeline.image.scene.scan_states", refused)
    outcome = command("run", config)
    assert outcome.code == 3
    assert f"{os.strerror(number)}: 'state.zarr'; allow the program more (`ulimit -n`" in outcome.err
    monkeypatch.undo()
    assert command("run", config).code == 0


def test_a_full_disk_under_gdal_is_told_as_one(tmp_path, monkeypatch):
    """GDAL says that a strip cannot be written; asked while the file still takes its room, the disk says why."""
    monkeypatch.setattr("pipeline.system.room.is_full", lambda _: any(tmp_path.glob("scratch/*/*")))

    def write() -> None:
        with writing(tmp_path / "image.tif", tmp_path / "scratch", (RasterioError,)) as folder:
            (folder / "tiled.tif").touch()
            raise RasterioError("TIFFAppendToStrip:Write error at scanline 0")

    with pytest.raises(OutputConflict, match=r"image\.tif: No space left.*run again"):
        write()
    assert not any((tmp_path / "scratch").iterdir())


def test_a_summary_that_only_another_user_may_replace(config, monkeypatch):
    """In a folder with the sticky bit, as of scratch disks: said before the work, which would have been for nothing."""
    folder = config.parent / "out"
    folder.mkdir()
    summary = folder / "run.json"
    summary.write_text('{"sources": [], "config_sha256": ""}')
    folder.chmod(0o1777)
    assert not unreplaceable(summary)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4321)
    outcome = command("run", config)
    assert outcome.code == 6
    assert "belongs to user" in outcome.err
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_results_of_another_user_are_not_made_again_for_nothing(config, monkeypatch):
    """Exit 6 before the work, and the results stay; where nobody may look, `status` and `verify` say so."""
    assert command("run", config).code == 0
    results = config.parent / "out/image"
    before = {path: path.read_bytes() for path in results.glob("image_*")}
    allowed = os.access

    def closed(mode):
        return lambda path, asked: allowed(path, asked) and not (Path(path) == results and asked & mode)

    monkeypatch.setattr(os, "access", closed(os.W_OK))
    monkeypatch.setattr("pipeline.run.survey", lambda *_, **__: pytest.fail("surveyed"))
    outcome = command("run", config, "--overwrite")
    assert outcome.code == 6
    assert "no permission to replace" in outcome.err
    assert {path: path.read_bytes() for path in results.glob("image_*")} == before
    (results / "record.json").unlink()
    for name in ("run.json", "image.failure.json"):
        (results.parent / name).unlink(missing_ok=True)
    monkeypatch.setattr(os, "access", closed(os.R_OK))
    for name in ("status", "verify", "report"):
        outcome = command(name, results.parent)
        assert outcome.code == 4, name
        assert "no permission to look into it" in outcome.err


def test_results_below_a_file(config):
    """The file is named, before anything is done."""
    there = config.parent / "image.tif"
    outcome = command("run", config, "--set", f"output.directory={there}/out")
    assert outcome.code == 6
    assert f"{there} is a file" in outcome.err


def test_a_reader_that_went_away_is_no_error():
    """`| head` ends a command with 0 and in silence; a disk that is full ends it with 6, as the answer is lost."""
    schema = [sys.executable, "-m", "pipeline", "config", "schema"]
    with subprocess.Popen(schema, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(schema, stdout=full, stderr=subprocess.DEVNULL, check=False).returncode == 6


def test_a_working_folder_that_is_gone(tmp_path):
    """No relative path means anything there: said, in the place of a traceback."""
    gone = tmp_path / "gone"
    gone.mkdir()
    asked = f"rmdir {gone}; exec {sys.executable} -P -m pipeline run image.yaml"
    home = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": home}
    done = subprocess.run(["sh", "-c", asked], check=False, capture_output=True, text=True, cwd=gone, env=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "the working folder is gone" in done.stderr


def test_a_config_of_dask_that_cannot_be_read(monkeypatch):
    """It is the user's or the site's, so it is named like one; other errors of a part stay what they are."""

    def broken(name):
        raise ValueError("A dask config file at '/etc/dask/site.yaml' is malformed, original error message:\n\n...")

    monkeypatch.setattr(registry, "import_module", broken)
    with pytest.raises(ConfigError, match=r"/etc/dask/site\.yaml.*correct that file"):
        registry.load("execute", "local")
    monkeypatch.setattr(registry, "import_module", int)
    with pytest.raises(ValueError, match="invalid literal"):
        registry.load("execute", "local")


@pytest.mark.parametrize("name", ["PROJ_LIB", "PROJ_DATA"])
def test_a_data_base_of_reference_systems_that_is_not_there(tmp_path, name):
    """Installers of other programs set these: told before the work, as names of reference systems would be lost."""
    image = write_image(tmp_path / "image.tif", smooth((1, 9, 9)))
    environment = {**os.environ, name: str(tmp_path)}
    asked = [sys.executable, "-m", "pipeline", "inspect", str(image)]
    done = subprocess.run(asked, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 3
    assert f"{name}={tmp_path} is not the data base of this environment; unset it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_driver_of_gdal_that_is_switched_off(config):
    """Told before the work, with the variable that switches it off: exit 3, one line, and nothing is written."""
    environment = {**os.environ, "GDAL_SKIP": "COG"}
    asked = [sys.executable, "-m", "pipeline", "run", "-q", str(config)]
    done = subprocess.run(asked, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 3, done.stderr
    assert "no driver COG on this machine, with GDAL_SKIP=COG in the environment: unset GDAL_SKIP" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(config.parent.glob("out/*/*_restored.tif"))


@pytest.mark.parametrize("lacking", ["GTiff", "VRT"])
def test_a_gdal_without_a_driver(config, monkeypatch, lacking):
    """A GDAL that was built without a driver is not taken for a damaged image: exit 3 with what to install."""
    monkeypatch.setattr("pipeline.formats._drivers._registered", lambda: {"GTiff", "COG", "VRT"} - {lacking})
    outcome = command("run", config)
    assert outcome.code == 3
    assert f"no driver {lacking} on this machine: install rasterio" in outcome.err
