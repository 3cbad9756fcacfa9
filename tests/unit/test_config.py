"""Reading a config: defaults, YAML 1.2, overrides, paths, hash, schema."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.commands.template import config_template
from pipeline.config.schema import RunConfig, config_hash, json_schema, load_config, resolved
from pipeline.errors import ConfigError
from pipeline.system.yaml_files import read_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
RUN_CONFIGS = sorted(p for p in CONFIGS.glob("*.yaml") if not p.name.startswith("train_"))


def _load(folder: Path, text: str, *overrides: str) -> RunConfig:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    """The shortest config is a source; everything else has a default that can be seen."""
    config = _load(tmp_path, "input: {source: demo-sentinel}")
    assert config.mask is None
    assert config.model is None
    assert config.patch.size == config.patch.overlap == "auto"
    assert config.compute.memory_per_worker == 4 * 2**30
    assert config.input.fill_nodata == "drawn"
    assert config.output.format == ("same",)
    assert config.seed == 0
    assert config.path == tmp_path / "config.yaml"


def test_everything_a_user_may_write(tmp_path: Path) -> None:
    """The contract's example, with every section."""
    config = _load(
        tmp_path,
        """
input:
  source: [[B02.tif, B03.tif], other]
  bands: [1, B03]
  nodata: none
  references: [other-date, {path: r.tif, mask: {kind: scl, path: s.tif}, date: "2024-06-01"}]
  auxiliary: [{source: sar.tif}]
mask:
  - {kind: scl, path: scl.tif, classes: [cloud_high], buffer: 60 m}
  - {kind: slices, slices: [41, 42]}
model: {kind: tension, options: {t: 1e-1}}
patch: {size: [64, 256, 256], overlap: 32}
compute: {executor: serial, workers: 2, memory_per_worker: 512 MiB, device: cpu, batch_size: 8, block: 512}
output: {directory: results, format: [same, zarr], refuse_above: 1e-1}
seed: 7
""",
    )
    assert config.input.source == (("B02.tif", "B03.tif"), "other")
    assert config.input.nodata is None
    assert [r.source for r in config.input.references] == ["other-date", "r.tif"]
    assert config.input.references[1].mask is not None
    assert config.input.references[1].mask[0].kind == "scl"
    assert config.mask is not None
    assert [m.kind for m in config.mask] == ["scl", "slices"]
    assert config.model is not None
    assert config.model.options == {"t": 0.1}
    assert config.patch.size == (64, 256, 256)
    assert config.patch.overlap == (32,)
    assert config.compute.memory_per_worker == 512 * 2**20
    assert config.output.refuse_above == 0.1


def test_yaml_is_1_2(tmp_path: Path) -> None:
    """`1e-4` is a number, `010` is ten, `no` is a word."""
    path = tmp_path / "v.yaml"
    path.write_text("a: 1e-4\nb: 010\nc: no\nd: 12:30:00\n")
    assert read_yaml(path).data == {"a": 1e-4, "b": 10, "c": "no", "d": "12:30:00"}
    config = _load(tmp_path, "input: {source: x}\nmask: [{kind: threshold, above: 1e-4}]")
    assert config.mask is not None
    assert config.mask[0].model_dump()["above"] == 1e-4


def test_json_with_any_character_is_yaml(tmp_path: Path) -> None:
    """What `json.dumps` writes beyond 16 bits stands as two escapes."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"\U0001f6f0": "\U0001f600.tif"}))
    assert "\\ud83d" in path.read_text()
    assert read_yaml(path).data == {"\U0001f6f0": "\U0001f600.tif"}


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("none", None), ("~", "auto"), ("-9999", -9999.0)])
def test_nodata_choices(tmp_path: Path, text: str, value: object) -> None:
    """auto, none or a number; nan too."""
    overrides = [] if text == "~" else [f"input.nodata={text}"]
    assert _load(tmp_path, "input: {source: x}", *overrides).input.nodata == value
    nan = _load(tmp_path, "input: {source: x, nodata: nan}").input.nodata
    assert isinstance(nan, float)
    assert math.isnan(nan)


def test_an_empty_section_means_its_defaults(tmp_path: Path) -> None:
    """A section whose lines are all commented out is no error."""
    assert _load(tmp_path, "input: {source: x}\npatch:\n  # size: 64\n").patch.size == "auto"


def test_overrides_win_in_order_and_reach_into_lists(tmp_path: Path) -> None:
    """VALUE is YAML; later ones win; list items go by number; missing sections appear."""
    config = _load(
        tmp_path,
        "input: {source: x}\nmask: [{kind: threshold, above: 5}]\nmodel:\n",
        "patch.size=[128, 64]",
        "seed=1",
        "seed=2",
        "mask.0.above=7.5",
        "mask.1={kind: slices, slices: [3]}",
        "model.kind=identity",
    )
    assert config.patch.size == (128, 64)
    assert config.seed == 2
    assert config.mask is not None
    assert config.mask[0].model_dump()["above"] == 7.5
    assert config.mask[1].kind == "slices"
    assert config.model is not None
    assert config.model.kind == "identity"


def test_paths_in_the_file_start_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the config, wherever the command is run; environment variables expand."""
    monkeypatch.setenv("INPAINT_SCRATCH", str(tmp_path / "s"))
    monkeypatch.chdir("/")
    text = "input: {source: x}\ncompute: {scratch: '${INPAINT_SCRATCH}/a'}\nmodel: {weights: w/mine.safetensors}"
    config = _load(tmp_path, text + "\noutput: {directory: out/a}")
    assert config.output.directory == tmp_path / "out" / "a"
    assert config.compute.scratch == tmp_path / "s" / "a"
    assert config.model is not None
    assert config.model.weights == str(tmp_path / "w" / "mine.safetensors")


