"""Blocks -> final files: every pixel is pulled once, in the order the format likes, from the block or the input.

Pixels of blocks without holes were never computed; they come straight from the input. Files appear under their final
names only when all of them are complete.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.formats.base import FOR_LOOKING_AT, Layer, Pull, Role, Source, WriteOptions
from pipeline.geometry.box import Box
from pipeline.image.open import open_source
from pipeline.masks.base import DOUBT, HAZY, NEVER
from pipeline.numerics.column import column
from pipeline.output.results import ROLES, output_suffix
from pipeline.plan.layers import known_codes, to_published
from pipeline.plan.memory import ASSEMBLY_BYTES
from pipeline.plan.plan import Plan
from pipeline.registry import load
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED, REFUSED, source_name
from pipeline.system.files import remove_made

DOUBT_NAMES = {0: "not doubted", 1: "observed but not used", 2: "observed, used without the haze or shadow over it"}
"""Names of the codes of the layer `doubt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A finished file: its role, format and path, and the files that GDAL reads with it."""

    role: Role
    kind: str
    path: Path
    beside: tuple[Path, ...] = ()


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
        """Return the restored image, stored dtype, `(c, *box.shape)`, all channels; alpha is opaque where restored."""
        values = self._overlay("restored", self.source.read(box).copy(), box)
        return opaque_where_filled(values, self.filled(box), self.source) if self.source.fixed_channels else values

    def filled(self, box: Box) -> NDArray[np.bool_]:
        """Return True where a pixel was restored, `(n_state, *box.shape)`."""
        return is_filled(self.origin(box))

    def uncertainty(self, box: Box) -> NDArray[np.float32]:
        """Return one standard error of the restored channels, `(c, *box.shape)`; 0: observed, NaN: never touched.

        Units are those of the file, see `as_published`.
        """
        plan = self.plan
        state = self._states(box)
        base = np.zeros((len(plan.channels), *box.shape), dtype=np.float32)
        base[np.broadcast_to(state == NEVER, base.shape)] = np.nan
        return as_published(self._overlay("uncertainty", base, box), plan, self.source)

    def origin(self, box: Box) -> NDArray[np.uint8]:
        """Return the codes of the source layer, `(n_state, *box.shape)`: one plane, or one a restored channel."""
        state = self._states(box)
        base = np.full_like(state, OBSERVED)
        base[state == NEVER] = NEVER_TOUCHED
        return self._overlay("origin", base, box)

    def doubt(self, box: Box) -> NDArray[np.uint8]:
        """Return 1 where an observed pixel is doubted, 2 where it is hazy, else 0; `(n_state, *box.shape)`."""
        states = self._states(box)
        # a window of one byte a pixel is the largest of all: two copies of it less
        result = np.asarray(states == DOUBT).view(np.uint8)
        result[states == HAZY] = 2
        return result

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


def is_filled(origin: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return True where a source code says that a pixel was restored, and not refused; same shape."""
    return ~np.isin(origin, (OBSERVED, REFUSED, NEVER_TOUCHED))


def opaque_where_filled(values: NDArray[Any], filled: NDArray[np.bool_], source: Source) -> NDArray[Any]:
    """Return values `(c, ...)` whose alpha says "valid" where it said "nothing here" and a channel was restored."""
    alpha = list(source.fixed_channels)
    opaque = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
    values[alpha] = np.where(filled.any(axis=0) & (values[alpha] == 0), values.dtype.type(opaque), values[alpha])
    return values


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
    assembler: Assembler,
    stem: str,
    formats: Sequence[str],
    tags: Mapping[str, str],
    ready: Path,
    display: Pull | None = None,
) -> list[Written]:
    """Write all layers in all formats into the folder `ready`, complete and synced, for `publish`.

    Args:
        assembler: pulls the layers.
        stem: what file names begin with.
        formats: `same` (the format of the input), `zarr` or both.
        tags: of all files.
        ready: on the file system of the results.
        display: gives the display product, None if none is to be written.
    """
    plan = assembler.plan
    roles = [role for role in ROLES if role != "doubt" or plan.doubted or plan.hazy]
    roles = [role for role in roles if role != "display" or display is not None]
    # scratch files of a run that was killed must not be published
    remove_made(ready)
    ready.mkdir(parents=True, exist_ok=True)
    options = WriteOptions(scratch=ready, memory_bytes=ASSEMBLY_BYTES)
    written = []
    for wanted in formats:
        kind = plan.source.kind if wanted == "same" else wanted
        for role in roles:
            layer, pull = _layer(assembler, role, tags)
            # the same file but for its pixels
            pull = display if role == "display" and display is not None else pull
            path = ready / f"{stem}_{role}{output_suffix(wanted, plan.source)}"
            load("formats", kind).write(layer, path, assembler.source, pull, options)
            beside = tuple(sorted(ready.glob(f"{glob.escape(path.name)}.*")))
            written.append(Written(role=role, kind=kind, path=path, beside=beside))
    return written


def _layer(assembler: Assembler, role: Role, tags: Mapping[str, str]) -> tuple[Layer, Pull]:
    plan, source = assembler.plan, assembler.source
    names = source.channel_names
    picked = tuple(names[c] for c in plan.published) if names else ()
    if role == "restored":
        return restored_layer(source, tags, assembler.filled), assembler.restored
    if role == "display":
        said = {**tags, "INPAINT_PRODUCT": f"display: {FOR_LOOKING_AT}"}
        return replace(restored_layer(source, said, assembler.filled), role=role), assembler.restored
    if role == "uncertainty":
        layer = Layer(
            role=role, n_channels=len(plan.published), dtype=np.dtype("float32"), nodata=float("nan"),
            channel_names=picked, tags=tags,
        )  # fmt: skip
        return layer, lambda box: to_published(assembler.uncertainty(box), plan, np.nan)
    n_planes = len(plan.published) if plan.empty else plan.n_state
    channel_names = picked if n_planes > 1 else (role,)
    layer = Layer(
        role=role, n_channels=n_planes, dtype=np.dtype("uint8"), channel_names=channel_names, tags=tags,
        categories=_categories(plan, role),
    )  # fmt: skip
    if role == "doubt":
        return layer, lambda box: to_published(assembler.doubt(box), plan, 0)
    return layer, lambda box: to_published(assembler.origin(box), plan, NEVER_TOUCHED)


def _categories(plan: Plan, role: Role) -> Mapping[int, str]:
    if role == "doubt":
        return DOUBT_NAMES
    roles = [guide.role for guide in plan.guides]
    return {code: source_name(code, roles).replace("_", " ") for code in known_codes(plan)}


def restored_layer(
    source: Source, tags: Mapping[str, str], filled: Callable[[Box], NDArray[np.bool_]] | None = None
) -> Layer:
    """Return what the restored image of `source` is written as; `filled` says where pixels were restored."""
    return Layer(
        role="restored", n_channels=source.n_channels, dtype=source.dtype, channel_names=source.channel_names,
        nodata=next((value for value in source.nodata if value is not None), None), tags=tags, filled=filled,
    )  # fmt: skip
