"""Every command of README.md and docs/ is typed as it stands there, in a folder with small images, and must end with 0.

A block that cannot be run here says why in a comment before it: `<!-- not run: reason -->`. Commands with placeholders
(`FILE`, `I/N`) cannot be typed; their names and options are looked up.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
import typer.main

from pipeline.cli import app
from pipeline.synthetic.demo import write_demo_brain, write_demo_sentinel
from tests.helpers import blobs, command, smooth, write_image
from tests.support_bids import write_data_set
from tests.support_scenes import scene_values, write_safe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/tutorials/*.md"))]
SHARES = 8
"""Of the job array in the examples."""


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)```", re.DOTALL)
_EXAMPLE = re.compile(r"^ +Example: (inpaint-pipeline .*)$", re.MULTILINE)
_INLINE = re.compile(r"`(inpaint-pipeline [^`]+)`")
_PLACEHOLDER = re.compile(r"(^|[\s/=.])[A-Z]+($|[\s/.])|\.\.\.|\|")
_NOT_RUN = {
    "inpaint-pipeline train configs/train_optical.yaml --resume": "hours, and needs real images",
    "inpaint-pipeline bids heads derivatives participant --participant-label 01 02": "typed in bids.md, more cheaply",
}
"""Examples of the generated page, which has no place for a comment."""
_SMALL = """
steps: 2
validate_every: 1
tile: 64
masks_per_tile: 2
bands_per_mask: 1
patch: 32
batch: 2
masks: {stripes: 1}
"""
"""What makes the documented training a matter of seconds."""


def _blocks(page: Path, *kinds: str) -> list[tuple[str, str | None]]:
    """Return the fenced blocks of some kinds with the reason not to run them."""
    text = page.read_text(encoding="utf-8")
    return [(found["body"], found["reason"]) for found in _BLOCK.finditer(text) if found["kind"] in kinds]


def _typed(page: Path) -> list[str]:
    """Return the commands of a page that can be typed as they stand there, in order."""
    text = page.read_text(encoding="utf-8")
    lines = [
        line.split("#", 1)[0].strip()
        for body, reason in _blocks(page, "sh", "")
        if reason is None
        for line in body.splitlines()
        if line.split("#", 1)[0].strip()
    ]
    lines += [line for line in _EXAMPLE.findall(text) if line not in _NOT_RUN]
    return lines + [line for line in _inline(page) if _complete(line)]


def _inline(page: Path) -> list[str]:
    """Return the commands within sentences, without blocks and generated help."""
    return [] if page.name == "cli.md" else _INLINE.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))


def _complete(line: str) -> bool:
    """Return True if an inline command can be typed: no placeholders, and more than a name if it needs an argument."""
    words = shlex.split(line)[1:]
    one = typer.main.get_command(app)
    while words and words[0] in getattr(one, "commands", {}):
        one = one.commands[words.pop(0)]
    return not _PLACEHOLDER.search(line) and (bool(words) or not any(p.required for p in one.params))


WITH_COMMANDS = [page for page in PAGES if _typed(page)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the documents speak of, small, and the demo scene of the catalog, small too."""
    folder = tmp_path_factory.mktemp("documents")
    write_demo_sentinel(folder, shape=(64, 64))
    shutil.copy(folder / "S2_20240612.tif", folder / "scene.tif")
    shutil.copy(folder / "S2_20240612_SCL.tif", folder / "scene_SCL.tif")
    with rasterio.open(folder / "scene.tif") as scene:
        profile = scene.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    with rasterio.open(folder / "clouds.tif", "w", **profile) as clouds:
        clouds.write(blobs((64, 64), n=2)[None])
    landsat = folder / "scenes" / "one"
    landsat.mkdir(parents=True)
    for seed, band in enumerate(("SR_B4", "SR_B5")):
        write_image(landsat / f"LC08_T1_{band}.TIF", smooth((1, 64, 64), seed=seed))
    quality = np.where(blobs((64, 64), n=2), 1 << 3, 1 << 6).astype(np.uint16)
    write_image(landsat / "LC08_T1_QA_PIXEL.TIF", quality[None])
    write_safe(folder, added=1000)
    write_safe(folder, baseline="02.14", date="20210901", cloudy=False)
    write_safe(folder, baseline="05.00", date="20230801", cloudy=False)
    write_image(folder / "older_stack.tif", scene_values()[:4])
    head = write_demo_brain(folder / "head", shape=(20, 24, 20))
    head["image"].rename(folder / "head.nii.gz")
    head["mask"].rename(folder / "head_mask.nii.gz")
    write_data_set(folder / "heads")
    for name, values in (("sub-01_task-rest_bold", smooth((44, 18, 12, 10))), ("lost", blobs((18, 12, 10), n=1)[None])):
        nibabel.save(nibabel.Nifti1Image(values.T.squeeze(), np.eye(4)), folder / f"{name}.nii.gz")
    write_demo_brain(folder / "demo", shape=(12, 16, 12))
    (folder / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "sentinel.yaml", folder / "configs")
    (folder / "data_catalog.yaml").write_text(
        "catalog_version: 1\nsources:\n  demo-sentinel:\n    license: CC0-1.0\n    path: S2_20240612.tif\n"
        "    mask: [{kind: scl, path: S2_20240612_SCL.tif}]\n"
        "    references: [{path: S2_20240627.tif, mask: [{kind: scl, path: S2_20240627_SCL.tif}]}]\n"
        "  demo-brain:\n    license: CC0-1.0\n    path: demo/sub-demo_T1w.nii.gz\n"
        "    mask: [{kind: raster, path: demo/sub-demo_label-artefact_mask.nii.gz}]\n"
    )
    for body, _ in _blocks(ROOT / "docs" / "training.md", "yaml"):
        if body.startswith("name: mine"):
            (folder / "train_mine.yaml").write_text(body + _SMALL)
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the prepared folder as the working folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _type(line: str) -> None:
    """Run a command as a shell would: variables, and stdout into a file."""
    line, _, target = line.partition(" > ")
    program, *words = shlex.split(os.path.expandvars(line))
    assert program == "inpaint-pipeline", f"'{line}' is no command of this program: say why it is not run"
    outcome = command(*words)
    assert outcome.code == 0, f"{line}: exit code {outcome.code}\n{outcome.err}"
    if target:
        Path(target.strip()).write_text(outcome.out)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=_name)
