"""The command line: instant help, every command explained and documented, every command works."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from pipeline import __main__
from pipeline.cli import app
from pipeline.run import run
from pipeline.system import process
from tests.helpers import blobs, command, layer, pixels, run_config, smooth, write_image

ROOT = Path(__file__).parents[2]
SHAPE = (40, 44)


def _commands(group=None, prefix: str = "") -> dict[str, str]:
    """Return every command, `catalog list` style, with its help text."""
    group = group or typer.main.get_command(app)
    found = {}
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            found |= _commands(one, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = one.help or ""
    return found


COMMANDS = _commands()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A config with a cheap model, already run once; returns folder and config."""
    folder = tmp_path_factory.mktemp("cli")
    image = write_image(folder / "image.tif", smooth((1, *SHAPE)))
    mask = write_image(folder / "image_mask.tif", blobs(SHAPE, n=3, radius=4)[None])
    config = run_config(folder, image, mask)
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    return folder, config


def test_a_config_that_is_gone_at_the_end_was_read_before(scene, monkeypatch):
    """Who moves it while a run goes on still hears where the results are; nothing fails that was done."""
    folder, config = scene
    moved = folder / "moved.yaml"
    moved.write_text(config.read_text())

    def and_gone(path, *arguments, **how):
        summary = run(path, *arguments, **how)
        path.unlink()
        return summary

    monkeypatch.setattr("pipeline.run.run", and_gone)
    outcome = command("run", moved)
    assert outcome.code == 0, outcome.err
    assert f"result {folder / 'out'}/image/image_restored.tif" in outcome.err


def test_help_imports_nothing_heavy():
    """Showing help costs what its imports cost: no numpy, torch or library of formats, and few modules at all.

    Seconds in a test would measure the neighbours.
    """
    script = (
        "import sys\n"
        "sys.argv = ['inpaint-pipeline', '--help']\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(','.join(sorted(sys.modules)))\n"
    )
    # coverage adds modules of its own
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=bare)
    modules = done.stderr.split(",")
    loaded = {name.partition(".")[0] for name in modules}
    assert "typer" in loaded
    assert not loaded & {"numpy", "torch", "rasterio", "nibabel", "zarr", "dask", "distributed", "scipy", "pydantic"}
    ours = {"__main__", "cli", "commands", "commands.options", "errors", "system", "system.signals"}
    assert {m.removeprefix("pipeline.") for m in modules if m.startswith("pipeline.")} <= ours
    assert len(modules) < 200


def test_imports_are_hardly_searched_for_garbage(monkeypatch):
    """A program of its own looks for garbage after many more objects than Python does, and not at all as it ends."""
    before, found, left = gc.get_threshold(), [], []
    monkeypatch.setattr(gc, "freeze", lambda: left.append(len(found)))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(process, "keep_freed", lambda: None)
    monkeypatch.setattr(__main__, "main", lambda: found.append((gc.get_threshold(), gc.isenabled())))
    try:
        __main__.program()
    finally:
        gc.set_threshold(*before)
    (((young, *_), enabled),) = found
    assert enabled
    assert 50 * before[0] < young < 1_000_000
    assert left == [1]


def test_what_waits_for_the_end_still_happens_then():
    """Though Python no longer looks for garbage: handlers are called, and what they print is seen."""
    script = (
        "import atexit, gc, sys\n"
        "from pipeline import __main__\n"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count() > 10_000))\n"
        "sys.argv = ['inpaint-pipeline', '--version']\n"
        "__main__.program()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "frozen True"


def test_the_promised_commands_exist():
    """What the contract with users names is there."""
    promised = {
        "run", "plan", "status", "verify", "report", "evaluate", "train", "inspect", "doctor", "bids",
        "catalog list", "catalog check", "models list", "models show", "config new", "config show", "config schema",
    }  # fmt: skip
    assert promised <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    """A sentence that a list of commands has room for, and an example that starts with the command; `--help` works."""
    text = COMMANDS[name]
    assert re.search(rf"Example: inpaint-pipeline {name}( |$)", text, re.MULTILINE), text
    assert len(text.split("Example:")[0].strip()) > 15
    outcome = command(*name.split(), "--help")
    assert outcome.code == 0
    assert "Example:" in outcome.out


