"""Two passes over an image: learn in some windows what contaminated pixels look like, then mark them everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.doubt import FARTHEST, Doubt, Tile, find_doubt
from pipeline.geometry.box import Box
from pipeline.image.scan import StateScan, block_sum, scan_values
from pipeline.image.scene import Scene
from pipeline.masks.base import DOUBT, FILL, KEEP
from pipeline.system.signals import stop_if_asked

_TILE = 256
"""Edge of the windows that are learned from, pixels."""

_MOST_TILES = 24
"""Number of these windows, if they hold no more than `_MOST_VALUES`."""

_MOST_VALUES = 24_000_000
"""Pixels times bands of image and references that are held while learning: about half a gigabyte."""

_HALO = int(FARTHEST) + 8
"""Pixels around a window that are looked at, so that distances and blurs in it are those of the whole image."""

_ALONG = 0.45
"""Share of its outline on edges of the image above which a hole may be a strip along one."""

_SPECK = 5
"""Edge of the square in which most pixels must be alike, pixels: thin cloud and shadow come in patches."""


def with_doubt(scene: Scene) -> tuple[Scene, Doubt | None]:
    """Mark the observed pixels of a raster that look contaminated, and measure the image again without them.

    Returns:
        The scene, and how contaminated pixels are told; None where this could not be looked at: volumes, images whose
        channels have no hole in common, or too little observed.
    """
    if scene.ndim != 2 or scene.source.space.kind == "volume" or scene.job.model.traits.sees_stored:
        return scene, None
    tiles = [_tile(scene, box) for box in _windows(scene)]
    doubt = find_doubt([tile for tile in tiles if np.isfinite(tile.distance).all()], little=scene.little_trusted)
    if doubt is None or not doubt.reach_px:
        return scene, doubt
    states = _marked(scene, doubt)
    values = replace(scan_values(scene.source, scene.image.state, scene.image.channels), centre=scene.values.centre)
    return replace(scene, states=states, values=values), doubt


def _windows(scene: Scene) -> list[Box]:
    """Return windows with holes and observed pixels, spread over the image."""
    cell = scene.states.cell
    boxes = []
    for box in Box.whole(scene.shape).tiles((_TILE, _TILE)):
        part = tuple(slice(a // cell, -(-b // cell)) for a, b in zip(box.start, box.stop, strict=True))
        if scene.states.hole_cells[part].any() and scene.states.kept_cells[part].any():
            boxes.append(box)
    bands = len(scene.image.channels) + sum(guide.source.n_channels for guide in scene.guides)
    most = max(1, min(_MOST_TILES, _MOST_VALUES // (_TILE**2 * bands)))
    step = -(-len(boxes) // most) or 1
    return boxes[::step]


def _tile(scene: Scene, box: Box) -> Tile:
    """Read a window as `doubt` looks at it; distances and blurs are exact but for the outermost `_HALO` pixels."""
    stop_if_asked()
    image = scene.image
    states = image.states(box)
    values = image.values(box, states)
    hole = np.asarray((states == FILL).all(axis=0))
    wide = _without_edges(ndimage.binary_opening(hole, np.ones((3, 3))), box, scene.shape)
    distance = ndimage.distance_transform_edt(~wide) if wide.any() else np.full(box.shape, np.inf)
    guides = []
    for guide, ref in zip(image.guides, scene.job.guides, strict=True):
        if ref.role == "reference":
            read = guide.read(box)
            guides.append((read.values, np.asarray(read.valid.all(axis=0))))
    return Tile(
        values=values,
        seen=np.asarray((states == KEEP).all(axis=0)),
        distance=np.asarray(distance, dtype=np.float32),
        guides=tuple(guides),
    )


def _without_edges(wide: NDArray[np.bool_], box: Box, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Leave out strips along an edge of the image, across all of a window: what no swath saw contaminates nothing.

    A cloud in a corner has most of its outline on edges, but does not reach from one side of the window to the other.
    """
    labels, count = ndimage.label(wide)
    inside, along, across = np.zeros(count + 1), np.zeros(count + 1), np.zeros(count + 1, dtype=np.bool_)
    for axis, (a, b, n) in enumerate(zip(box.start, box.stop, shape, strict=True)):
        lines = np.moveaxis(labels, axis, 0)
        step = lines[1:] != lines[:-1]
        for part in (lines[1:][step], lines[:-1][step]):
            inside += np.bincount(part, minlength=count + 1)
        ends = [np.bincount(line.ravel(), minlength=count + 1) for line in (lines[0], lines[-1])]
        along += (a == 0) * ends[0] + (b == n) * ends[1]
        across |= (ends[0] > 0) & (ends[1] > 0)
    kept = ~across | (along <= _ALONG * (inside + along))
    kept[0] = False
    return np.asarray(kept[labels])