def test_paths_of_set_start_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line means the folder it is typed in; catalog names stay names."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "scene.tif").touch()
    monkeypatch.chdir(here)
    config = _load(tmp_path, "input: {source: x}", "output.directory=result", "input.source=scene.tif")
    assert config.output.directory == here / "result"
    assert config.input.source == str(here / "scene.tif")
    (here / "demo").mkdir()
    assert _load(tmp_path, "input: {source: x}", "input.source=demo").input.source == "demo"
    assert _load(tmp_path, "input: {source: x}", "input.source='*.tif'").input.source == str(here / "*.tif")


def test_resolved_round_trips(tmp_path: Path) -> None:
    """The resolved config is JSON, is itself a config, and resolves to itself."""
    text = "input: {source: [a, [b, c]], nodata: nan}\nmask: [{kind: raster, path: m.tif}]\npatch: {size: 64}"
    config = _load(tmp_path, text)
    values = resolved(config)
    again = RunConfig.model_validate(json.loads(json.dumps(values)))
    assert resolved(again) == values
    assert values["compute"]["memory_per_worker"] == "4 GiB"
    assert pickle.loads(pickle.dumps(config)).path == config.path


def test_hash_covers_what_changes_the_result_and_nothing_else(tmp_path: Path) -> None:
    """Workers, folders and formats do not count (P3); mask, patch, seed and refusal do."""
    base = "input: {source: x}\nmask: [{kind: threshold, above: 5}]"
    same = ["compute.workers=3", "compute.memory_per_worker=1 GiB", "output.directory=o", "output.format=zarr"]
    other = ["seed=1", "mask.0.above=6", "patch.size=64", "output.refuse_above=0.3", "input.nodata=0"]
    digest = config_hash(_load(tmp_path, base))
    assert all(config_hash(_load(tmp_path, base, text)) == digest for text in same)
    hashes = {config_hash(_load(tmp_path, base, text)) for text in other}
    assert len(hashes | {digest}) == len(other) + 1


def test_configs_are_frozen(tmp_path: Path) -> None:
    """Values, not globals."""
    config = _load(tmp_path, "input: {source: x}")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


def test_schema_file_is_fresh() -> None:
    """Regenerate with `inpaint-pipeline config schema > configs/schema.json`."""
    assert json.loads((CONFIGS / "schema.json").read_text(encoding="utf-8")) == json_schema()


@pytest.mark.parametrize("path", RUN_CONFIGS, ids=lambda p: p.name)
def test_shipped_configs_load_and_match_the_schema(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Every run config in configs/ is valid, and the editor's schema agrees."""
    monkeypatch.setenv("INPAINT_DATA", str(tmp_path))
    config = load_config(path)
    assert config.output.directory.is_relative_to(CONFIGS.parent / "out")
    jsonschema.validate(read_yaml(path).data, json_schema())


def test_schema_refuses_what_the_loader_refuses() -> None:
    """An editor underlines an unknown key and a wrong class name."""
    validator = jsonschema.Draft202012Validator(json_schema())
    good: dict[str, Any] = {"input": {"source": "x", "references": ["a", {"path": "b"}]}}
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "imput": 1})
    assert not validator.is_valid({**good, "mask": [{"kind": "scl", "path": "x", "classes": ["clouds"]}]})
    assert not validator.is_valid({**good, "compute": {"device": "gpu"}})


@pytest.mark.parametrize("sibling", ["", "_SCL", "_mask"])
def test_template_is_a_config_for_the_file(tmp_path: Path, sibling: str) -> None:
    """`config new FILE` names the file, tells what is in it, and finds a mask beside it."""
    import numpy as np
    import rasterio

    profile = {"driver": "GTiff", "count": 2, "height": 4, "width": 4, "dtype": "uint8", "crs": "EPSG:32633"}
    place = {"transform": rasterio.Affine(10, 0, 0, 0, -10, 0), "nodata": 0}
    for name in {"a scene.tif", f"a scene{sibling}.tif"}:
        with rasterio.open(tmp_path / name, "w", **profile, **place) as file:
            file.write(np.ones((2, 4, 4), np.uint8))
    text = config_template(tmp_path / "a scene.tif", tmp_path).text
    assert "2 bands, uint8, nodata 0" in text
    config = _load(tmp_path, text)
    assert config.input.source == "a scene.tif"
    assert config.mask is not None
    assert config.mask[0].kind == {"": "nodata", "_SCL": "scl", "_mask": "raster"}[sibling]


def test_template_for_a_volume(tmp_path: Path) -> None:
    """NIfTI files get medical examples and the warning that this is no medical device."""
    import nibabel
    import numpy as np

    nibabel.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4)).to_filename(tmp_path / "sub-1_T1w.nii.gz")
    text = config_template(tmp_path / "sub-1_T1w.nii.gz", tmp_path).text
    assert "No medical device" in text
    config = _load(tmp_path, text)
    assert config.output.directory.name == "sub-1_T1w"


def test_missing_config_suggests_a_near_name(tmp_path: Path) -> None:
    """A typo in the file name is answered with the right one."""
    (tmp_path / "sentinel.yaml").touch()
    with pytest.raises(ConfigError, match=r"sentinal\.yaml: no such file - did you mean 'sentinel\.yaml'\?"):
        load_config(tmp_path / "sentinal.yaml")
