"""Every mistake in a config is answered with file, line, path, what is wrong and what to do - and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.schema import load_config
from pipeline.errors import ConfigError

OK = "input: {source: x}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OK + "imput: 1\n", r":2: imput: unknown key - did you mean 'input'\?"),
        (OK + "patch:\n  size: 64\n  ovelap: 8\n", r":4: patch\.ovelap: unknown key - did you mean 'overlap'\?"),
        (OK + "patch: {size: 2.5}\n", r":2: patch\.size: must be 'auto', a whole number .*found 2\.5"),
        (OK + "patch: {size: 64, overlap: 40}\n", r":2: patch: overlap 40 must be at most half the patch size 64"),
        (OK + "patch: {size: [64, 64], overlap: [8, 8, 8]}\n", r"differ in length"),
        (OK + "compute: {memory_per_worker: 4 Gb ram}\n", r":2: compute\.memory_per_worker: '4 Gb ram' is no size"),
        (OK + "compute: {device: gpu}\n", r":2: compute\.device: .*'cuda' \(a GPU.*, found 'gpu'"),
        (OK + "compute: {executor: serail}\n", r":2: compute\.executor: unknown kind 'serail' - .*'serial'"),
        (OK + "compute: {workers: 0}\n", r":2: compute\.workers: must be 'auto' or a whole number above 0, found 0"),
        (OK + "model: {kind: tensoin}\n", r":2: model\.kind: unknown kind 'tensoin' - did you mean 'tension'\?"),
        (OK + "model: {kind: tension, options: {tt: 1}}\n", r":2: model: fill 'tension' has no option 'tt' - .*'t'"),
        (
            OK + "mask:\n  - {kind: scll, path: x}\n",
            r":3: mask\.0: unknown kind 'scll' in masks - did you mean 'scl'\?",
        ),
        (
            OK + "mask:\n  - {kind: scl, path: x}\n  - {kind: scl, pth: x}\n",
            r":4: mask\.1\.pth: unknown key - .*'path'",
        ),
        (OK + "mask: [{kind: scl}]\n", r":2: mask\.0\.path: this key is required; add it"),
        (OK + "mask: [{kind: scl, path: x, classes: [cloud]}]\n", r"mask\.0\.classes\.0: .*found 'cloud'"),
        (OK + "mask: [{kind: scl, path: x, buffer: 60 yd}]\n", r"mask\.0\.buffer: '60 yd' is no length"),
        (
            OK + "mask: [clouds.tif]\n",
            r":2: mask\.0: a mask is written \{kind: .*found 'clouds\.tif'; a file that .* path: clouds\.tif\}",
        ),
        (OK + "mask: true\n", r":2: mask: must be a list of entries .* found True"),
        ("input: {source: x, bands: [0]}\n", r":1: input\.bands: must be a list of bands.* found \[0\]"),
        ("input: {source: x, bands: B4}\n", r":1: input\.bands: must be a list of bands.* found 'B4'"),
        (OK + "compute: {slurm: {partition: gpu}}\n", r"compute\.slurm\.partition: unknown key - .*'queue'\?"),
        ("input: {source: x, references: [{path: r, mas: []}]}\n", r"references\.0\.mas: unknown key - .*'mask'"),
        ("input: {source: x, references: [{path: r, source: r}]}\n", r"give 'path' or 'source', not both"),
        ("input: {source: 3}\n", r":1: input\.source: must be a catalog name, a path, a glob or a list"),
        ("input: {source: []}\n", r":1: input\.source: must be a catalog name"),
        ("seed: 1\n", r"input: this key is required; add it"),
        (OK + "seed: -1\n", r":2: seed: .*greater than or equal to 0, found -1"),
        (OK + "output: {refuse_above: 0}\n", r":2: output\.refuse_above: .*greater than 0, found 0"),
        (OK + "output: {refuse_above: 20}\n", r":2: output\.refuse_above: .*less than or equal to 1, found 20"),
        (OK + "mask: {path: m.tif}\n", r"mask\.0: a mask is written .*is \{kind: raster, path: .*m\.tif\}"),
        (OK + "mask: {kind: fmask, path: m.tif}\n", r"mask\.0: 'fmask' is .* write \{kind: qa_pixel, layout: fmask"),
        (OK + "mask: {kind: scl, path: m.tif, classes: [12]}\n", r"classes\.0: must be 'no_data', .*found 12"),
        (OK + "compute: {executor: cluster}\n", r":2: compute\.executor: cluster needs compute\.scheduler"),
        (OK + "compute: {executor: jobqueue}\n", r":2: compute\.executor: jobqueue needs compute\.jobqueue"),
        (OK + OK, r":2: found duplicate key \"input\"; keep one of them"),
        ("input: {source: x\n", r":2: not valid YAML"),
        ("input:\n\tsource: x\n", r":2: not valid YAML.*; write spaces in the place of tabs"),
        (OK + "directory: out\n", r":2: directory: unknown key - it belongs to 'output' "),
        (OK + "output: {workers: 2}\n", r":2: output\.workers: unknown key - it belongs to 'compute' "),
        (OK + "patch: {seed: 2}\n", r":2: patch\.seed: unknown key - it belongs to no section, but to the top "),
        ("input: {paths: x}\n", r":1: input\.paths: unknown key - did you mean 'source', which is missing\?"),
        (OK + "mask: [{kind: raster, file: y}]\n", r":2: mask\.0\.file: unknown key - did you mean 'path', which is"),
        ("seed: 1\nsource: x\n", r":2: source: unknown key - it belongs to 'input' "),
        (OK + "output: {folder: x}\n", r":2: output\.folder: unknown key - did you mean 'directory'\?"),
        (OK + "output: x\n", r":2: output: must be a section with keys of its own, such as \{directory: x\}"),
        (OK + "output: {dir: x}\n", r":2: output\.dir: unknown key - did you mean 'directory'\?"),
        (OK + "compute: {jobs: 4, cpus: 4}\n", r"compute\.cpus: unknown key - did you mean 'workers'\?"),
        (OK + "reference: b.tif\n", r":2: reference: unknown key - did you mean 'input\.references'\?"),
        (OK + "model: kriging\n", r":2: model: must be a section with keys of its own, such as \{kind: kriging\}"),
        (OK + "mask: [{raster: m.tif}]\n", r"here \{kind: raster, path: m\.tif\}, found \{'raster': 'm\.tif'\}"),
        ("input: {source: x, mask: m.tif}\n", r"input\.mask: unknown key - it belongs to no section, but to the top"),
        (OK + "compute: {gpu: true}\n", r":2: compute\.gpu: unknown key - did you mean 'device'\?"),
        (OK + "compute: {cuda: true}\n", r":2: compute\.cuda: unknown key - did you mean 'device'\?"),
        (OK + "compute: {cores: 4}\n", r":2: compute\.cores: unknown key - did you mean 'workers'\?"),
        (OK + "compute: {threads: 4}\n", r":2: compute\.threads: unknown key - did you mean 'workers'\?"),
        (OK + "compute: {executor: dask}\n", r"unknown kind 'dask' - did you mean 'cluster'\?"),
        (OK + "compute: {executor: pbs}\n", r"unknown kind 'pbs' - did you mean 'jobqueue'\?"),
        (OK + "model: {kind: spline}\n", r"unknown kind 'spline' - did you mean 'tension'\?"),
        (OK + "model: {kind: thin_plate}\n", r"unknown kind 'thin_plate' - did you mean 'tension'\?"),
        (OK + "model: {kind: GP}\n", r"unknown kind 'GP' - did you mean 'kriging'\?"),
        (OK + "mask: [{kind: nan}]\n", r":2: mask\.0: unknown kind 'nan' in masks - did you mean 'nodata'\?"),
        (
            OK + "mask: [{kind: shapefile, path: x.shp}]\n",
            r"unknown kind 'shapefile' in masks - .* 'vector'\?",
        ),
        (OK + "\u200bseed: 2\n", r":2: '\\u200bseed': unknown key - did you mean 'seed'\?"),
        (OK + "compute: {slurm: {memory: 12 parsecs}}\n", r"slurm\.memory: must be an amount .*'12 parsecs'"),
        (OK + "compute: {slurm: {queue: ''}}\n", r"slurm\.queue: must be text of one line that is not empty"),
        (
            OK + 'compute: {slurm: {job_extra_directives: ["-A x", "a\\nb"]}}\n',
            r"directives\.1: must be text of one line",
        ),
        ("- a\n", r"must hold 'key: value' pairs at its top level, found a list"),
        ("", r"is empty; 'inpaint-pipeline config new FILE' writes a start"),
        (
            OK + "output: {directory: '${INPAINT_NO_SUCH}/x'}\n",
            r"environment variable INPAINT_NO_SUCH, which is not set",
        ),
        (OK + "output: {directory: $HOME/x}\n", r":2: output.directory: '\$HOME/x': \$HOME is not .*write \$\{HOME\}"),
        (OK + "output: {directory: /x/a$HOME}\n", r"write \$\{HOME\}, with braces"),
        (OK + "output: {directory: $INPAINT_NO_SUCH/x}\n", r"write \$\{INPAINT_NO_SUCH\}, with braces"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, text: str, message: str) -> None:
    """Where it stands, what is wrong, what would be right."""
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as error:
        load_config(path)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pach.size=3", r"--set pach\.size=3: pach: unknown key - did you mean 'patch'\?"),
        ("patch.sise=3", r"--set patch\.sise=3: patch\.sise: unknown key - did you mean 'size'\?"),
        ("patch.size=big", r"--set patch\.size=big: patch\.size: must be 'auto'"),
        ("patch.size", r"write it as --set section\.key=VALUE"),
        ("=3", r"write it as --set section\.key=VALUE"),
        ("seed.a=3", r"'seed' has no part 'a'"),
        ("seed.a.b=3", r"'seed' has no part 'a'"),
        ("mask.4.kind=scl", r"'mask' has no part '4'"),
        ("input.references.1.path=r.tif", r"'input\.references' has no part '1'"),
        ("output.directory=s3://bucket/out", r"output\.directory: .* s3://bucket/out are made in a folder .*scratch"),
        ("output.directory=gs://bucket/out", r"output\.directory: 'gs://bucket/out' is an address; .* name one"),
        ("compute.scratch=s3://me:key@host/x?sig=1", r"compute\.scratch: 's3://\*\*\*@host/x\?\*\*\*' is an address"),
        ("output.directory=/vsis3/bucket/out", r"output\.directory: '/vsis3/bucket/out' is an address"),
        ("patch.size=[1", r"--set patch\.size=\[1:1: not valid YAML"),
    ],
)
def test_wrong_overrides_are_explained(tmp_path: Path, override: str, message: str) -> None:
    """The message repeats what was typed."""
    path = tmp_path / "ok.yaml"
    path.write_text(OK + "seed: 0\nmask: []\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_config(path, [override])


def test_items_of_a_list_that_is_not_there_yet(tmp_path: Path) -> None:
    """Overrides may begin a list, and go on with it, as they change what is in one."""
    path = tmp_path / "ok.yaml"
    path.write_text(OK, encoding="utf-8")
    overrides = ["input.references.0.path=a.tif", "input.references.1.path=b.tif", "input.references.1.bands.0=2"]
    first, second = load_config(path, overrides).input.references
    assert (first.bands, second.bands) == (None, (2,))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Nobody wants to run five times to find five typos."""
    path = tmp_path / "bad.yaml"
    path.write_text("inputs: {}\nseed: x\npatch: {sizes: 3}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert len(str(error.value).splitlines()) == 4


def test_binary_file_is_no_config(tmp_path: Path) -> None:
    """A config given as image by mistake is named, not decoded."""
    path = tmp_path / "scene.tif"
    for content in (b"II*\x00\xff\xfe\x80", b"II*\x00\xff\xfe\x80" + bytes(1000), b"\xff\xfe\x00\xd8"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"scene\.tif: cannot be read as UTF-8 text"):
            load_config(path)
