"""The scenes, from the project's own generators: `python -m benchmarks.speed.scenes NAME FOLDER [--quick]` writes one.

A folder holds `inputs.json` (sections `input` and `mask` of a config), the files these name, and `truth.npy` where the
truth is known. They are made by processes of their own, so that what they need in memory is not taken for a run's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import engine, holes
from benchmarks.quality.scenes import Guide, Image, flat
from pipeline.synthetic.brain import brain_volume
from pipeline.synthetic.demo import write_demo_sentinel
from pipeline.synthetic.optical import optical_scene

Hole = NDArray[np.bool_]
Write = Callable[[Path, bool], Mapping[str, Any]]
"""Writes a scene into a folder, small if asked for, and returns the sections of its config."""
_PIECE = 2048
"""Edge of the piece of landscape that larger scenes are laid out with, pixels."""


def land(size: int, seed: int = 3) -> NDArray[Any]:
    """Return four bands of farmland, `(4, size, size)`; beyond `_PIECE` it is mirrored, which no method can know."""
    edge = min(size, _PIECE)
    values = optical_scene((edge, edge), seed, dates=1).truths[0][1:5]
    more = -(-size // edge)
    pad = [(0, 0), *[(0, (more - 1) * edge)] * 2]
    return np.pad(values, pad, mode="symmetric")[:, :size, :size] if more > 1 else values


def cloud(size: int, share: float, seed: int = 3) -> Hole:
    """Return clouds over a share of a square; in larger ones pieces of it, each with its own clouds."""
    edge = min(size, _PIECE)
    hole = np.zeros((size, size), dtype=bool)
    for k, row in enumerate(range(0, size, edge)):
        for m, column in enumerate(range(0, size, edge)):
            drawn = holes.cloud(np.random.default_rng([seed, k, m]), (edge, edge), share)
            part = hole[row : row + edge, column : column + edge]
            part[...] = drawn[: part.shape[0], : part.shape[1]]
    return hole


def cloudy(size: int, small: int, share: float) -> Write:
    """Return a scene of four bands with clouds."""

    def write(folder: Path, quick: bool) -> Mapping[str, Any]:
        edge = small if quick else size
        return written(folder, flat(land(edge)), cloud(edge, share))

    return write


def everywhere(folder: Path, quick: bool) -> Mapping[str, Any]:
    """Write a scene with a hole of 24 pixels in every patch of 256 that overlaps by 32."""
    edge = 512 if quick else 2048
    hole = np.zeros((edge, edge), dtype=bool)
    for row in range(100, edge, 224):
        for column in range(100, edge, 224):
            hole[row : row + 24, column : column + 24] = True
    return written(folder, flat(land(edge)), hole)


def crop(folder: Path, quick: bool) -> Mapping[str, Any]:
    """Write six bands with a tenth under clouds."""
    edge = 128 if quick else 300
    values = optical_scene((edge, edge), 4, dates=1).truths[0]
    return written(folder, flat(values), holes.cloud(np.random.default_rng(4), (edge, edge), 0.1))


def with_reference(folder: Path, quick: bool) -> Mapping[str, Any]:
    """Write twelve bands (two dates of six) with two later dates as one reference."""
    edge = 96 if quick else 256
    dates = optical_scene((edge, edge), 5, dates=4).truths
    image, other = (np.concatenate(pair) for pair in (dates[:2], dates[2:]))
    hole = holes.cloud(np.random.default_rng(5), (edge, edge), 0.1)
    return written(folder, flat(image, guides=(Guide(values=other),)), hole)


def demo(folder: Path, quick: bool) -> Mapping[str, Any]:
    """Write the scene of `make demo`; it has one size."""
    del quick
    files = write_demo_sentinel(folder)
    clouds = ["cloud_shadow", "cloud_medium", "cloud_high", "thin_cirrus"]
    masks = [{"kind": "scl", "path": str(files[kind]), "classes": clouds} for kind in ("scl", "reference_scl")]
    inputs = {"source": str(files["image"]), "references": [{"path": str(files["reference"]), "mask": masks[1:]}]}
    return {"input": inputs, "mask": masks[:1]}


def head(draw: Callable[[Hole, float], Hole]) -> Write:
    """Return a head of 1.3 mm with holes."""

    def write(folder: Path, quick: bool) -> Mapping[str, Any]:
        drawn = brain_volume((48, 56, 48) if quick else (126, 156, 130), 1)
        counted = drawn.truth > np.percentile(drawn.truth, 60)
        hole = draw(counted, drawn.spacing_mm)
        spacing = (drawn.spacing_mm,) * 3
        image = Image(values=drawn.truth[None], hidden=np.zeros_like(hole), counted=counted, spacing=spacing)
        return written(folder, image, hole)

    return write


def blobs(counted: Hole, spacing_mm: float) -> Hole:
    """Return four blobs of 8 voxels, smaller ones in a small head."""
    radius = min(8.0, counted.shape[0] / 12)
    return holes.blobs(np.random.default_rng(1), counted, (radius, radius), 4, (spacing_mm,) * 3)


def void(counted: Hole, spacing_mm: float) -> Hole:
    """Return a ragged ball of 12 % of the head."""
    del spacing_mm
    return holes.void(np.random.default_rng(1), counted, 0.12)


def sparse(kind: str, gigapixels: float) -> Write:
    """Return an image of one band of uint8 of which only eight pieces are stored, each with one hole."""

    def write(folder: Path, quick: bool) -> Mapping[str, Any]:
        edge = 2048 if quick else round((gigapixels * 1e9) ** 0.5) // 1024 * 1024
        rng = np.random.default_rng(0)
        piece = (land(512)[0] // 64).clip(1, 255).astype(np.uint8)
        hole = np.zeros((512, 512), dtype=np.uint8)
        hole[200:220, 230:255] = 1
        places = [tuple(int(v) // 512 * 512 for v in rng.integers(0, edge - 512, 2)) for _ in range(8)]
        paths = [folder / ("image.zarr" if kind == "zarr" else "image.tif"), folder / "mask.tif"]
        for path, values in zip(paths, (piece, hole), strict=True):
            (_sparse_zarr if path.suffix == ".zarr" else _sparse_tiff)(path, edge, values, places)
        return {"input": {"source": str(paths[0])}, "mask": [{"kind": "raster", "path": str(paths[1])}]}

    return write


def _sparse_tiff(path: Path, edge: int, values: NDArray[Any], places: list[tuple[int, ...]]) -> None:
    import rasterio
    from rasterio.windows import Window

    options = {
        "driver": "GTiff", "width": edge, "height": edge, "count": 1, "dtype": values.dtype, "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "deflate", "SPARSE_OK": True, "bigtiff": "YES",
        "crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0),
    }  # fmt: skip
    with rasterio.open(path, "w", **options) as sink:
        for row, column in places:
            sink.write(values, 1, window=Window(column, row, 512, 512))


def _sparse_zarr(path: Path, edge: int, values: NDArray[Any], places: list[tuple[int, ...]]) -> None:
    from pipeline.formats.base import Layer, WriteOptions
    from pipeline.formats.zarr import write
    from pipeline.geometry.box import Box
    from pipeline.testing import ArraySource, raster_space

    def pull(box: Box) -> NDArray[Any]:
        part = np.zeros((1, *box.shape), dtype=values.dtype)
        for row, column in places:
            piece = Box((row, column), (row + 512, column + 512))
            if not (seen := piece & box).empty:
                part[seen.at(of=box)] = values[seen.within(piece)]
        return part

    # chunks without a value are not stored
    nothing = np.broadcast_to(np.zeros(1, values.dtype), (1, edge, edge))
    image = ArraySource(values=nothing, space=raster_space((edge, edge)))
    layer = Layer(role="restored", n_channels=1, dtype=values.dtype, channel_names=image.channel_names)
    write(layer, path, image, pull, WriteOptions(scratch=path.parent / "scratch"))


def written(folder: Path, image: Image, hole: Hole) -> Mapping[str, Any]:
    """Write image, mask, truth and guides; returns the sections of a config."""
    suffix = ".tif" if image.values.ndim == 3 else ".nii.gz"
    paths = {kind: folder / f"{kind}{suffix}" for kind in ("image", "mask", "reference")}
    np.save(folder / "truth.npy", image.values)
    engine.write(paths["image"], np.where(hole, image.values.max(), image.values).astype(image.values.dtype), image)
    engine.write(paths["mask"], hole[None].astype(np.uint8), image)
    inputs: dict[str, Any] = {"source": str(paths["image"])}
    for guide in image.guides:
        engine.write(paths["reference"], guide.values, image)
        inputs["references"] = [{"path": str(paths["reference"]), "mask": []}]
    return {"input": inputs, "mask": [{"kind": "raster", "path": str(paths["mask"])}]}


SCENES: dict[str, Write] = {
    "large": cloudy(2048, 192, 0.1),
    "crop": crop,
    "reference": with_reference,
    "demo": demo,
    "head": head(blobs),
    "void": head(void),
    "tile": cloudy(10_980, 512, 0.1),
    "wide": cloudy(4096, 384, 0.1),
    "holes 100": everywhere,
    "holes 30": cloudy(2048, 512, 0.3),
    "holes 10": cloudy(2048, 512, 0.1),
    "holes 2": cloudy(2048, 512, 0.02),
    **{f"sparse {kind} {size:g}": sparse(kind, size) for kind in ("GeoTIFF", "zarr") for size in (0.1, 1, 10, 100)},
}


def main() -> None:
    """Write one scene."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.scenes", description=__doc__)
    parser.add_argument("name", choices=SCENES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small one, to try the code")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    sections = SCENES[options.name](options.folder, options.quick)
    (options.folder / "inputs.json").write_text(json.dumps(sections, indent=1))


if __name__ == "__main__":
    main()