def test_commands_of_a_page_work_one_after_the_other(page: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies from a page does what the page says; all of its commands end with exit code 0."""
    if page.name != "README.md":
        # the other pages go on from the first one
        _type("inpaint-pipeline config new scene.tif -o scene.yaml")
    for line in _typed(page):
        for task in range(1, SHARES + 1) if "SLURM_ARRAY_TASK_ID" in line else (0,):
            monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
            _type(line)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_configs_of_a_page_can_be_planned(page: Path, here: Path) -> None:
    """Every whole config of a page fits the images that it names, or says before it why it is not tried."""
    for number, (body, reason) in enumerate(_blocks(page, "yaml")):
        if body.startswith("input:") and reason is None:
            config = here / f"block{number}.yaml"
            config.write_text(body)
            _type(f"inpaint-pipeline plan {config}")


def test_commands_with_placeholders_have_the_right_names() -> None:
    """`inpaint-pipeline shard I/N CONFIG` cannot be typed, but there is such a command with such options."""
    checked = 0
    for page in PAGES:
        for line in _inline(page):
            if not _complete(line):
                _look_up(line)
                checked += 1
    assert checked >= 5


def _look_up(line: str) -> None:
    one = typer.main.get_command(app)
    for word in shlex.split(line)[1:]:
        if word.startswith("-"):
            options = {name for parameter in one.params for name in parameter.opts}
            assert word.split("=")[0] in options, f"{line}: {word} is none of {sorted(options)}"
        elif hasattr(one, "commands"):
            names = [name for name in re.split(r"[|]", word) if not name.isupper()]
            assert set(names) <= set(one.commands), f"{line}: {word} is none of {sorted(one.commands)}"
            one = one.commands[names[0]]


def test_reasons_are_about_something() -> None:
    """A comment that says why something is not run stands right before a block; an example that is left out exists."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- not run:") == sum(found["reason"] is not None for found in _BLOCK.finditer(text)), page
    examples = _EXAMPLE.findall((ROOT / "docs" / "cli.md").read_text(encoding="utf-8"))
    assert set(_NOT_RUN) <= set(examples)
    assert np.all([len(reason) > 5 for reason in _NOT_RUN.values()])
