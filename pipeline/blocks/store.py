"""The zarr store of blocks: one chunk is one block, written whole, durable before it counts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.errors
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from pipeline.blocks.journal import Committed
from pipeline.geometry.box import Box
from pipeline.plan.plan import Plan
from pipeline.plan.workdir import WorkFolder, partial
from pipeline.system.files import remove_made, sync_files
from pipeline.system.threads import each

LAYERS = ("restored", "uncertainty", "origin")
DAMAGE = (OSError, ValueError, RuntimeError, KeyError, TypeError, zarr.errors.BaseZarrError)
"""What zarr raises on files that are cut off, flipped or gone."""
_LOOKED_AT = 256
"""Blocks that are compared with their hashes together."""


def create_store(plan: Plan, n_file_channels: int) -> None:
    """Create the empty block store; one chunk is one block, so no two blocks write one object."""
    # a store counts as made only when all of its arrays are there
    root = partial(plan.work.blocks)
    remove_made(root)
    remove_made(plan.work.blocks)
    for name, (count, dtype) in _planes(plan, n_file_channels).items():
        zarr.create_array(
            root / name,
            shape=(count, *plan.space.shape),
            chunks=(count, *plan.block),
            dtype=dtype,
            fill_value=0,
            # read once and removed: a third of the time of zarr's own level, for a twentieth more bytes
            compressors=ZstdCodec(level=1),
            # an all-zero block must still leave an object that can be made durable and checked
            config={"write_empty_chunks": True},
            overwrite=True,
        )
    root.rename(plan.work.blocks)


def created(work: WorkFolder) -> bool:
    """Say whether the arrays of the block store can be seen."""
    return all((work.layer(name) / "zarr.json").exists() for name in LAYERS)


def store(plan: Plan, block: int, layers: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Write the layers of a block, `(planes, *shape)` by name, durably; returns the hash of each layer's values."""
    box = plan.block_box(block)
    key = "/".join(str(i) for i in plan.blocks[block].index)
    paths, hashes = [], {}
    for name in LAYERS:
        root = plan.work.layer(name)
        _opened(root, plan.digest)[box.at()] = layers[name]
        paths.append(root / "c" / "0" / key)
        hashes[name] = _hash(layers[name])
    sync_files(paths)
    return hashes


@lru_cache(maxsize=2 * len(LAYERS))
def _opened(root: Path, digest: str) -> zarr.Array:  # noqa: ARG001
    """Open a layer for writing, once a process: arrays of one plan are alike, also when they were made again."""
    # opening takes this from the configuration only, whatever the array was created with
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(root, mode="r+")


def usable(plan: Plan, n_file_channels: int) -> bool:
    """Say whether the block store is there and has the arrays of the plan."""
    for name, (count, dtype) in _planes(plan, n_file_channels).items():
        try:
            array = zarr.open_array(plan.work.layer(name), mode="r")
        except DAMAGE:
            return False
        made = (array.shape, array.chunks, np.dtype(array.dtype))
        if made != ((count, *plan.space.shape), (count, *plan.block), np.dtype(dtype)):
            return False
    return True


def damaged(plan: Plan, committed: Committed) -> list[int]:
    """Return the committed blocks whose layers are no longer what was written, ascending.

    Args:
        plan: the plan.
        committed: facts of the blocks from the journal, with the hash of each layer.
    """
    arrays = {name: zarr.open_array(plan.work.layer(name), mode="r") for name in LAYERS} if committed else {}
    found: list[int] = []
    entries = committed.each()
    # there may be a million: few are held at a time
    while some := list(islice(entries, _LOOKED_AT)):
        whole = each(lambda entry: _intact(arrays, plan.block_box(entry[0]), entry[1]), some)
        found += [block for (block, _), intact in zip(some, whole, strict=True) if not intact]
    return sorted(found)


def _intact(arrays: Mapping[str, zarr.Array], box: Box, facts: Mapping[str, Any]) -> bool:
    try:
        return all(_hash(np.asarray(array[box.at()])) == facts["sha256"][name] for name, array in arrays.items())
    except DAMAGE:
        return False


def _planes(plan: Plan, n_file_channels: int) -> dict[str, tuple[int, str]]:
    """Return the planes and the dtype of each layer."""
    return {
        "restored": (n_file_channels, plan.dtype),
        "uncertainty": (len(plan.channels), "float32"),
        "origin": (plan.n_state, "uint8"),
    }


def _hash(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
