"""Every config that is shipped loads; the two demos run from catalog to verified files on shrunken scenes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.synthetic.demo import write_demo_brain, write_demo_sentinel
from tests.helpers import command, layer, pixels

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.yaml") if not p.name.startswith("train_"))
SMALL = {"demo_sentinel": (write_demo_sentinel, (160, 144)), "demo_brain": (write_demo_brain, (28, 32, 30))}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_loads(path, monkeypatch):
    """No unknown key, no missing file but real data; it writes into a folder of its own name."""
    monkeypatch.setenv("INPAINT_DATA", "/nowhere")
    config = load_config(path)
    assert config.output.directory.name == path.stem
    assert "yaml-language-server: $schema=./schema.json" in path.read_text().splitlines()[0]


@pytest.mark.realdata
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_finds_its_data(path, data_dir, monkeypatch, tmp_path):
    """With the real images there, every source, mask and reference of every config exists."""
    monkeypatch.setenv("INPAINT_DATA", str(data_dir))
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path))
    for spec in resolve_sources(load_config(path)):
        assert spec.mask
        assert all(Path(p).exists() for p in spec.paths)


def _shrunken(folder: Path, name: str) -> Path:
    """Copy a demo config and the catalog, its generator replaced by files of a small scene; return the config."""
    kind = re.search(r"source: (demo-\w+)", (ROOT / "configs" / name).read_text())[1].replace("-", "_")
    write, shape = SMALL[kind]
    write(folder / "data", 0, shape=shape)
    catalog = (ROOT / "data_catalog.yaml").read_text()
    entry = re.search(rf"^  {kind.replace('_', '-')}:\n(?:    .*\n|      .*\n)*", catalog, re.MULTILINE)[0]
    entry = re.sub(r"    generator: .*\n", "", entry)
    entry = re.sub(r"path: (?=[\w.-]+\.(tif|nii\.gz))", "path: data/", entry)
    (folder / "data_catalog.yaml").write_text(f"catalog_version: 1\nsources:\n{entry}")
    config = folder / "configs" / name
    config.parent.mkdir()
    shutil.copy(ROOT / "configs" / name, config)
    return config


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stem"), [("sentinel.yaml", "S2_20240612"), ("brain_mri.yaml", "sub-demo_T1w")])
def test_a_demo_runs_from_catalog_to_report(tmp_path, name, stem):
    """Run, run again (nothing to do), verify, status, report: all exit 0; nearer to the truth than before."""
    config = _shrunken(tmp_path, name)
    settings = ["--set", "compute.device=cpu"]
    if name == "brain_mri.yaml":
        # four looks at each patch, as in the other demo, would take four times as long in a volume
        settings += ["--set", "model.options={test_time_augmentation: false}"]
    outcome = command("run", config, *settings, "--json")
    assert outcome.code == 0, outcome.err
    out = load_config(config).output.directory
    assert json.loads(outcome.out) == json.loads((out / "run.json").read_text())
    again = command("run", config, *settings)
    assert again.code == 0, again.err
    assert "already" in again.err or "nothing" in again.err or "done" in again.err
    for step in ("verify", "status", "report"):
        done = command(step, out)
        assert done.code == 0, done.err
    record = json.loads((out / stem / "record.json").read_text())
    assert record["license"] == "CC0-1.0"
    code = pixels(layer(out / stem, "source"))[0]
    hole = (code != 0) & (code != 255)
    assert hole.any()
    restored = pixels(layer(out / stem, "restored"))[:, hole].astype(float)
    truth = pixels(next((tmp_path / "data").glob("*truth*")))[:, hole].astype(float)
    before = pixels(next(p for p in (tmp_path / "data").iterdir() if p.name.startswith(f"{stem}.")))[:, hole]
    error, spoilt = (np.sqrt(np.mean((v - truth) ** 2)) for v in (restored, before.astype(float)))
    assert error < 0.5 * spoilt
    if name == "sentinel.yaml":
        assert (code >= 10).any(), "the clear date was not used"
