"""The zarr store of blocks: one chunk is one block, written whole, durable before it counts."""

from __future__ import annotations

import hashlib
import shutil
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.plan.plan import Plan
from pipeline.plan.workdir import partial
from pipeline.system.files import sync_files

LAYERS = ("restored", "uncertainty", "origin")


def create_store(plan: Plan, n_file_channels: int) -> None:
    """Create the empty block store; one chunk is one block, so no two blocks write one object."""
    # a store counts as made only when all of its arrays are there
    root = partial(plan.work.blocks)
    shutil.rmtree(root, ignore_errors=True)
    counts = {"restored": n_file_channels, "uncertainty": len(plan.channels), "origin": plan.n_state}
    dtypes = {"restored": plan.dtype, "uncertainty": "float32", "origin": "uint8"}
    for name in LAYERS:
        zarr.create_array(
            root / name,
            shape=(counts[name], *plan.space.shape),
            chunks=(counts[name], *plan.block),
            dtype=dtypes[name],
            fill_value=0,
            # an all-zero block must still leave an object that can be made durable and checked
            config={"write_empty_chunks": True},
            overwrite=True,
        )
    root.rename(plan.work.blocks)


def store(plan: Plan, block: int, layers: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Write the layers of a block durably; returns the hash of each layer's values."""
    box = plan.block_box(block)
    key = "/".join(str(i) for i in plan.blocks[block].index)
    paths, hashes = [], {}
    for name in LAYERS:
        root = plan.work.layer(name)
        # opening takes this from the configuration only, whatever the array was created with
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = zarr.open_array(root, mode="r+")
        array[box.at()] = layers[name]
        paths.append(root / "c" / "0" / key)
        hashes[name] = hashlib.sha256(np.ascontiguousarray(layers[name]).tobytes()).hexdigest()
    sync_files(paths)
    return hashes