def _marked(scene: Scene, doubt: Doubt) -> StateScan:
    """Mark doubted pixels in the states of the whole image, as holes if the job says so; returns the new counts."""
    before, cell = scene.states, scene.states.cell
    holes, kept = np.zeros_like(before.hole_cells), np.zeros_like(before.kept_cells)
    array = zarr.open_array(scene.job.work.state, mode="r+")
    boxes = list(Box.whole(scene.shape).tiles(array.chunks[1:]))
    # all are told before the first is written: a window looks beyond its edges
    for box, packed in [(box, np.packbits(_doubted(scene, doubt, box))) for box in boxes]:
        stop_if_asked()
        states = np.asarray(array[box.at()])
        some = np.unpackbits(packed, count=box.size).reshape(box.shape).astype(np.bool_)
        if some.any():
            states = np.where(some & (states == KEEP), np.uint8(FILL if scene.job.fill_doubted else DOUBT), states)
            array[box.at()] = states
        part = tuple(slice(a // cell, -(-b // cell)) for a, b in zip(box.start, box.stop, strict=True))
        holes[part] += block_sum((states == FILL).sum(axis=0), cell)
        kept[part] += block_sum((states == KEEP).sum(axis=0), cell)
    n_holes, n_kept = int(holes.sum()), int(kept.sum())
    doubted = before.kept + before.holes - n_holes - n_kept
    return replace(before, holes=n_holes, kept=n_kept, hole_cells=holes, kept_cells=kept, doubted=doubted)


def _doubted(scene: Scene, doubt: Doubt, box: Box) -> NDArray[np.bool_]:
    """Return the doubted pixels of a box, told window by window: memory does not grow with the box."""
    doubted = np.zeros(box.shape, dtype=np.bool_)
    for part in box.tiles((_TILE, _TILE)):
        outer = part.grow(_HALO) & Box.whole(scene.shape)
        if not scene.image.holes(outer).any():
            continue
        tile = _tile(scene, outer)
        found, told = doubt.of(tile).astype(np.float64), tile.seen.astype(np.float64)
        around = ndimage.uniform_filter(found, _SPECK) > 0.5 * ndimage.uniform_filter(told, _SPECK)
        doubted[part.within(box)] = (around & tile.seen)[part.within(outer)]
    return doubted


def said_of_doubt(scene: Scene, doubt: Doubt | None) -> str:
    """Return what the user should know of doubted pixels, empty if there are none."""
    if doubt is None or not doubt.reach_px:
        return ""
    space, reach = scene.source.space, doubt.reach_px
    far = f"{reach:.0f} px"
    if space.units in ("m", "metre"):
        far += f" ({reach * min(space.spacing):.0f} m)"
    names = {"bright": "haze or thin cloud", "dark": "shadow"}
    looks = " and ".join(names[side.name] for side in doubt.sides) or "what a cloud leaves at its edge"
    if scene.job.fill_doubted:
        return f"observed pixels up to {far} from the mask look like {looks}: they are restored, too (`fill_doubted`)"
    total = scene.states.doubted + scene.states.kept
    share = 100 * scene.states.doubted / max(total, 1)
    return (
        f"{scene.states.doubted} observed pixels ({share:.0f} %), up to {far} from the mask, look "
        f"like {looks}: they stay as they are, but nothing is restored from them; "
        "`input.fill_doubted: true` restores them, too"
    )
