"""Names, paths, globs and lists become images; the rule for lists; demo data; checksums."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from pipeline.commands.catalog import checked
from pipeline.config import catalog_file
from pipeline.config.batch import SourceSpec
from pipeline.config.catalog import _with_unique_stems, resolve_sources, verify_sha256
from pipeline.config.catalog_file import list_entries
from pipeline.config.placeholders import PathResolver
from pipeline.config.schema import load_config
from pipeline.errors import ConfigError, SourceError
from pipeline.formats import open_any
from pipeline.geometry.box import Box
from pipeline.masks.base import FILL, open_masks
from tests.helpers import smooth, write_image


def _tif(path: Path, bands: int = 1, size: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(10, 0, 500000, 0, -10, 5100000)
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=size, width=size, dtype="uint8", crs="EPSG:32633",
        transform=transform,
    ) as file:  # fmt: skip
        file.write(np.full((bands, size, size), 7, np.uint8))
    return path


def _resolve(folder: Path, text: str, *overrides: str) -> list[SourceSpec]:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return resolve_sources(load_config(path, overrides))


def _names(specs: list[SourceSpec]) -> list[list[str]]:
    return [[Path(p).name for p in spec.paths] for spec in specs]


# --- the rule for lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "images"),
    [
        ("B02.tif", [["B02.tif"]]),
        ("B0*.tif", [["B02.tif"], ["B03.tif"]]),
        ("[B02.tif, B03.tif]", [["B02.tif", "B03.tif"]]),
        ("[B03.tif, B02.tif]", [["B03.tif", "B02.tif"]]),
        ("[B02.tif]", [["B02.tif"]]),
        ("[[B02.tif], [B03.tif]]", [["B02.tif"], ["B03.tif"]]),
        ("[[B0*.tif], rgb.tif]", [["B02.tif", "B03.tif"], ["rgb.tif"]]),
        ("[B02.tif, rgb.tif]", [["B02.tif"], ["rgb.tif"]]),
        ("[B02.tif, small.tif]", [["B02.tif"], ["small.tif"]]),
        ("['B0*.tif', rgb.tif]", [["B02.tif"], ["B03.tif"], ["rgb.tif"]]),
        ("sub/../B02.tif", [["B02.tif"]]),
    ],
)
def test_one_image_or_a_batch(tmp_path: Path, source: str, images: list[list[str]]) -> None:
    """Single-band files of one grid are one image; any other list is a batch; an inner list is one image."""
    (tmp_path / "sub").mkdir()
    for name, bands, size in (("B02", 1, 4), ("B03", 1, 4), ("rgb", 3, 4), ("small", 1, 2)):
        _tif(tmp_path / f"{name}.tif", bands, size)
    assert _names(_resolve(tmp_path, f"input: {{source: {source}}}")) == images


@pytest.mark.parametrize(
    ("paths", "stem"),
    [
        (["scene.v2.tif"], "scene.v2"),
        (["sub-01_T1w.nii.gz"], "sub-01_T1w"),
        (["LC08_T1_SR_B2.TIF", "LC08_T1_SR_B3.TIF"], "LC08_T1_SR"),
        (["B02.tif", "B03.tif"], "B02"),
    ],
)
def test_stems(tmp_path: Path, paths: list[str], stem: str) -> None:
    """The file name without its suffixes; what the bands' names share."""
    for name in paths:
        (tmp_path / name).touch()
    assert _resolve(tmp_path, f"input: {{source: [{paths}]}}".replace("'", ""))[0].stem == stem


def test_stems_are_unique_in_a_batch(tmp_path: Path) -> None:
    """Two folders may hold files of one name; their results must not collide."""
    for name in ("a/x.tif", "b/x.tif"):
        _tif(tmp_path / name, 2)
    assert [s.stem for s in _resolve(tmp_path, "input: {source: '*/x.tif'}")] == ["x", "x-2"]


# --- where paths start ----------------------------------------------------------------------------------------


