"""Blocks -> final files: every pixel is pulled once, in the order the format likes, from the block or the input.

Pixels of blocks without holes were never computed; they come straight from the input. Files appear under their final
names only when all of them are complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.formats.base import Layer, Role, Source, WriteOptions
from pipeline.geometry.box import Box
from pipeline.image.open import open_source
from pipeline.masks.base import DOUBT, NEVER
from pipeline.numerics.column import column
from pipeline.output.results import ROLES, output_suffix
from pipeline.plan.memory import ASSEMBLY_BYTES
from pipeline.plan.plan import Plan
from pipeline.registry import load
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED
from pipeline.system.files import remove_made


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A finished file: its role, format and path."""

    role: Role
    kind: str
    path: Path


class Assembler:
    """Pulls finished windows of the layers of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.source: Source = open_source(plan.source)
        self.state = zarr.open_array(plan.work.state, mode="r")
        self._computed = {block.index for block in plan.blocks}
        names = ("restored", "uncertainty", "origin") if self._computed else ()
        self._blocks = {name: zarr.open_array(plan.work.layer(name), mode="r") for name in names}

    def restored(self, box: Box) -> NDArray[Any]:
        """Return the restored image over `box`, stored dtype, all channels of the file."""
        return self._overlay("restored", self.source.read(box).copy(), box)

    def uncertainty(self, box: Box) -> NDArray[np.float32]:
        """Return one standard error over `box`, as published: 0 where observed, NaN where never touched."""
        plan = self.plan
        state = self._states(box)
        base = np.zeros((len(plan.channels), *box.shape), dtype=np.float32)
        base[np.broadcast_to(state == NEVER, base.shape)] = np.nan
        return as_published(self._overlay("uncertainty", base, box), plan, self.source)

    def origin(self, box: Box) -> NDArray[np.uint8]:
        """Return the codes of the source layer over `box`, one plane or one per channel."""
        state = self._states(box)
        base = np.where(state == NEVER, np.uint8(NEVER_TOUCHED), np.uint8(OBSERVED)).astype(np.uint8)
        return self._overlay("origin", base, box)

    def doubt(self, box: Box) -> NDArray[np.uint8]:
        """Return 1 where an observed pixel is doubted, else 0, one plane or one per channel."""
        return np.asarray(self._states(box) == DOUBT).astype(np.uint8)

    def _states(self, box: Box) -> NDArray[np.uint8]:
        return np.asarray(self.state[box.at()])[: self.plan.n_state]

    def _overlay(self, name: str, base: NDArray[Any], box: Box) -> NDArray[Any]:
        if not self._computed:
            return base
        for tile in box.tiles(self.plan.block):
            index = tuple(a // n for a, n in zip(tile.start, self.plan.block, strict=True))
            if index in self._computed:
                part = tile.at(of=box)
                base[part] = self._blocks[name][tile.at()]
        return base


def as_published(uncertainty: NDArray[np.float32], plan: Plan, source: Source) -> NDArray[np.float32]:
    """Return standard errors `(c, ...)` of blocks in the units of the uncertainty file.

    Rasters: stored units (the file's scale applies to it as to the data). Volumes: physical units, because readers
    apply the slope of a NIfTI header and the uncertainty file has slope 1.
    """
    if plan.space.kind != "volume":
        return uncertainty
    slope = [abs(source.scale_offset[c][0]) for c in plan.channels]
    return np.asarray(uncertainty * column(slope, plan.ndim, np.float32))


def assemble(
    assembler: Assembler, stem: str, formats: Sequence[str], tags: Mapping[str, str], ready: Path
) -> list[Written]:
    """Write all layers in all formats into the folder `ready`, complete and synced, for `publish`.

    `formats` holds `same` (the format of the input) and `zarr`. `ready` must be on the file system of the results.
    """
    plan = assembler.plan
    # scratch files of a run that was killed must not be published
    remove_made(ready)
    ready.mkdir(parents=True, exist_ok=True)
    options = WriteOptions(scratch=ready, memory_bytes=ASSEMBLY_BYTES)
    written = []
    for wanted in formats:
        kind = plan.source.kind if wanted == "same" else wanted
        module = load("formats", kind)
        for role in ROLES if plan.doubted else ROLES[:3]:
            layer, pull = _layer(assembler, role, tags)
            path = ready / f"{stem}_{role}{output_suffix(wanted, plan.source)}"
            module.write(layer, path, assembler.source, pull, options)
            written.append(Written(role=role, kind=kind, path=path))
    return written


def _layer(assembler: Assembler, role: Role, tags: Mapping[str, str]) -> tuple[Layer, Any]:
    plan, source = assembler.plan, assembler.source
    names = source.channel_names
    picked = tuple(names[c] for c in plan.channels) if names else ()
    if role == "restored":
        layer = Layer(
            role=role, n_channels=source.n_channels, dtype=source.dtype, channel_names=names, tags=tags,
            nodata=source.nodata[0] if source.nodata else None,
        )  # fmt: skip
        return layer, assembler.restored
    if role == "uncertainty":
        layer = Layer(
            role=role, n_channels=len(plan.channels), dtype=np.dtype("float32"), nodata=float("nan"),
            channel_names=picked, tags=tags,
        )  # fmt: skip
        return layer, assembler.uncertainty
    channel_names = picked if plan.n_state > 1 else (role,)
    layer = Layer(role=role, n_channels=plan.n_state, dtype=np.dtype("uint8"), channel_names=channel_names, tags=tags)
    return layer, assembler.doubt if role == "doubt" else assembler.origin