@pytest.mark.parametrize("group", ["", "catalog", "models", "config"])
def test_a_list_of_commands_has_whole_sentences(group):
    """On a terminal of 80 letters none is cut off; what somebody new types first stands first."""
    told = command(*group.split(), "--help").out.partition("Commands:\n")[2].splitlines()
    assert told
    assert all(line.endswith(".") and not line.endswith("...") for line in told)
    if not group:
        assert [line.split()[0] for line in told[:5]] == ["config", "inspect", "plan", "run", "verify"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_docs(name):
    """README.md or a page in docs/ shows it."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    group, _, leaf = name.partition(" ")
    spelled = rf"inpaint-pipeline {name}\b" + (rf"|{group} [\w|]*\b{leaf}\b" if leaf else rf"|`{name}\b")
    assert re.search(spelled, text), f"`inpaint-pipeline {name}` stands nowhere in README.md or docs/"


def test_version():
    """`--version` prints the version and nothing else."""
    from pipeline import __version__

    assert command("--version").out.strip() == __version__


def test_running_again_has_nothing_to_do(scene):
    """Exit 0 at once; no file is written again."""
    folder, config = scene

    def written() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in (folder / "out" / "image").glob("*.*") if p.is_file()}

    files = written()
    outcome = command("run", config, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["sources"][0]["state"] == "done"
    assert len(files) == 12
    assert written() == files


def test_a_result_that_was_deleted_is_made_again(scene, tmp_path):
    """A missing output is noticed and comes back with the same pixels."""
    _, config = scene
    target = ("--set", f"output.directory={tmp_path}")
    assert command("run", config, *target).code == 0
    before = pixels(layer(tmp_path / "image", "restored"))
    (tmp_path / "image" / "image_restored.tif").unlink()
    assert command("run", config, *target).code == 0
    assert pixels(layer(tmp_path / "image", "restored")).tobytes() == before.tobytes()


def test_stdout_is_for_data(scene, tmp_path):
    """Progress and messages go to stderr; without --json nothing is on stdout."""
    _, config = scene
    outcome = command("run", config, "--set", f"output.directory={tmp_path}")
    assert outcome.out == ""
    assert "image" in outcome.err
    quiet = command("run", config, "--set", f"output.directory={tmp_path / 'q'}", "--quiet")
    assert (quiet.out, quiet.err) == ("", "")


def test_plan_computes_nothing(scene, tmp_path):
    """Numbers of the work, for people and as JSON; no output folder appears."""
    _, config = scene
    target = ("--set", f"output.directory={tmp_path / 'none'}")
    outcome = command("plan", config, *target, "--json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["images"]
    assert row["image"] == "image"
    assert 0 < row["patches_touching_holes"] <= row["patches_total"]
    assert row["holes"] > 0
    assert not (tmp_path / "none").exists()
    assert row["seconds"]["low"] <= row["seconds"]["likely"] <= row["seconds"]["high"]
    *lines, said = command("plan", config, *target).out.splitlines()
    # a line a number, aligned, for a terminal of 80 letters; the last line says it in words
    start = lines[0].index("image", 1)
    assert all(line[start - 1] == " " and line[start] != " " for line in lines)
    assert any(line.startswith("workers") and line[start:] == "serial, 1" for line in lines)
    assert max(map(len, lines)) <= 80
    assert said.startswith("1 image: about ")
    assert f"inpaint-pipeline run {config}" in said


def test_plan_says_why_a_run_would_be_refused(scene):
    """Exit 3 with the numbers, before anything is computed."""
    _, config = scene
    outcome = command("plan", config, "--set", "compute.memory_per_worker=50 MiB")
    assert outcome.code == 3
    assert "50 MiB" in outcome.err


def test_status(scene, tmp_path):
    """Done, and an error where no run was started."""
    folder, _ = scene
    outcome = command("status", folder / "out", "--json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["images"]
    assert (row["image"], row["state"]) == ("image", "done")
    assert row["blocks"] == row["done"]
    assert command("status", tmp_path).code == 4


def test_verify_and_report(scene, tmp_path):
    """Both work on the run's folder and on the image's; a report made again still verifies; no result is exit 4."""
    folder, _ = scene
    page = folder / "out" / "image" / "report.html"
    page.write_text("scribbled over")
    assert command("verify", folder / "out").code == 1
    assert str(page) in command("report", folder / "out").out
    assert "tension" in page.read_text()
    for where in (folder / "out", folder / "out" / "image"):
        outcome = command("verify", where)
        assert outcome.code == 0, outcome.out
        assert "observed pixels: ok" in outcome.out
    assert command("verify", tmp_path).code == 4
    assert command("report", tmp_path).code == 4


def test_evaluate(scene):
    """The spline and its rivals, measured on hidden observed pixels."""
    folder, config = scene
    outcome = command("evaluate", config, "--family", "own", "--json")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)["evaluation"]
    methods = {row["method"]: row for row in rows if "method" in row}
    assert any("tension" in name for name in methods)
    assert any("nearest" in name for name in methods)
    best = next(row for row in methods.values() if row["chosen"])
    assert best["psnr_db"] > methods["nearest"]["psnr_db"]
    assert (folder / "out" / "image_evaluation" / "evaluate.html").is_file()


def test_inspect(scene, tmp_path):
    """Header facts without reading pixels; of a volume the axes of its voxels."""
    folder, _ = scene
    outcome = command("inspect", folder / "image.tif", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert (facts["format"], facts["channels"], facts["dtype"]) == ("geotiff", 1, "uint16")
    volume = write_image(tmp_path / "head.nii", smooth((1, 4, 5, 6), "int16"))
    assert "voxel axes RAS, oblique by 14.0°" in command("inspect", volume).out
    assert command("inspect", folder / "image_mask.tif").code == 0
    assert command("inspect", folder / "none.tif").code == 4


def test_doctor():
    """Versions and resources of this machine."""
    facts = json.loads(command("doctor", "--json").out)
    assert facts["cores"] >= 1
    assert {"torch", "gdal", "inpaint-pipeline"} <= set(facts)
    assert "memory_GiB" in command("doctor").out


def test_catalog(monkeypatch, tmp_path):
    """List names with licences; check one, an unknown one (exit 2, nearest name)."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path))
    assert "demo-sentinel" in command("catalog", "list").out
    entries = json.loads(command("catalog", "list", "--json").out)
    assert all(entry["license"] for entry in entries.values())
    outcome = command("catalog", "check", "demo-brain")
    assert outcome.code == 0, outcome.err
    assert "ok" in outcome.out
    assert command("catalog", "check", "demo-brian").code == 2


def test_models():
    """List shipped weights; an unknown name is exit 2."""
    rows = json.loads(command("models", "list", "--json").out)
    assert command("models", "show", "no-such-weights").code == 2
    for name in rows:
        assert "sha256" in command("models", "show", name).out


def test_config_new_gives_a_config_that_runs(scene, tmp_path, monkeypatch):
    """The template for a file with a mask beside it plans and runs as it is; an existing file is not replaced."""
    folder, _ = scene
    monkeypatch.chdir(tmp_path)
    outcome = command("config", "new", folder / "image.tif", "-o", tmp_path / "my.yaml")
    assert outcome.code == 0, outcome.err
    done = command("run", tmp_path / "my.yaml", "--set", "model.kind=nearest", "--set", "compute.device=cpu")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "image" / "image" / "image_restored.tif").exists()
    assert command("config", "new", folder / "image.tif", "-o", tmp_path / "my.yaml").code == 6
    assert "input:" in command("config", "new", folder / "image.tif").out


def test_config_show_and_schema(scene):
    """Defaults filled in, overrides applied; the schema is JSON schema."""
    _, config = scene
    shown = json.loads(command("config", "show", config, "--set", "seed=3").out)
    assert shown["seed"] == 3
    assert shown["compute"]["batch_size"] == "auto"
    assert "properties" in json.loads(command("config", "schema").out)


def test_set_overrides_are_checked(scene):
    """A misspelt key in --set is exit 2 and says so."""
    _, config = scene
    outcome = command("run", config, "--set", "compute.worker=2")
    assert outcome.code == 2
    assert "--set" in outcome.err
    assert "workers" in outcome.err