def test_paths_start_from_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config's from the config, the catalog's from the catalog; `${NAME}` and `{stem}` are filled in."""
    monkeypatch.setenv("INPAINT_TEST_DATA", str(tmp_path / "data"))
    _tif(tmp_path / "data" / "scene.tif")
    (tmp_path / "data_catalog.yaml").write_text(
        "catalog_version: 1\nsources:\n  here: {license: CC0-1.0, path: '${INPAINT_TEST_DATA}/scene.tif', nodata: 7,"
        " bands: [1], mask: [{kind: raster, path: masks/m.tif}], date: 2024-06-01}\n"
    )
    configs = tmp_path / "configs"
    configs.mkdir()
    spec = _resolve(configs, "input: {source: here}")[0]
    assert spec.paths == (str(tmp_path / "data" / "scene.tif"),)
    assert (spec.name, spec.stem, spec.license, spec.nodata, spec.date) == (
        "here",
        "scene",
        "CC0-1.0",
        7.0,
        "2024-06-01",
    )
    assert spec.resolve(spec.mask[0].model_dump()["path"]) == str(tmp_path / "masks" / "m.tif")
    own = _resolve(configs, "input: {source: here, nodata: none}\nmask: [{kind: raster, path: 'm/{stem}.tif'}]")[0]
    assert own.resolve(own.mask[0].model_dump()["path"]) == str(configs / "m" / "scene.tif")
    assert own.nodata is not None
    assert math.isnan(own.nodata)
    assert pickle.loads(pickle.dumps(own)) == own or math.isnan(own.nodata)


def test_config_wins_over_the_catalog(tmp_path: Path) -> None:
    """`mask: []` means no mask, not the catalog's."""
    assert _resolve(tmp_path, "input: {source: demo-brain}")[0].mask
    assert _resolve(tmp_path, "input: {source: demo-brain}\nmask: []")[0].mask == ()


def test_nearest_catalog_first_then_the_shipped(tmp_path: Path) -> None:
    """A project's own names shadow shipped ones; shipped ones stay reachable."""
    (tmp_path / "data_catalog.yaml").write_text(
        "catalog_version: 1\nsources: {demo-brain: {license: x, path: mine.nii, title: mine}}\n"
    )
    entries = list_entries(tmp_path)
    assert entries["demo-brain"].config.title == "mine"
    assert entries["demo-sentinel"].config.generator is not None


def test_urls_are_left_alone(tmp_path: Path) -> None:
    """Remote files are opened by the format, over the network, when the run needs them."""
    spec = _resolve(tmp_path, "input: {source: 'https://example.org/a/b.tif'}")[0]
    assert spec.paths == ("https://example.org/a/b.tif",)
    remote = list_entries(tmp_path)["sentinel-cogs-remote"]
    assert remote.remote
    assert checked(remote)["state"] == "remote"


# --- references -----------------------------------------------------------------------------------------------


def test_references_bring_their_own_mask(tmp_path: Path) -> None:
    """Given, from the catalog, or found beside the file; `mask: []` asks for none."""
    for name in ("a", "b", "b_SCL", "c"):
        _tif(tmp_path / f"{name}.tif")
    specs = _resolve(
        tmp_path,
        "input:\n  source: a.tif\n  references: [b.tif, {path: c.tif, mask: {kind: threshold, above: 3}, date: 2024},"
        " {path: b.tif, mask: []}, demo-sentinel]\n  auxiliary: [{path: c.tif, bands: [1]}]\n",
    )
    b, c, bare, demo = specs[0].references
    assert b.mask[0].kind == "scl"
    assert b.mask[0].model_dump()["path"] == str(tmp_path / "b_SCL.tif")
    assert c.mask[0].kind == "threshold"
    assert c.date == "2024"
    assert bare.mask == ()
    assert demo.mask[0].kind == "scl"
    assert Path(demo.resolve(demo.mask[0].model_dump()["path"])).is_file()
    assert specs[0].auxiliary[0].bands == (1,)


# --- demo data ------------------------------------------------------------------------------------------------


