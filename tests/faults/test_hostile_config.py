"""Configs and catalogs made to harm: bombs, pipes, tags, absurd numbers. Exit code 2, at once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.catalog import resolve_sources
from pipeline.config.catalog_file import list_entries
from pipeline.config.schema import config_hash, load_config, resolved
from pipeline.errors import ConfigError, PipelineError, SourceError
from pipeline.models.base import read_card, require_bounded
from pipeline.system import yaml_files, yaml_tree
from pipeline.system.yaml_files import read_yaml
from tests.helpers import command

OK = "input: {source: x}\n"


def _config(folder: Path, text: str | bytes) -> Path:
    path = folder / "hostile.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- the text ---------------------------------------------------------------------------------------------------


def _bomb(levels: int) -> str:
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, levels)]
    return "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_bomb(9), r":1: more than 10000 values, aliases counted"),
        (
            "a0: &a0 {k: x}\n" + "".join(f"a{n}: &a{n} {{<<: [{f'*a{n - 1}, ' * 9}]}}\n" for n in range(1, 9)),
            r"more than 10000 values",
        ),
        ("a: &a [*a]\n", r":1: nested more than 32 levels"),
        ("a: &a {<<: *a}\n", r":1: nested more than 32 levels"),
        (OK + "a: " + "[" * 5000, r":2: not valid YAML: nested more than 32 levels"),
        ("\n".join(" " * n + "a:" for n in range(600)), r":32: not valid YAML: nested more than 32 levels"),
        ("a:\n" + "- x\n" * 10_001, r":9999: not valid YAML: more than 10000 values"),
        (OK + "seed: !!python/object/apply:os.system [id]\n", r":2: the tag '!!python/object/apply:os\.system' is not"),
        (OK + "seed: !!python/name:os.system\n", r":2: the tag '!!python/name:os\.system' is not known"),
        (OK + "seed: !mine 3\n", r":2: the tag '!mine' is not known"),
        (OK + "seed: !!int ''\n", r":2: '' cannot be read as int"),
        (OK + "seed: !!bool maybe\n", r":2: 'maybe' cannot be read as bool"),
        (OK + "seed: " + "9" * 5000 + "\n", r":2: '9+' cannot be read as int"),
        (OK + "seed: 0x" + "f" * 5000 + "\n", r":2: '0xf+'\.\.\. is too large"),
        (OK + "? [a, b]\n: 1\n", r":2: a key must be plain text"),
        (OK + "a: {<<: 1}\n", r":2: '<<' takes a mapping"),
        (OK + "a: *nowhere\n", r":2: not valid YAML: found undefined alias"),
        (OK + "a: \0\n", r":2: not valid YAML: unacceptable character #x0000"),
        (b"input: {source: x}\n# \xff\n", r"cannot be read as UTF-8 text: line 2 has byte 0xff; save it as UTF-8"),
        (OK.encode("utf-16"), r"its text is UTF-16 or UTF-32.*; save it as UTF-8"),
        (OK.encode("utf-16-le"), r"its text is UTF-16 or UTF-32"),
        (OK.encode("utf-16-be"), r"its text is UTF-16 or UTF-32"),
        (OK.encode("utf-32"), r"its text is UTF-16 or UTF-32"),
        (OK + "#" * (yaml_files.MOST_BYTES + 1), r"is larger than 512 KiB"),
    ],
)
def test_text_that_is_a_trap(tmp_path, text, message):
    """Refused with file and line before it takes memory or time: as a config and, if short, as a catalog and a card."""
    path = _config(tmp_path, text)
    began = time.process_time()
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    assert time.process_time() - began < 5
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=message) as error:
            load_config(path)
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 1500
    if len(text) > 10_000:
        return
    path.rename(tmp_path / "data_catalog.yaml")
    with pytest.raises(ConfigError, match=message):
        list_entries(tmp_path)
    (tmp_path / "data_catalog.yaml").rename(tmp_path / "w.yaml")
    with pytest.raises(ConfigError, match=message):
        read_card(tmp_path / "w.safetensors")


def test_what_yaml_offers_still_works(tmp_path):
    """Aliases, merged mappings and plain tags, up to the bounds."""
    text = "a: &a {x: 1, y: [2, 010]}\nb: {<<: *a, x: !!str 5, z: .inf}\nc: *a\nd: 2024-06-01\ne: {<<: [{x: 7}, *a]}\n"
    document = read_yaml(_config(tmp_path, text))
    assert document.data == {
        "a": {"x": 1, "y": [2, 10]},
        "b": {"x": "5", "y": [2, 10], "z": np.inf},
        "c": {"x": 1, "y": [2, 10]},
        "d": "2024-06-01",
        "e": {"x": 7, "y": [2, 10]},
    }
    assert document.origin(("c", "y", 1)).endswith(":1")
    assert document.origin(("b", "x")).endswith(":2")
    nested = "a: " + "[" * (yaml_tree.DEEPEST - 1) + "]" * (yaml_tree.DEEPEST - 1)
    assert read_yaml(_config(tmp_path, nested)).data["a"]
    assert len(read_yaml(_config(tmp_path, "a:\n" + "- x\n" * 9000)).data["a"]) == 9000


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "loop", "long"])
@pytest.mark.parametrize("words", [("run",), ("plan",), ("config", "show"), ("train",)])
def test_a_config_that_is_no_file(tmp_path, kind, words, monkeypatch):
    """Every command that takes a config refuses pipes, sockets, folders, devices and names without a file; exit 2."""
    path = tmp_path / "config.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # the whole path may be too long for one
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path = tmp_path / ("x" * 5000)
    outcome = command(*words, path)
    assert outcome.code == 2, outcome.err
    assert str(path)[:100] in outcome.err


def test_only_the_first_mistakes_are_told(tmp_path):
    """A file with a thousand wrong keys gives a message one can read."""
    path = _config(tmp_path, OK + "".join(f"{'k' * 300}{n}: {'v' * 50}\n" for n in range(1000)))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 980 more"
    assert max(map(len, lines)) <= 1001


# --- values -----------------------------------------------------------------------------------------------------

_ABSURD = ["1e300", ".nan", "-3", "1" + "0" * 30, "true", "[[1]]", "{a: 1}", "''"]


@pytest.mark.parametrize("value", [*_ABSURD, "0", "[]", "[1, 2, 3, 4]", "[3, 0]", "[0, 5]", "2.5"])
@pytest.mark.parametrize("key", ["compute.block", "patch.size"])
def test_sizes_that_make_no_sense(tmp_path, key, value):
    """Zero, negative, fractions, too many axes, more than any machine holds."""
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=rf":2: {key}: must be 'auto', a whole number .* from 1 to \d+, found"):
        load_config(_config(tmp_path, OK + f"{section}: {{{name}: {value}}}\n"))


_KEYS = ["patch.overlap", "compute.workers", "compute.batch_size", "compute.memory_per_worker", "seed", "model.kind"]


# a truth value is the number 1 for a seed
@pytest.mark.parametrize(("key", "value"), sorted({(k, v) for k in _KEYS for v in _ABSURD} - {("seed", "true")}))
def test_numbers_that_make_no_sense(tmp_path, key, value):
    """Every count, seed, size and kind names itself, its line and what was found."""
    section, _, name = key.partition(".")
    with pytest.raises(ConfigError, match=rf":2: {key}\b"):
        load_config(_config(tmp_path, OK + (f"{section}: {{{name}: {value}}}\n" if name else f"{key}: {value}\n")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: {format: []}", r"output\.format: .*at least 1"),
        ("output: {format: [same, same]}", r"output\.format: names one thing twice"),
        ("output: {format: [zarr, zarr, same]}", r"output\.format: names one thing twice"),
        ("output: {refuse_above: .inf}", r"output\.refuse_above: .*finite"),
        ("output: {refuse_above: .nan}", r"output\.refuse_above"),
        ("output: {directory: ''}", r"output\.directory: is empty"),
        ("output: {directory: ~nouser/x}", r":2: output\.directory: .*no user 'nouser'.*'\./~nouser'"),
        ('output: {directory: "a\\0b"}', r":2: output\.directory: 'a\\x00b' has a character"),
        (f"output: {{directory: {'d' * 300}}}", r":2: output\.directory: 'd+…' is too long"),
        (f"output: {{directory: {'d/' * 3000}}}", r":2: output\.directory: '[d/]+…' is too long"),
        ('output: {directory: "\\ud800"}', r":2: '.*' holds half a character"),
        ("compute: {scratch: ''}", r"compute\.scratch: is empty"),
        ("compute: {memory_per_worker: 1e400 GiB}", r"compute\.memory_per_worker: '1e400 GiB' is no size"),
        ("compute: {memory_per_worker: 999999999 TiB}", r"compute\.memory_per_worker: '.*' is no size"),
        ("model: {kind: 3}", r"model\.kind: unknown kind '3'"),
        ("model: {kind: [tension]}", r"model\.kind: unknown kind"),
        ("model: {weights: ''}", r"model\.weights: is empty"),
        ("model: {kind: tension, options: {t: 2}}", r"option t: .*less than or equal to 1, found 2"),
        ("model: {kind: tension, options: {t: .nan}}", r"option t: .*finite number, found nan"),
        ("model: {kind: tension, options: {t: '0.5'}}", r"option t: .*found '0\.5'"),
        ("model: {kind: tension, options: {isotropic: 3}}", r"option isotropic: .*found 3"),
        ("model: {kind: kriging, options: {t: -1}}", r"option t: .*found -1"),
        ("model: {kind: kriging, options: {reach: [1000, 1]}}", r"option reach: .*found \[1000, 1\]"),
        ("model: {kind: exemplar, options: {size: 100000001}}", r"option size: .*found 100000001"),
        ("model: {kind: exemplar, options: {sweeps: 0}}", r"option sweeps: .*found 0"),
        ("model: {kind: exemplar, options: {seed: -1}}", r"option seed: .*found -1"),
        ("model: {kind: through, options: {order: odd}}", r"option order: .*found 'odd'"),
        ("mask: [{kind: scl, path: x, buffer: 1e300 px}]", r"mask\.0\.buffer: '1e300 px' is too far"),
        ("mask: [{kind: scl, path: x, buffer: 999999 px}]", r"mask\.0\.buffer: '999999 px' is too far; at most 100000"),
        ("mask: [{kind: scl, path: x, buffer: 1e400 m}]", r"mask\.0\.buffer: '1e400 m' is no length"),
        ("mask: [{kind: scl, path: x, buffer: .nan}]", r"mask\.0\.buffer: 'nan' is no length"),
        ("mask: [{kind: scl, path: x, buffer: .inf}]", r"mask\.0\.buffer: 'inf' is no length"),
        ("mask: [{kind: scl, path: x, buffer: -3 px}]", r"mask\.0\.buffer: '-3 px' is no length"),
        (f"mask: [{{kind: scl, path: x, buffer: {'1' * 200_000}x}}]", r"mask\.0\.buffer: '1+…' is no length"),
        ("mask: [{kind: nodata, max_gap: 1e9}]", r"mask\.0\.max_gap: '1000000000\.0' is too far"),
        ("mask: [{kind: [scl]}]", r"mask\.0: a mask is written"),
        ("mask: [{kind: scl, path: x, band: 0}]", r"mask\.0\.band"),
        ("mask: [{kind: raster, path: x, band: 0}]", r"mask\.0\.band.*greater than 0, found 0"),
        ("mask: [{kind: raster, path: x, band: -1}]", r"mask\.0\.band.*greater than 0, found -1"),
    ],
)
def test_values_that_make_no_sense(tmp_path, text, message):
    """Line, dotted path, what was found."""
    with pytest.raises(ConfigError, match=message) as error:
        load_config(_config(tmp_path, OK + text))
    assert ":2: " in str(error.value)
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize("value", ["0", "-1", "1e300", "[]"])
def test_bands_that_cannot_be(tmp_path, value):
    """Bands count from 1."""
    with pytest.raises(ConfigError, match=r":1: input\.bands"):
        load_config(_config(tmp_path, f"input: {{source: x, bands: [{value}]}}\n"))


@pytest.mark.parametrize("value", ["1" + "0" * 308, "[1]", "true"])
def test_nodata_that_cannot_be(tmp_path, value):
    """A number that no pixel type holds is no value of a pixel."""
    with pytest.raises(ConfigError, match=r":1: input\.nodata"):
        load_config(_config(tmp_path, f"input: {{source: x, nodata: {value}}}\n"))
    # fill values of real files
    for given in (-np.finfo(np.float64).max, np.inf, 0):
        text = f"input: {{source: x, nodata: {'.inf' if given == np.inf else repr(float(given))}}}\n"
        assert load_config(_config(tmp_path, text)).input.nodata == given


@pytest.mark.parametrize(
    "override",
    [
        ".".join("a" * 5000) + "=1",
        "mask." + "9" * 5000 + "=1",
        "seed.²=1",
        "seed=" + "[" * 5000,
        "seed=!!python/name:os.system",
        'output.directory="~nouser"',
        'output.directory="a\\0b"',
        'input.source="**x*"',
        "output.directory=" + "x" * 5000,
        'input.source=""',
    ],
)
def test_overrides_made_to_harm(tmp_path, override):
    """What is typed after --set is bounded like a file, and the message does not repeat it at any length."""
    path = _config(tmp_path, OK + "mask: []\n")
    with pytest.raises(PipelineError) as error:
        resolve_sources(load_config(path, [override]))
    assert error.value.exit_code == 2
    assert len(str(error.value)) < 1500


# --- anything ---------------------------------------------------------------------------------------------------

_VALID = """\
# a config with something of everything
input:
  source: [[a.tif, b.tif], "c*.tif"]
  bands: [1, B03]
  nodata: -9999
  references: [{path: &ref r.tif, mask: {kind: scl, path: s.tif, buffer: 60 m}, date: 2024-06-01}, *ref]
