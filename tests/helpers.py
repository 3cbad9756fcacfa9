"""Small scenes, configs and one hash: what the end-to-end tests share."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from ruamel.yaml import YAML

from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.orders import Order
from pipeline.orders import order_of as order_of_spec
from pipeline.registry import load
from tests.support_formats import ArraySource, layer_of, options, space_of, write_nifti, write_tiff

LAYERS = ("restored", "uncertainty", "source")


def smooth(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    """Return a smooth field with a little noise, `(c, *spatial)`, values around 1000 (100 for 8 bits)."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(0, 3, n) for n in shape[1:]), indexing="ij")
    waves = [sum(np.sin((k + 1) * a + c) for k, a in enumerate(axes)) for c in range(shape[0])]
    level, height = (100, 20) if np.dtype(dtype).itemsize == 1 else (1000, 200)
    values = level + height * np.stack(waves) + rng.normal(0, height / 40, shape)
    return (values if np.dtype(dtype).kind == "f" else np.rint(values)).astype(dtype)


def blobs(shape: tuple[int, ...], seed: int = 0, *, n: int = 4, radius: float = 6.0) -> NDArray[np.uint8]:
    """Return a mask `(*spatial)` with `n` balls of 1."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(m) for m in shape), indexing="ij"))
    hole = np.zeros(shape, dtype=np.uint8)
    for _ in range(n):
        centre = np.asarray([rng.integers(m) for m in shape]).reshape((-1,) + (1,) * len(shape))
        hole[((grid - centre) ** 2).sum(axis=0) <= radius**2] = 1
    return hole


def write_image(path: Path, values: NDArray[Any], **profile: Any) -> Path:
    """Write `(c, *spatial)` as GeoTIFF, NIfTI or zarr, by the suffix of `path`."""
    if path.name.endswith((".nii", ".nii.gz")):
        stored = values.transpose(*range(values.ndim - 1, 0, -1), 0)
        return write_nifti(path, np.ascontiguousarray(stored[..., 0] if len(values) == 1 else stored), **profile)
    if path.suffix == ".zarr":
        return _write_zarr(path, values)
    return write_tiff(path, values, **profile)


def _write_zarr(path: Path, values: NDArray[Any]) -> Path:
    shape = values.shape[1:]
    names = tuple(f"B{c + 1}" for c in range(len(values)))
    image = ArraySource(values=values, space=space_of(shape), channel_names=names, native_chunk=shape)
    load("formats", "zarr").write(layer_of(image), path, image, image.read, options(path.parent))
    return path


def run_config(folder: Path, image: Path | str, hole: Path | None, **sections: Any) -> Path:
    """Write a config for one image and a mask file and return its path; serial, on the CPU, with small patches."""
    ndim = 3 if str(image).endswith((".nii", ".nii.gz")) else 2
    config: dict[str, Any] = {
        "input": {"source": str(image), **sections.pop("input", {})},
        "mask": sections.pop("mask", [{"kind": "raster", "path": str(hole)}]),
        "model": {"kind": "tension"},
        "patch": {"size": 32 if ndim == 2 else 16, "overlap": 8 if ndim == 2 else 4},
        "compute": {"executor": "serial", "device": "cpu", **sections.pop("compute", {})},
        "output": {"directory": str(folder / "out"), **sections.pop("output", {})},
        **sections,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return path


def stem_of(image: Path | str) -> str:
    """Return the file name without suffixes."""
    return Path(str(image).removesuffix(".gz")).stem


def layer(folder: Path, role: str) -> Source:
    """Open one of the three layers in the folder of a finished image."""
    record = json.loads((folder / "record.json").read_text())
    return open_any(str(folder / next(o["path"] for o in record["outputs"] if o["role"] == role)))


def pixels(image: Source | Path | str) -> NDArray[Any]:
    """Return all stored values `(c, *spatial)`."""
    source = open_any(str(image)) if isinstance(image, Path | str) else image
    return source.read(Box.whole(source.space.shape))


def result_hash(folder: Path) -> str:
    """Return one hash over the pixels of the three layers."""
    total = hashlib.sha256()
    for role in LAYERS:
        values = pixels(layer(folder, role))
        total.update(f"{role} {values.dtype.newbyteorder('=')} {values.shape}".encode())
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command gave back."""

    code: int
    out: str
    err: str


def command(*arguments: Path | str) -> Outcome:
    """Run `inpaint-pipeline ...` through its real entry point in this process."""
    from pipeline.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    argv = ["inpaint-pipeline", *(str(a) for a in arguments)]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    return Outcome(code=int(code), out=out.getvalue(), err=err.getvalue())


def order_of(config: Path, *overrides: str) -> Order:
    """Return the order of a config with one image, its work folder made."""
    loaded = load_config(config, overrides)
    (spec,) = resolve_sources(loaded)
    order = order_of_spec(loaded, spec)
    order.work.path.mkdir(parents=True, exist_ok=True)
    return order


def use_everything(patch: pytest.MonkeyPatch) -> None:
    """Give references and network a fixed part in the result, whatever the self-test says."""
    for chapter in ("references", "network"):
        patch.setattr(f"pipeline.selftest.{chapter}.choose_weights", lambda evidence, *_: [0.6] * len(evidence.cells))
    patch.setattr("pipeline.selftest.network._worth_it", lambda _, recipe, *__, **___: recipe)
    patch.setattr("pipeline.selftest.network._may_matter", lambda *_, **__: True)


def tiny_weights(folder: Path, ndim: int = 2) -> Path:
    """Write random (not zero) weights of a very small network with their card."""
    import torch
    from safetensors.torch import save_file

    from pipeline.models._unet import ResidualUNet

    generator = torch.random.get_rng_state()
    torch.manual_seed(1)
    network = ResidualUNet(ndim, (4, 6))
    torch.nn.init.normal_(network.residual_head.weight, std=0.3)
    torch.random.set_rng_state(generator)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny{ndim}.safetensors"
    save_file(network.state_dict(), path)
    card = {
        "name": "tiny",
        "ndim": ndim,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "architecture": {"widths": [4, 6]},
    }
    path.with_suffix(".yaml").write_text(json.dumps(card))
    return path


_SMALL_TRAINING: dict[str, Any] = {
    "name": "small",
    "base_fill": {"kind": "tension", "t": 0.5},
    "tensions": {},
    "kriging": {},
    "masks": {"points": 1, "stripes": 1},
    "train": [{"synthetic": "optical", "count": 4}],
    "validate_on": [{"synthetic": "optical", "count": 1, "seed": 50}],
    "tile": 64,
    "masks_per_tile": 4,
    "bands_per_mask": 2,
    "network": {"widths": [8, 12], "bottom_units": 1},
    "patch": 32,
    "batch": 4,
    "steps": 6,
    "ema": 0.5,
    "bfloat16": False,
    "validate_every": 3,
    "checkpoint_every": 3,
    "output": "weights/small.safetensors",
    "cache": "cache",
}


def small_training(folder: Path, **changes: object) -> Path:
    """Write the config of a training of six steps, `folder/train.yaml`; a change to None leaves a key out."""
    path = folder / "train.yaml"
    with path.open("w") as file:
        YAML().dump({k: v for k, v in (_SMALL_TRAINING | changes).items() if v is not None}, file)
    return path