def test_demo_data_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First use writes, second use reads, another seed writes again; nothing half-made is left."""
    calls = []

    def write_fake(directory: Path, seed: int) -> None:
        calls.append(seed)
        _tif(directory / "image.tif")

    from pipeline.synthetic import demo

    monkeypatch.setattr(demo, "write_fake", write_fake, raising=False)
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path / "cache"))
    catalog = "catalog_version: 1\nsources: {f: {license: x, path: image.tif, generator: {kind: fake, seed: %d}}}\n"
    for seed in (0, 0, 5):
        (tmp_path / "data_catalog.yaml").write_text(catalog % seed)
        paths = _resolve(tmp_path, "input: {source: f}")[0].paths
    assert calls == [0, 5]
    assert paths == (str(tmp_path / "cache" / "f" / "image.tif"),)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["f"]


def test_a_generator_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle must not look like finished data next time."""
    from pipeline.synthetic import demo

    def write_broken(directory: Path, seed: int) -> None:
        (directory / "image.tif").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "write_broken", write_broken, raising=False)
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data_catalog.yaml").write_text(
        "catalog_version: 1\nsources: {f: {license: x, path: image.tif, generator: {kind: broken}}}\n"
    )
    with pytest.raises(OSError, match="No space left"):
        _resolve(tmp_path, "input: {source: f}")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_falls_back_when_the_catalog_folder_is_read_only(tmp_path: Path, monkeypatch: Any) -> None:
    """An installed package may be read-only."""
    monkeypatch.delenv("INPAINT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(catalog_file.os, "access", lambda *_: False)
    assert catalog_file.cache_root(Path("/usr/lib/catalog")) == tmp_path / "inpaint-pipeline"


def test_demo_sentinel_has_holes_and_a_reference(tmp_path: Path) -> None:
    """The first thing a newcomer runs: clouds in the image, a second date that sees the ground."""
    spec = _resolve(tmp_path, "input: {source: demo-sentinel}")[0]
    source = open_any(spec.paths, nodata=spec.nodata)
    holes = open_masks(spec.mask, source, spec.resolve).read(Box.whole(source.space.shape)) == FILL
    assert 0.05 < holes.mean() < 0.7
    assert len(spec.references) == 1
    assert spec.references[0].mask


# --- mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("demo-sentinal", ConfigError, r"'demo-sentinal' is no file .* did you mean 'demo-sentinel'\?"),
        ("scen.tif", SourceError, r"scen\.tif: no such file - did you mean 'scene\.tif'\?"),
        ("no/where.tif", SourceError, r"folder .*no does not exist"),
        ("'*.nii'", SourceError, r"\*\.nii: no file matches"),
        ("'${INPAINT_NO_SUCH}/a.tif'", ConfigError, r"environment variable INPAINT_NO_SUCH, which is not set"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, source: str, error: type[Exception], message: str) -> None:
    """Unknown names are config errors (2), missing files input errors (4); both suggest the nearest."""
    _tif(tmp_path / "scene.tif")
    with pytest.raises(error, match=message):
        _resolve(tmp_path, f"input: {{source: {source}}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: {}", r"catalog_version: this key is required"),
        ("catalog_version: 2\nsources: {}", r":1: catalog_version: .*found 2"),
        ("catalog_version: 1\nsources:\n  a: {path: x}", r":3: sources\.a\.license: this key is required"),
        ("catalog_version: 1\nsources:\n  a: {path: x, license: y, bans: [1]}", r":3: .*did you mean 'bands'\?"),
        ("catalog_version: 1\nsources:\n  a: {path: x, license: y, kind: geotif}", r"did you mean 'geotiff'\?"),
        ("catalog_version: 1\nsources:\n  a: {path: x, license: y, sha256: {x: 12}}", r"sha256"),
    ],
)
def test_catalog_mistakes_are_explained(tmp_path: Path, text: str, message: str) -> None:
    """As in a config: file, line, path, nearest right key."""
    (tmp_path / "data_catalog.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"data_catalog\.yaml.*" + message):
        list_entries(tmp_path)


def test_unknown_generator_is_named(tmp_path: Path) -> None:
    """Generators are the synthetic demos."""
    (tmp_path / "data_catalog.yaml").write_text(
        "catalog_version: 1\nsources: {f: {license: x, path: a, generator: {kind: demo_sentinal}}}\n"
    )
    with pytest.raises(ConfigError, match=r"'f': no generator 'demo_sentinal' - did you mean 'demo_sentinel'\?"):
        _resolve(tmp_path, "input: {source: f}")


# --- checks ---------------------------------------------------------------------------------------------------


def test_checksums(tmp_path: Path) -> None:
    """A changed file is told from a missing one; both hashes are named; exit code 4."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 3_000_000)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    verify_sha256(path, right.upper())
    with pytest.raises(SourceError, match=f"sha256 is {right}, the catalog expects {'f' * 64}") as error:
        verify_sha256(path, "f" * 64)
    assert error.value.exit_code == 4
    (tmp_path / "data_catalog.yaml").write_text(
        "catalog_version: 1\nsources:\n"
        f"  good: {{license: x, path: a.bin, sha256: {{a.bin: {right}}}}}\n"
        f"  bad: {{license: x, path: a.bin, sha256: {{a.bin: {'f' * 64}}}}}\n"
        "  gone: {license: x, path: b.bin}\n"
    )
    entries = list_entries(tmp_path)
    states = {name: checked(entries[name])["state"] for name in ("good", "bad", "gone")}
    assert states == {"good": "ok", "bad": "wrong", "gone": "absent"}
    spec = _resolve(tmp_path, "input: {source: good}")[0]
    assert spec.sha256 == {str(path): right}


def test_every_shipped_entry_tells_its_licence_and_origin() -> None:
    """Nobody should have to ask where data come from and what may be done with them."""
    for name, entry in list_entries(Path(__file__).parent).items():
        assert entry.config.title, name
        assert entry.config.license, name
        assert entry.config.url or entry.config.generator, name


@pytest.mark.slow
@pytest.mark.realdata
def test_shipped_entries_fit_the_real_data(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry is there, has its hash, and its masks open on its image."""
    monkeypatch.setenv("INPAINT_DATA", str(data_dir))
    entries = [e for e in list_entries(Path(__file__).parent).values() if not e.remote]
    assert [row for row in map(checked, entries) if row["state"] != "ok"] == []
    for entry in entries:
        for spec in _resolve(tmp_path, f"input: {{source: {entry.name}}}"):
            for image in (spec, *spec.references, *spec.auxiliary):
                source = open_any(image.paths, kind=image.kind, bands=image.bands, nodata=image.nodata)
                mask = open_masks(image.mask, source, image.resolve)
                corner = Box.whole(tuple(min(8, n) for n in source.space.shape))
                assert mask.read(corner).shape[1:] == corner.shape
                source.close()


@pytest.mark.realdata
def test_slc_off_stripes_are_holes_and_the_swath_edge_is_not(data_dir: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Real Landsat 7: most fill is stripe; what stays nodata touches the border or is wide."""
    monkeypatch.setenv("INPAINT_DATA", str(data_dir))
    spec = _resolve(tmp_path, "input: {source: le7-colombia}\nmask: [{kind: nodata}]")[0]
    source = open_any(spec.paths, nodata=spec.nodata)
    states = open_masks(spec.mask, source, spec.resolve).read(Box.whole(source.space.shape))[0]
    fill = source.never(Box.whole(source.space.shape))[0]
    assert 0.6 < (states[fill] == 1).mean() < 0.95
    assert not (states[~fill] != 0).any()


def test_stems_stay_unique_when_a_numbered_name_is_taken(tmp_path: Path) -> None:
    """Two images `a` and one `a-2` get three folders."""
    resolve = PathResolver(base=str(tmp_path))
    specs = [
        SourceSpec(name=n, stem=n, paths=(f"{i}/{n}.tif",), resolve=resolve) for i, n in enumerate(["a", "a", "a-2"])
    ]
    assert [spec.stem for spec in _with_unique_stems(specs)] == ["a", "a-3", "a-2"]


def test_names_that_other_file_systems_take_for_one_are_apart(tmp_path: Path) -> None:
    """Results are copied to Macs, to Windows and to shares, where the second would replace the first."""
    names = ["Scene", "scene", "Z\u00fcrich", "Zu\u0308rich", "INDEX.HTML"]
    resolve = PathResolver(base=str(tmp_path))
    specs = [SourceSpec(name=n, stem=n, paths=(f"{n}.tif",), resolve=resolve) for n in names]
    stems = [spec.stem for spec in _with_unique_stems(specs)]
    assert stems == ["Scene", "scene-2", "Z\u00fcrich", "Zu\u0308rich-2", "INDEX.HTML-2"]


@pytest.mark.parametrize("source", [["*.tif", "a.tif"], ["b.tif", "a.tif", "./a.tif"]])
def test_an_image_that_two_globs_take_is_restored_once(tmp_path: Path, source: list[str]) -> None:
    """It was restored twice, under two names."""
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.tif", smooth((2, 8, 9)))
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"input": {"source": source}, "mask": [{"kind": "nodata"}]}))
    assert sorted(spec.stem for spec in resolve_sources(load_config(path))) == ["a", "b"]


def test_a_file_is_one_band_of_an_image(tmp_path: Path) -> None:
    """Named alone twice it is one image; as two bands of one it is refused."""
    write_image(tmp_path / "a.tif", smooth((1, 8, 9)))
    path = tmp_path / "run.yaml"
    config = {"input": {"source": ["a.tif", "a.tif"]}, "mask": [{"kind": "nodata"}]}
    path.write_text(json.dumps(config))
    (spec,) = resolve_sources(load_config(path))
    assert len(spec.paths) == 1
    path.write_text(json.dumps(config | {"input": {"source": [["a.tif", "a.tif"]]}}))
    with pytest.raises(ConfigError, match=r"a\.tif is named twice as a band of one image"):
        resolve_sources(load_config(path))


def test_a_name_that_only_looks_the_same_is_told(tmp_path: Path) -> None:
    """`did you mean Z\u00fcrich.tif?` of a name that is shown the same helps nobody."""
    write_image(tmp_path / "Z\u00fcrich.tif", smooth((1, 8, 9)))
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"input": {"source": "Zu\u0308rich.tif"}, "mask": [{"kind": "nodata"}]}))
    with pytest.raises(SourceError, match=r"looks the same and has other characters \('Zu\\u0308rich\.tif'"):
        resolve_sources(load_config(path))
