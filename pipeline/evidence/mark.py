"""Two passes over an image: learn in some windows what contaminated pixels look like, then mark them everywhere."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evidence.doubt import Doubt
from pipeline.evidence.few import doubt_among_few
from pipeline.evidence.haze import BLURRED
from pipeline.evidence.learn import find_doubt
from pipeline.evidence.rings import FARTHEST, FEWEST_FAR
from pipeline.evidence.tile import WIDE, Tile
from pipeline.geometry.box import Box
from pipeline.image.open import OpenGuide
from pipeline.image.scan import StateScan, block_sum, cells_of, scan_values
from pipeline.image.scene import Scene
from pipeline.masks.base import DOUBT, FILL, HAZY, KEEP, evidence
from pipeline.system.process import give_back
from pipeline.system.signals import stop_if_asked
from pipeline.system.threads import each

_TILE = 256
"""Edge of the windows that are learned from, pixels."""

_MOST_TILES = 24
"""Number of these windows, if they hold no more than `_MOST_VALUES`."""

_MOST_VALUES = 24_000_000
"""Pixels times bands of image and references that are held while learning; see `plan.memory.doubt_bytes`."""

_HALO = int(FARTHEST) + 8 + BLURRED
"""Pixels around a window that are looked at, so that distances and blurs in it are those of the whole image, and the
clouds of all shadows whose surroundings reach into it are seen."""

_STRONG = 0.5
"""Standard deviations of the image from which what haze adds to a band is more than a breath."""

_DATE = re.compile(r"(19|20)\d\d-?[01]\d(-?[0-3]\d)?(?!\d)")
"""What the name of a channel that is a date starts with."""

_TIME_AXIS = "NETCDF_DIM_time"
"""Tag of a band that GDAL took from a netCDF variable with a time axis: its time."""

_ALIKE = 0.9
"""Share of the pixels without a value in any channel that have none in all, from which they are bands of one look."""

_ALONG = 0.45
"""Share of its outline on edges of the image above which a hole may be a strip along one."""


def with_doubt(scene: Scene) -> tuple[Scene, Doubt | None]:
    """Mark the observed pixels of a raster that look contaminated, and measure the image again without them.

    Returns:
        The scene, and how contaminated pixels are told; None where this could not be looked at: volumes, images whose
        channels have no hole in common or are dates, fields that their producer has screened (a sea surface
        temperature, of one date or several: one quantity has no spectrum to tell haze by), or too little observed.
    """
    if not looked_at(scene):
        return scene, None
    marked, doubt = _with_doubted(scene)
    # windows of many dates lie free in the heap in pieces, on top of which the self-test would grow
    give_back()
    return (replace(marked, clear=_is_clear(marked)) if marked.little_trusted else marked), doubt


def looked_at(scene: Scene) -> bool:
    """Say whether contaminated pixels are looked for in an image of this kind."""
    if scene.ndim != 2 or scene.source.space.kind == "volume" or scene.job.model.traits.sees_stored:
        return False
    return not _are_dates(scene)


def _with_doubted(scene: Scene) -> tuple[Scene, Doubt | None]:
    gaps, tiles = False, _with_holes(scene, gaps=False)
    if not tiles and not _screened(scene):
        gaps, tiles = True, _with_holes(scene, gaps=True)
    if not tiles:
        return scene, None
    doubt = find_doubt(
        tiles,
        little=scene.little_trusted,
        # what is to be restored is no evidence
        through=not scene.job.fill_doubted,
        seed=scene.job.seed,
    )
    if doubt is None or not doubt.reach_px:
        return scene, doubt
    states = _marked(scene, doubt, gaps=gaps)
    haze = zarr.open_array(scene.job.work.haze, mode="r") if states.hazy else None
    image = replace(scene.image, haze=haze)
    values = scene.values
    if (states.kept, states.hazy) != (scene.states.kept, 0):
        values = replace(scan_values(image.source, image.state, image.channels, haze), centre=values.centre)
    return replace(scene, states=states, values=values, image=image), doubt


def _is_clear(scene: Scene) -> bool:
    """Say whether a reference shows what is left of an image that is nearly all hidden not to be contaminated.

    Holes that reach from edge to edge count, too: clouds that hide nearly all do, and are no strips.
    """
    if scene.states.doubted:
        return False
    tiles = _with_holes(scene, gaps=False, strips=True)
    if not any(tile.guides and tile.seen.any() for tile in tiles):
        return False
    doubt = doubt_among_few(tiles, FEWEST_FAR)
    return doubt.ground.guide is not None and not doubt.reach_px


def _with_holes(scene: Scene, *, gaps: bool, strips: bool = False) -> list[Tile]:
    """Read the windows that are learned from, those that have holes which count."""
    tiles = each(partial(_tile, scene, gaps=gaps, strips=strips), windows_of(scene))
    return [tile for tile in tiles if np.isfinite(tile.distance).all()]


def _are_dates(scene: Scene) -> bool:
    """Say whether several channels are dates by their names or, from netCDF, by the axis that GDAL took them from."""
    source, channels = scene.source, scene.image.channels
    tags = source.attributes.get("band_tags") or [{}] * source.n_channels
    return len(channels) > 1 and all(
        _DATE.match(source.channel_names[c]) or _TIME_AXIS in tags[c].get("", {}) for c in channels
    )


def _screened(scene: Scene) -> bool:
    """Say whether what has no value was screened quantity by quantity: one channel, or several with gaps of their own.

    Bands of one look lose the same pixels; dates and products that are stacked in a file do not.
    """
    if len(scene.image.channels) == 1:
        return True
    shared = lost = 0
    for in_all, in_any in each(partial(_lost, scene), windows_of(scene)):
        shared, lost = shared + in_all, lost + in_any
    return shared < _ALIKE * lost


def _lost(scene: Scene, box: Box) -> tuple[int, int]:
    """Return how many pixels of the holes in a window have no value in all channels, and in any."""
    image = scene.image
    void = image.source.never(box)
    void = (void[list(image.channels)] if len(void) > 1 else void) & (image.states(box) == FILL).any(axis=0)
    return int(void.all(axis=0).sum()), int(void.any(axis=0).sum())


def windows_of(scene: Scene) -> list[Box]:
    """Return windows with holes and observed pixels, spread over the image."""
    cell = scene.states.cell
    boxes = []
    for box in Box.whole(scene.shape).tiles((_TILE, _TILE)):
        if scene.states.near_holes(box) and scene.states.kept_cells[cells_of(box, cell)].any():
            boxes.append(box)
    most = max(1, min(_MOST_TILES, _MOST_VALUES // (_TILE**2 * sum(bands_of(scene)))))
    step = -(-len(boxes) // most) or 1
    return boxes[::step]


def bands_of(scene: Scene) -> tuple[int, int]:
    """Return the bands of the image, and of all references; auxiliaries show no haze, and are not read here."""
    return len(scene.image.channels), sum(guide.source.n_channels for guide in _references(scene))


def bands_again(scene: Scene) -> int:
    """Return the bands of all further looks, if each reference that has a mask of its own is blind beside the holes.

    Each of them goes without one more of these.
    """
    own, others = bands_of(scene)
    again = 0
    for guide in _references(scene):
        if guide.mask.parts:
            others -= guide.source.n_channels
            again += own + others
    return again


def _references(scene: Scene) -> list[OpenGuide]:
    return [guide for guide, asked in zip(scene.guides, scene.job.guides, strict=True) if asked.role == "reference"]


def looked_pixels(scene: Scene) -> int:
    """Return how many pixels are held at once while contaminated ones are looked for; 0 where they are not."""
    return sum(box.size for box in windows_of(scene)) if scene.states.holes and looked_at(scene) else 0


def _tile(scene: Scene, box: Box, places: Sequence[Box] = (), *, gaps: bool, strips: bool = False) -> Tile:
    """Read a window as `doubt` looks at it; distances and blurs are exact but for the outermost `_HALO` pixels.

    With `places` only holes in these parts of the image count, and without `gaps` only those of pixels with a value:
    stripes that a sensor did not see contaminate nothing, and where they are dense no pixel would be far from a hole.
    With `strips` holes along an edge of the image count as well.
    """
    stop_if_asked()
    image = scene.image
    states = image.states(box)
    values = image.values(box, states)
    hole = np.asarray((states == FILL).all(axis=0))
    if hole.any() and not gaps:
        void = image.source.never(box)
        hole &= ~(void[list(image.channels)] if len(void) > 1 else void).any(axis=0)
    wide = ndimage.binary_opening(hole, np.ones((3, 3)))
    if not strips:
        wide = _without_edges(wide, box, scene.shape)
    if places:
        inside = np.zeros_like(wide)
        for part in (place & box for place in places):
            if not part.empty:
                inside[part.within(box)] = True
        wide &= inside
    distance = ndimage.distance_transform_edt(~wide) if wide.any() else np.full(box.shape, np.inf)
    shown = [guide.read(box) for guide in _references(scene)]
    return Tile(
        values=values,
        seen=np.asarray((states == KEEP).all(axis=0)),
        distance=np.asarray(distance, dtype=np.float32),
        guides=tuple((read.values, np.asarray(read.valid.all(axis=0))) for read in shown),
        corner=box.start,
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


def _marked(scene: Scene, doubt: Doubt, *, gaps: bool) -> StateScan:
    """Mark doubted pixels in the states of the whole image, and hazy ones.

    Returns the new counts.
    """
    before, cell = scene.states, scene.states.cell
    holes, kept, hazy, strong = before.hole_cells.copy(), before.kept_cells.copy(), 0, 0
    array = zarr.open_array(scene.job.work.state, mode="r+")
    boxes = list(Box.whole(scene.shape).tiles(array.chunks[1:]))
    # all are told before the first is written: a window looks beyond its edges
    told = _Told(scene, doubt, gaps=gaps)
    for box, (packed, strongly) in zip(boxes, each(told.of, boxes), strict=True):
        stop_if_asked()
        if not packed:
            continue
        states = np.asarray(array[box.at()])
        new = np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(box.shape)
        states = np.where((states == KEEP) & (new != KEEP), new, states)
        array[box.at()] = states
        hazy, strong = hazy + int((states == HAZY).sum()), strong + strongly * len(states)
        part = cells_of(box, cell)
        holes[part] = sum(block_sum(plane == FILL, cell) for plane in states)
        kept[part] = sum(block_sum(evidence(plane), cell) for plane in states)
    n_holes, n_kept = int(holes.sum()), int(kept.sum())
    doubted = before.kept + before.holes - n_holes - n_kept
    counts = replace(before, holes=n_holes, kept=n_kept, hole_cells=holes, kept_cells=kept, doubted=doubted)
    return replace(counts, hazy=hazy, strong=strong)


def with_doubted_filled(scene: Scene) -> Scene:
    """Make holes of the doubted pixels if the job says so, once the holes of the mask have been tested.

    What is evidence is the same with them and without. Holes that have grown into one another fit nowhere, so that
    nothing like them could be hidden, and what helps would not be found.
    """
    before, cell = scene.states, scene.states.cell
    if not scene.job.fill_doubted or not before.doubted:
        return scene
    array = zarr.open_array(scene.job.work.state, mode="r+")
    holes = before.hole_cells.copy()
    for box in Box.whole(scene.shape).tiles(array.chunks[1:]):
        stop_if_asked()
        states = np.asarray(array[box.at()])
        doubted = states == DOUBT
        if doubted.any():
            array[box.at()] = np.where(doubted, np.uint8(FILL), states)
            holes[cells_of(box, cell)] += sum(block_sum(plane, cell) for plane in doubted)
    return replace(scene, states=replace(before, holes=int(holes.sum()), hole_cells=holes, doubted=0))


class _Told:
    """What is told of the pixels of an image, window by window: memory does not grow with the box."""

    def __init__(self, scene: Scene, doubt: Doubt, *, gaps: bool) -> None:
        self._scene, self._doubt, self._gaps = scene, doubt, gaps
        self._haze = _haze_array(scene, doubt)
        # which holes are wide depends on what lies around them
        self._halo = _HALO + (2 * WIDE if doubt.wide else 0)

    def of(self, box: Box) -> tuple[bytes, int]:
        """Return the new states of a box, KEEP where they stay, packed, and at how many pixels haze is strong.

        Empty: all of them stay. What haze adds is stored.
        """
        counts = self._scene.states
        states = np.full(box.shape, KEEP, dtype=np.uint8)
        amounts = np.zeros((len(self._doubt.taken_off[0]), *box.shape), dtype=np.float32)
        for part in box.tiles((_TILE, _TILE)):
            outer = part.grow(self._halo) & Box.whole(self._scene.shape)
            # the counts of the image spare reading most of it
            if not counts.near_holes(outer) or not self._scene.image.holes(outer).any():
                continue
            places = self._doubt.places
            if places and all((place & outer).empty for place in places):
                continue
            tile, inner, own = _tile(self._scene, outer, places, gaps=self._gaps), part.within(outer), part.within(box)
            amount, doubted = self._doubt.told(tile)
            new = np.where(doubted, np.uint8(DOUBT), np.where(amount.any(axis=0), np.uint8(HAZY), np.uint8(KEEP)))
            states[own], amounts[:, *own] = new[inner], np.where(new == HAZY, amount, 0.0)[:, *inner]
        strong = int((self._doubt.strength(amounts) > _STRONG).sum())
        if self._haze is not None and amounts.any():
            self._haze[box.at()] = amounts
        return zlib.compress(states.tobytes(), level=1) if states.any() else b"", strong


def _haze_array(scene: Scene, doubt: Doubt) -> zarr.Array | None:
    """Make the array of the amounts that are taken off, in the chunks of the states; None if nothing is."""
    spectra, left = doubt.taken_off
    if not len(spectra):
        return None
    return zarr.create_array(
        scene.job.work.haze,
        shape=(len(spectra), *scene.shape),
        chunks=(1, *scene.image.state.chunks[1:]),
        dtype="float32",
        fill_value=0,
        attributes={"spectrum": spectra.tolist(), "left": left.tolist(), "scraps": doubt.veiled},
        overwrite=True,
    )


def doubt_notice(scene: Scene, doubt: Doubt | None) -> str:
    """Return what the user should know of doubted and hazy pixels, empty if there are none."""
    if doubt is None or not doubt.reach_px:
        return ""
    far, states = scene.source.space.far(doubt.reach_px), scene.states
    names = {"bright": "haze or thin cloud", "dark": "shadow"}
    found = dict.fromkeys(names[side.name] for part in doubt.parts for side in part.sides)
    looks = " and ".join(found) or "what a cloud leaves at its edge"
    if scene.job.fill_doubted:
        return f"observed pixels up to {far} from the mask look like {looks}: they are restored, too (`fill_doubted`)"
    total = max(states.doubted + states.kept, 1)
    above = looks if doubt.veiled else "haze"
    strongly = f"it is more than {_STRONG:g} standard deviations of the image at {100 * states.strong / total:.0f} %"
    kinds = (
        (states.hazy, above, f"what is restored from them is restored from what they show without it ({strongly})"),
        (states.doubted, looks, "nothing is restored from them"),
    )
    planes = scene.image.state.shape[0]
    over = f" over {planes} channels" if planes > 1 else ""
    said = [
        f"{count} observed pixels{over} ({100 * count / total:.0f} %), up to {far} from the mask, look like {what}: "
        f"they stay as they are, but {use}"
        for count, what, use in kinds
        if count
    ]
    if not said:
        return ""
    return "; ".join([*said, "`input.fill_doubted: true` restores them, too", *_of_ground(scene, doubt)])


def _of_ground(scene: Scene, doubt: Doubt) -> tuple[str, ...]:
    """Return that bright ground may pass for haze: beside what was marked for its value other values are like it."""
    if doubt.guide is not None:
        return ()
    parts = getattr(scene.job.open_mask(scene.source), "parts", ())
    if not any(getattr(part.mask, "by_value", False) for part in parts):
        return ()
    return (
        "but the mask goes by the values themselves (`threshold`), and ground beside what it marks looks like "
        "haze, too: see whether there is some, or name another date",
    )
