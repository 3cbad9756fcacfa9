"""The one place where all parts meet: a block is a pure function of the plan and its number.

::

      read box (what patches may see)           write box (owned: no other block writes here)
    +-----------------------------------+
    |   patches of the global lattice   |       read -> fill -> refine -> blend -> composite -> write
    |    +-------------------------+    |
    |    |        write box        |    |       Predictions are summed in lexicographic patch order with weights
    |    +-------------------------+    |       that sum to exactly 1, so the bytes do not depend on how the image
    +-----------------------------------+       was cut into blocks. Observed pixels are moved, never computed.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline import journal
from pipeline.geometry.box import Box
from pipeline.masks.base import FILL, KEEP, NEVER
from pipeline.plan import Plan, patches_with_holes
from pipeline.provenance.facts import peak_rss_bytes
from pipeline.restore import CLASSICAL, NEVER_TOUCHED, OBSERVED, REFUSED, estimate
from pipeline.workspace import BLOCKS, STORED, Held, Workspace, centred, open_workspace

LAYERS = ("restored", "uncertainty", "origin")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockResult:
    """What a block reports: counts of its write box and seconds by stage."""

    block: int
    patches: int
    by_source: dict[int, int]
    seconds: dict[str, float]
    peak_rss_bytes: int


def process_block(workdir: str, digest: str, block: int) -> BlockResult:
    """Compute, store and commit one block. Safe to repeat at any time: it writes the same whole objects."""
    started = time.perf_counter()
    space = open_workspace(workdir, digest)
    plan = space.plan
    box = plan.block_box(block)
    with threadpool_limits(limits=1):
        one_thread(plan)
        held = hold(space, plan.read_box(box))
        read_done = time.perf_counter()
        blended = blend(space, held, box)
    computed = time.perf_counter()
    layers = composite(plan, space.source.read(box), held.state[(slice(None), *box.within(held.box))], blended)
    hashes = store(Path(workdir), plan, block, layers)
    codes, counts = np.unique(layers["origin"], return_counts=True)
    result = BlockResult(
        block=block,
        patches=blended.patches,
        by_source={int(k): int(n) for k, n in zip(codes, counts, strict=True)},
        seconds={
            "read": read_done - started,
            "compute": computed - read_done,
            "write": time.perf_counter() - computed,
        },
        peak_rss_bytes=peak_rss_bytes(),
    )
    facts = asdict(result) | {"sha256": hashes}
    journal.commit(Path(workdir), digest, block, facts)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended:
    """Sums over patches in a write box: float64 mean and sigma `(c, *box)`, uint8 origin `(c, *box)`."""

    mean: NDArray[np.float64]
    sigma: NDArray[np.float64]
    origin: NDArray[np.uint8]
    patches: int


def hold(space: Workspace, box: Box) -> Held:
    """Read once all pixels that the patches of a block may see."""
    plan = space.plan
    state = space.read_state(box)
    stored = space.source.read(box)[list(plan.channels)]
    keeps_holes = plan.recipe.fill.kind == STORED
    valid = np.isfinite(stored) if keeps_holes else np.broadcast_to(state == KEEP, stored.shape)
    return Held(box=box, values=centred(stored, plan.centre, valid), state=state, guides=space.read_guides(box))


def blend(space: Workspace, held: Held, box: Box) -> Blended:
    """Sum the estimates of all patches that touch a hole of `box`, in lexicographic order."""
    plan = space.plan
    inner = (slice(None), *box.within(held.box))
    hole = held.state[inner] == FILL
    shape = (len(plan.channels), *box.shape)
    mean, sigma = np.zeros(shape), np.zeros(shape)
    origin = np.full(shape, CLASSICAL, dtype=np.uint8)
    strongest = np.zeros(box.shape)
    indices = list(patches_with_holes(plan.lattice, box, hole))
    for group in _batches(indices, plan.batch):
        tasks = [space.task(index, held) for index in group]
        for index, result in zip(group, estimate(plan.recipe, space.model, tasks), strict=True):
            window = plan.lattice.box(index) & Box.whole(plan.space.shape)
            part = window & box
            if part.empty:
                continue
            weight = plan.lattice.weights(index, part)
            to, of = (slice(None), *part.within(box)), (slice(None), *part.within(window))
            mean[to] += weight * result.mean[of]
            sigma[to] += weight * result.sigma[of]
            leads = weight > strongest[to[1:]]
            origin[to] = np.where(leads, result.origin[of], origin[to])
            strongest[to[1:]] = np.where(leads, weight, strongest[to[1:]])
    return Blended(mean=mean, sigma=sigma, origin=origin, patches=len(indices))


def composite(plan: Plan, stored: NDArray[Any], state: NDArray[np.uint8], blended: Blended) -> dict[str, NDArray[Any]]:
    """Put estimates into the stored image: `restored`, `uncertainty`, `origin` of one write box.

    Hole pixels get the rounded and clipped estimate in the stored dtype, never the nodata value; everything else is
    moved bit for bit. Returns arrays `(n_channels_of_file, ...)`, `(c, ...)` and `(n_state, ...)`.
    """
    channels = list(plan.channels)
    restored = stored.copy()
    column = (-1,) + (1,) * plan.ndim
    hole = np.broadcast_to(state == FILL, blended.mean.shape)
    sigma = blended.sigma + _rounding_sigma(plan)
    origin = np.where(state == KEEP, np.uint8(OBSERVED), np.uint8(NEVER_TOUCHED))
    found = blended.origin if plan.n_state > 1 else blended.origin[:1]
    origin = np.where(state == FILL, found, origin).astype(np.uint8)
    value = to_stored(blended.mean + np.asarray(plan.centre).reshape(column), plan)
    if plan.refuse_above is not None:
        limit = plan.refuse_above * np.asarray(plan.spread).reshape(column)
        too_far = hole & (sigma > limit)
        if plan.n_state == 1:
            too_far = np.broadcast_to(too_far.any(axis=0, keepdims=True), too_far.shape)
        for c, code in enumerate(plan.refused):
            value[c] = np.where(too_far[c], np.asarray(code).astype(value.dtype), value[c])
        origin = np.where(too_far[: plan.n_state] & (state == FILL), np.uint8(REFUSED), origin)
    restored[channels] = np.where(hole, value, stored[channels])
    uncertainty = np.where(hole, sigma, 0.0).astype(np.float32)
    uncertainty[np.broadcast_to(state == NEVER, uncertainty.shape)] = np.nan
    return {"restored": restored, "uncertainty": uncertainty, "origin": origin}


def to_stored(value: NDArray[np.float64], plan: Plan) -> NDArray[Any]:
    """Round and clip estimates `(c, ...)` to the stored dtype, one quantum away from nodata where they would hit it."""
    dtype = np.dtype(plan.dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        # float64 cannot hold the last integers below 2^63; stay inside
        top = float(info.max) if info.bits < 64 else float(np.nextafter(float(info.max), 0))
        result = np.clip(np.rint(value), float(info.min), top).astype(dtype)
    else:
        result = value.astype(dtype)
    for c, code in enumerate(plan.nodata):
        if code is not None and not np.isnan(code):
            hit = result[c] == np.asarray(code).astype(dtype)
            result[c] = np.where(hit, _neighbour(code, dtype), result[c])
    return result


def _neighbour(code: float, dtype: np.dtype[Any]) -> Any:
    """Return the stored value one quantum above `code`, or below it at the top of the range."""
    if dtype.kind == "f":
        return np.nextafter(np.asarray(code, dtype=dtype), np.asarray(np.inf, dtype=dtype))
    step = 1 if int(code) < np.iinfo(dtype).max else -1
    return np.asarray(int(code) + step, dtype=dtype)


def create_store(plan: Plan, n_file_channels: int) -> None:
    """Create the empty block store; one chunk is one block, so no two blocks write one object."""
    final = Path(plan.workdir) / BLOCKS
    # a store counts as made only when all of its arrays are there
    root = final.with_name(final.name + ".partial")
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
    root.rename(final)


def store(workdir: Path, plan: Plan, block: int, layers: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Write the layers of a block durably; returns the hash of each layer's values."""
    box = plan.block_box(block)
    key = "/".join(str(i) for i in plan.blocks[block][: plan.ndim])
    paths, hashes = [], {}
    for name in LAYERS:
        root = workdir / BLOCKS / name
        # opening takes this from the configuration only, whatever the array was created with
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = zarr.open_array(root, mode="r+")
        array[(slice(None), *box.slices)] = layers[name]
        paths.append(root / "c" / "0" / key)
        hashes[name] = hashlib.sha256(np.ascontiguousarray(layers[name]).tobytes()).hexdigest()
    journal.sync_files(paths)
    return hashes


def one_thread(plan: Plan) -> None:
    """Pin torch to one thread: sums over threads would make the result depend on the machine."""
    if plan.model is not None:
        import torch

        torch.set_num_threads(1)


def _batches(items: Sequence[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    stream = iter(items)
    while group := list(islice(stream, size)):
        yield group


def _rounding_sigma(plan: Plan) -> float:
    """Rounding to an integer adds a uniform error of one quantum: 1/sqrt(12)."""
    return 12**-0.5 if np.dtype(plan.dtype).kind in "iu" else 0.0