mask:
  - {kind: raster, path: "{stem}_mask.tif", values: [1, 2.5], band: 1}
  - {kind: slices, slices: [41, 42], axis: k}
  - {kind: threshold, above: 2000, physical: true, buffer: 6 mm}
model: {kind: tension, options: {t: 0.5, isotropic: true}}
patch: {size: [64, 256], overlap: 32}
compute: {executor: serial, workers: 2, memory_per_worker: 512 MiB, device: cpu, batch_size: 8, block: 512}
output: {directory: results, format: [same, zarr], refuse_above: 0.2}
seed: 7
"""
_CARD = """\
name: small
ndim: 2
sha256: "0123456789abcdef"
architecture: {widths: [16, 32, 64], bottom_units: 2}
base_fill: {kind: tension, t: 0.95}
training: {steps: 3000, masks: {blobs: 0.35}}
"""
_PIECES = [
    "\0", "\t", "~", "*ref", "&a ", "!!python/name:os ", "!t ", "[" * 40, "{", "]", ": ", "\n", "- ", "? ", "|\n", ">",
    "1e300", ".nan", "-.inf", "9" * 40, "-1", "0", "null", "true", "''", '"', "'", "#", "%", "<<: ", "\\", "\ufeff",
    "\x85", "é", "\U0001f600", "**", "..", "/", "${HOME}", "${NO_SUCH_VARIABLE}", "://", "http://[", "x" * 400, "px",
]  # fmt: skip


_VALUES = [
    "1e300", ".nan", "-.inf", "9" * 40, "-1", "0", "0x" + "f" * 300, "null", "true", "''", "[]", "{}", "[[1]]",
    "{a: 1}", "x", "999999 px", "1e400 GiB", "-1 m", "~nouser", '"\\0"', '"\\ud800"', "x" * 400, "../..", "**x", "http://[",
    "2024-13-45", "auto", "3", "0.5", "[1, 2]", "[1, 2, 3]", "same", "zarr", "*ref", "identity", "through",
]  # fmt: skip
_VALUE = re.compile(r"(?<=[ \[])[\w.*\"{}-]+(?=[,\]}\n])")


def mutated(text: str, rng: random.Random) -> bytes:
    """Return a text with other values, or with pieces put in, taken out, doubled or moved."""
    raw = text
    for _ in range(rng.randint(0, 2)):
        match = rng.choice(list(_VALUE.finditer(raw)) or [re.match("", raw)])
        raw = raw[: match.start()] + rng.choice(_VALUES) + raw[match.end() :]
    for _ in range(rng.choice([0, 0, 0, 0, 1, 4])):
        a = rng.randrange(len(raw) + 1)
        b = a + rng.randint(0, 30)
        piece = rng.choice([rng.choice(_PIECES), raw[a:b] * rng.randint(0, 3), "", chr(rng.randrange(1, 0x2FF))])
        raw = raw[:a] + piece + raw[b if rng.random() < 0.5 else a :]
    content = bytearray(raw.encode("utf-8", errors="replace"))
    if content and rng.random() < 0.1:
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def read_hostile(folder: Path, seed: int) -> int:
    """Read a mutated config and a mutated card; return how many of the two were refused in a sentence."""
    rng = random.Random(seed)
    (folder / "w.yaml").write_bytes(mutated(_CARD, rng))
    refused = 0
    for read in (_read_config, _read_card):
        try:
            read(folder, rng)
        except SourceError:
            pass  # the config is right, its images are not there
        except PipelineError:
            refused += 1
    return refused


def _read_config(folder: Path, rng: random.Random) -> None:
    config = load_config(_config(folder, mutated(_VALID, rng)))
    json.dumps(resolved(config))
    config_hash(config)
    resolve_sources(config)


def _read_card(folder: Path, rng: random.Random) -> None:
    card = read_card(folder / "w.safetensors")
    with contextlib.suppress(TypeError, ValueError):
        require_bounded(card.ndim, **card.architecture)


def test_mutated_configs_and_cards_are_read_or_refused(tmp_path):
    """Two hundred seeds: never anything but a value or an error of ours."""
    refused = sum(read_hostile(tmp_path, seed) for seed in range(200))
    assert 50 < refused < 350
