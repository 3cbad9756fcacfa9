"""Other tools on the same image and holes: `python -m benchmarks.speed.rivals TOOL FOLDER` writes `FOLDER/other.tif`.

Each does what its users would do: read, fill every band, write. `forced` is this program with the network at every hole
pixel and nothing tested, for a fair comparison with tools that know no other way.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

Bands = NDArray[Any]
Fill = Callable[[Bands, NDArray[np.bool_]], Bands]
_PATCH, _OVERLAP = 256, 32
_WEIGHTS = "optical"
"""The larger of the two that rasters get."""
_REACH = 200.0
"""Pixels that GDAL looks for something observed; nothing is left unfilled in these scenes."""


def gdal(values: Bands, hole: NDArray[np.bool_]) -> Bands:
    """Fill each band by GDAL's inverse distances."""
    from rasterio.fill import fillnodata

    kept = (~hole).astype(np.uint8)
    return np.stack([fillnodata(band, kept, max_search_distance=_REACH) for band in values])


def opencv(flag: str) -> Fill:
    """Return a fill by OpenCV, which takes float32 or uint16 bands one by one."""

    def fill(values: Bands, hole: NDArray[np.bool_]) -> Bands:
        import cv2

        mask = hole.astype(np.uint8)
        return np.stack([cv2.inpaint(np.ascontiguousarray(band), mask, 3, getattr(cv2, flag)) for band in values])

    return fill


def biharmonic(values: Bands, hole: NDArray[np.bool_]) -> Bands:
    """Fill by the biharmonic equation, all bands in one call, the holes one by one."""
    from skimage.restoration import inpaint_biharmonic

    scale = float(np.iinfo(values.dtype).max)
    image = np.moveaxis(values, 0, -1) / scale
    return np.moveaxis(inpaint_biharmonic(image, hole, split_into_regions=True, channel_axis=-1), -1, 0) * scale


def monai(values: Bands, hole: NDArray[np.bool_]) -> Bands:
    """Fill by GDAL, then run the shipped network over every patch with MONAI's sliding window."""
    from monai.inferers import SlidingWindowInferer

    inferer = SlidingWindowInferer(
        roi_size=(_PATCH, _PATCH), sw_batch_size=1, overlap=_OVERLAP / _PATCH, mode="constant"
    )
    return _by_network(values, hole, lambda x, network: inferer(x, network)[0])


def torchio(values: Bands, hole: NDArray[np.bool_]) -> Bands:
    """Fill by GDAL, then run the shipped network over every patch with TorchIO's sampler and aggregator."""
    import torch
    import torchio as tio

    def infer(x: Any, network: Any) -> Any:
        subject = tio.Subject(image=tio.ScalarImage(tensor=x[0][..., None]))
        sampler = tio.GridSampler(subject, (_PATCH, _PATCH, 1), (_OVERLAP, _OVERLAP, 0), padding_mode="edge")
        aggregator = tio.GridAggregator(sampler, overlap_mode="average")
        for batch in tio.SubjectsLoader(sampler, batch_size=1):
            y = network(batch["image"][tio.DATA][..., 0])
            aggregator.add_batch(y[..., None], batch[tio.LOCATION])
        result: torch.Tensor = aggregator.get_output_tensor()[..., 0]
        return result

    return _by_network(values, hole, infer)


def _by_network(values: Bands, hole: NDArray[np.bool_], infer: Callable[[Any, Any], Any]) -> Bands:
    import torch

    from pipeline.models.autoencoder import open_model
    from pipeline.models.base import find_weights
    from pipeline.numerics.statistics import depth_channel, local_statistics, network_input

    torch.set_num_threads(1)
    model = open_model(find_weights(_WEIGHTS), ndim=2, device="cpu", options={})
    filled = gdal(values, hole).astype(np.float32)
    valid = ~hole
    depth = depth_channel(valid, (1.0, 1.0))
    with torch.inference_mode():
        for k, band in enumerate(filled):
            local = local_statistics(band, valid, 1.0)
            x = torch.from_numpy(network_input(band, valid, local, depth))[None]
            filled[k] = band + local.scale * infer(x, model._network)[0].numpy()
    return filled


TOOLS: dict[str, Fill] = {
    "gdal": gdal,
    "telea": opencv("INPAINT_TELEA"),
    "navier_stokes": opencv("INPAINT_NS"),
    "biharmonic": biharmonic,
    "monai": monai,
    "torchio": torchio,
}


def forced(folder: Path) -> None:
    """Restore with the network at every hole pixel, one view: no self-test, everything else as in a run."""
    from threadpoolctl import threadpool_limits

    from pipeline.blocks.block import process_block
    from pipeline.blocks.store import create_store
    from pipeline.config.catalog import resolve_sources
    from pipeline.config.schema import load_config
    from pipeline.image.scene import Clock, open_scene
    from pipeline.numerics.situation import flat
    from pipeline.orders import order_of
    from pipeline.output.assemble import Assembler, assemble
    from pipeline.survey.coarse import coarse_factor, coarse_fill
    from pipeline.survey.survey import outline

    path = folder / "forced.json"
    sections = json.loads((folder / "inputs.json").read_text())
    model = {"kind": "autoencoder", "weights": _WEIGHTS}
    path.write_text(json.dumps({**sections, "model": model, "output": {"directory": str(folder / "forced")}}))
    config = load_config(path)
    order = order_of(config, resolve_sources(config)[0])
    order.work.path.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(limits=1):
        plan = outline(order.job).plan
        recipe = replace(plan.recipe, network=flat(1.0), network_views=1)
        scene = open_scene(order.job, Clock())[0]
        coarse = coarse_fill(scene, recipe, coarse_factor(scene))
        made = {"guess_factor": coarse.fill_cell, "beyond_cell": coarse.beyond_cell, "survey_sha256": coarse.sha256}
        plan = replace(plan, recipe=recipe, **made)
        plan.save()
        create_store(plan, order.n_file_channels)
        for block in range(len(plan.blocks)):
            process_block(plan.workdir, plan.digest, block)
        written = assemble(Assembler(plan), order.stem, ["same"], {}, order.beside.ready)
    written[0].path.replace(folder / "other.tif")


def main() -> None:
    """Fill one scene."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.rivals", description=__doc__)
    parser.add_argument("tool", choices=[*TOOLS, "forced"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.tool == "forced":
        forced(options.folder)
        return
    with rasterio.open(options.folder / "image.tif") as image, rasterio.open(options.folder / "mask.tif") as mask:
        values, hole = image.read(), mask.read(1) != 0
        restored = TOOLS[options.tool](values, hole)
        dtype = values.dtype
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            restored = np.clip(np.rint(restored), limits.min, limits.max)
        with rasterio.open(options.folder / "other.tif", "w", **image.profile) as sink:
            sink.write(np.where(hole, restored.astype(dtype), values))


if __name__ == "__main__":
    main()
