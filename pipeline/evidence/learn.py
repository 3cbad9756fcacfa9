"""Which observed pixels look like thin cloud, haze or shadow that the mask missed: learned from the image itself.

What a mask misses lies beside what it found. So observed pixels are compared ring by ring around the holes with those
farthest from them, after what a reference (if there is one) says of the ground is taken off. Two sides are looked at:
brighter than far off (haze, thin cloud) and darker (shadow). In each, bands count by how much they differ near the
holes and how little they differ elsewhere (matched filter on whitened differences), which needs no names of bands.
Nothing is doubted unless the holes, laid over other places of the image, find far smaller differences (`shifts`): so
ground that changed is not. Nor is ground that is bright because what is far off lies in shadow (`contrast`). What
is bright on one image alone must fall with the distance, as broad bright ground beside the holes does not. Fainter
differences count where dark ones lie as shadows do beside bright ones (`cast`). Where what is dark lies as shadows do
beside the holes themselves, it is looked for around those places, too, however far from the mask. Then a pixel is
doubted where such a pixel is at least twice as frequent at its distance as far off, so that it is more likely
contaminated than not (two-groups model and local false discovery rate: Efron 2004, doi:10.1198/016214504000000089).
Where that leaves scraps of cloud and shadow with edges, `outline` says where they end, and `veil` what they add to the
ground. Where all holes together show nothing, one that stands out by itself (`single`) is looked at as if it were the
only one; then wide holes are, as if there were no narrower ones: clouds are wide, and roofs, sand and bright fields
that a threshold takes for cloud are mostly not.

A reference tells nothing where it does not see, as under clouds of its own. What is contaminated there another one
tells, or the image by itself, as if the first were not there.

Where nearly all is hidden there is no far off (`few`).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

import numpy as np

from pipeline.evidence.doubt import Differences, Doubt, Mask, Side
from pipeline.evidence.few import brighter_near, doubt_among_few
from pipeline.evidence.ground import fit_ground
from pipeline.evidence.haze import fit_haze
from pipeline.evidence.outline import fit_outline
from pipeline.evidence.rings import BROAD, FEWEST_FAR, MOST, STEEP, Rings
from pipeline.evidence.single import as_if_only, nearest_hole, places_of
from pipeline.evidence.tile import RINGS, Tile
from pipeline.evidence.veil import fit_veils
from pipeline.system.threads import each

_CLEARED = 0.5
"""Share of these deviations that may be left where what is bright is haze; of twelve synthetic rings at most 0.4 is."""

_STANDS_OUT = 4.5
"""Standard deviations of shifted patterns by which what is beside wide holes must be brighter if nothing is found
beside all of them, and what no reference sees must differ if they show nothing: a second look needs more proof."""


_FALLS = 3.0
"""Standard deviations of shifted patterns by which what is bright must fall with the distance where neither a reference
nor a shadow says that it is no ground: rings of haze do by 3.2 and more, real haze (le7_chiapas) by 3.5, clean ground
that passed for haze by at most 0.9."""

_FALLS_BY_ITSELF = 4.0
"""The same beside one of many holes, of which eight are looked at: haze does by 4.5 and more, clean ones but for two
of 1403 images by less."""

_MOSTLY = 0.5
"""Observed share of the windows below which holes are too many to be laid over other places."""

_GONE = 2.0
"""The same farther off for what has edges and need not fall before: scraps of cloud do by 1.6 to 4.5, clean ground by
at most 1.8."""


_BLIND = 0.02
"""Share of the observed pixels beside the holes that references must leave untold for another look."""

_LITTLE = 0.5
"""The same above which a reference that shows nothing is not believed where it sees, either: chosen on ten places
with clouds over 35 and 65 % of the date (docs/decisions/evidence.md, "Dates that see little")."""


def find_doubt(tiles: Sequence[Tile], *, little: bool = False, through: bool = True, seed: int = 0) -> Doubt | None:
    """Learn from some windows of an image what contaminated pixels look like; None if too little is observed.

    Args:
        tiles: the windows.
        little: nearly all of the image is hidden: what is left beside the holes is doubted if enough lies farther off.
        through: look for what can be taken off, so that the pixels below it need no doubt.
        seed: of the shifts that are drawn.
    """
    distance = np.concatenate([np.zeros(0, dtype=np.float32), *(t.distance[t.seen] for t in tiles)])
    if distance.size < FEWEST_FAR:
        return None
    if little:
        return doubt_among_few(tiles, FEWEST_FAR)
    doubt, beside = _found(tiles, seed, through=through)
    return _and_elsewhere(doubt, beside, seed, through=through)


def _found(tiles: Sequence[Tile], seed: int, *, through: bool) -> tuple[Doubt, Sequence[Tile]]:
    """Return what is contaminated, and the windows with distances from the holes beside which it is."""
    rings = Rings.around(tiles, seed)
    doubt = _shaded(rings, through=through) or _told(rings, through=through)
    if doubt.sides or doubt.haze:
        return doubt, tiles
    only = _single(rings)
    if only:
        found = _told(Rings.around(only, seed), through=through, falls=_FALLS_BY_ITSELF)
        if found.reach_px:
            return replace(found, places=places_of(only)), only
    wide = [tile.of_wide() for tile in tiles]
    beside_wide = _wide(tiles, wide, seed, through=through)
    return (beside_wide, wide) if beside_wide else (_among_what_is_left(tiles) or doubt, tiles)


def _among_what_is_left(tiles: Sequence[Tile]) -> Doubt | None:
    """Return what a reference shows to be contaminated where holes take most of an image; None if nothing.

    The pattern of such holes fits nowhere else, so what is beside them cannot be compared with what is beside others.
    It must be brighter beside the holes: snow varies as much around another date, and enough is left to go by it.
    """
    if sum(int(t.seen.sum()) for t in tiles) >= _MOSTLY * sum(t.seen.size for t in tiles):
        return None
    if not brighter_near(tiles, fit_ground(tiles, [t.seen for t in tiles])):
        return None
    doubt = doubt_among_few(tiles, FEWEST_FAR)
    return doubt if doubt.reach_px and doubt.ground.guide is not None else None


def _shaded(rings: Rings, *, through: bool) -> Doubt | None:
    """Return what is contaminated beside holes and where their clouds cast shadows; None if they are not seen to."""
    step = rings.step_of_shadows()
    if step is None:
        return None
    both, sides = rings.shaded(step)
    if "dark" not in [side.name for side in sides]:
        return None
    doubt = Doubt(ground=both.ground, sides=sides, shadow=step)
    return _outlined(doubt, rings.tiles, both.known, through=through)


def _told(rings: Rings, *, through: bool, falls: float = _FALLS, shown: Set[str] = frozenset()) -> Doubt:
    """Return what is contaminated beside the holes of some windows; `shown` are the sides that a reference has shown.

    Where neither a reference nor a shadow says that it is no ground, what is bright must fall with the distance as haze
    does, or have edges and be gone farther off as scraps of cloud are.
    """
    doubt = Doubt(ground=rings.ground, sides=rings.sides(shown))
    if not rings.referred and [side.name for side in doubt.sides] == ["bright"]:
        (bright,) = doubt.sides
        if rings.fall(bright, STEEP) < falls:
            if rings.fall(bright, BROAD) >= _GONE:
                edged = _outlined(doubt, rings.tiles, rings.known, through=through)
                if edged.outline:
                    return edged
            return replace(doubt, sides=())
    hazy = _through_haze(doubt, rings)
    if hazy.haze is None:
        return _outlined(doubt, rings.tiles, rings.known, through=through)
    return hazy if through else doubt


def _and_elsewhere(
    doubt: Doubt, tiles: Sequence[Tile], seed: int, *, through: bool, untold: Sequence[Mask] | None = None
) -> Doubt:
    """Return what is contaminated with how that is told where the reference that tells the ground does not see.

    There the other references tell it, or the image by itself. If this one shows something, as much is likely there.
    If it shows nothing, more proof is asked; and if it sees less than half, or what it sees cannot be compared with
    other places, it has no say at all. `untold` are the pixels of each window that no reference before told.
    """
    guide = doubt.guide
    if guide is None:
        return doubt
    beside = [tile.seen & (tile.distance <= RINGS[-1]) for tile in tiles]
    asked = untold or beside
    blind = [some & ~tile.guides[guide][1] for some, tile in zip(asked, tiles, strict=True)]
    unseen = _count(blind)
    if unseen < max(FEWEST_FAR, _BLIND * _count(beside)):
        return doubt
    others = [tile.without(guide) for tile in tiles]
    found = _second_look(doubt, others, seed, through=through)
    found = _and_elsewhere(found, others, seed, through=through, untold=blind)
    if not found.reach_px:
        return doubt
    if not doubt.reach_px and (unseen > _LITTLE * _count(asked) or not Rings.around(tiles, seed).comparable):
        return found
    return replace(doubt, elsewhere=found)


def _count(some: Sequence[Mask]) -> int:
    return sum(int(one.sum()) for one in some)


def _second_look(doubt: Doubt, others: Sequence[Tile], seed: int, *, through: bool) -> Doubt:
    """Return what is contaminated as it is told without a reference that told `doubt`.

    Differences from the ground end here: with those of each look held until the last, memory would grow with the dates.
    """
    rings, falls = Rings.around(others, seed), _FALLS_BY_ITSELF if doubt.places else _FALLS
    found = Doubt(ground=rings.ground)
    if doubt.reach_px or any((more := rings.beyond(sign)) and more.deviations >= _STANDS_OUT for sign in (1.0, -1.0)):
        shown = {side.name for side in doubt.sides} | ({"bright"} if doubt.haze else set())
        # clouds cast shadows: what is dark alone shows none
        found = _told(rings, through=through, falls=falls, shown=shown if "bright" in shown else frozenset())
    return replace(found, places=doubt.places)


def _single(rings: Rings) -> Sequence[Tile]:
    """Return the windows as if they had no holes but those that are contaminated by themselves; none if none is."""
    if sum(int(f.sum()) for f in rings.far) < FEWEST_FAR:
        return ()
    tiles = rings.tiles
    nearest = each(nearest_hole, tiles)
    holes = rings.bright_ones(nearest)
    if holes and rings.referred:
        bare = Rings.around([replace(tile, guides=()) for tile in tiles], rings.seed)
        holes = bare.bright_ones(nearest, among=holes)
    return as_if_only(tiles, nearest, holes) if holes else ()


def _wide(tiles: Sequence[Tile], wide: Sequence[Tile], seed: int, *, through: bool) -> Doubt | None:
    """Return what is contaminated beside wide holes, as if there were no others; None if they do not stand out."""
    if all(one is tile for one, tile in zip(wide, tiles, strict=True)):
        return None
    if not any((one.distance == 0).any() for one in wide):
        return None
    rings = Rings.around(wide, seed)
    bright = rings.beyond(1.0)
    if bright is None or bright.deviations < _STANDS_OUT:
        return None
    doubt = _told(rings, through=through)
    return replace(doubt, wide=True) if doubt.reach_px else None


def _through_haze(doubt: Doubt, rings: Rings) -> Doubt:
    """Take haze off what is bright beside the holes; where that leaves it bright, or darkens, it was no haze.

    Nor is it beside shadows: what casts them has edges.
    """
    tiles, far = rings.tiles, rings.far
    if [side.name for side in doubt.sides] != ["bright"]:
        return doubt
    clear = [f & ~doubt.of(t, known) for t, f, known in zip(tiles, far, rings.known, strict=True)]
    haze = fit_haze(doubt.ground, tiles, clear)
    if haze is None:
        return doubt
    through = replace(doubt, haze=haze, sides=())
    left = Rings.of([through.cleared(tile) for tile in tiles], far, doubt.ground, rings.seed)
    before, after, sides = rings.beyond(1.0), left.beyond(1.0), left.sides()
    if before is None or (after is not None and after.deviations > _CLEARED * before.deviations):
        return doubt
    if sides:
        return doubt
    # a scrap of cloud is no haze: what is still bright is doubted
    scraps = left.side("bright", 1.0, before.values)
    return replace(through, sides=() if scraps is None else (scraps,))


def _outlined(doubt: Doubt, tiles: Sequence[Tile], known: Sequence[Differences], *, through: bool = True) -> Doubt:
    """Tell where the scraps that were found end; what covers most of a ring is none, and its edge is faint."""
    first = {
        side.name: [_pixels(doubt, side, *both) for both in zip(tiles, known, strict=True)] for side in doubt.sides
    }
    shaded = [tile.shaded(doubt.shadow) for tile in tiles]
    outline = fit_outline(shaded, first) if first else None
    if outline is None:
        return doubt
    # where a shadow is cast most is dark, and it has edges all the same
    covered = [max(s.shares) for s in outline.scraps if s.name == "bright" or doubt.shadow is None]
    if max(covered, default=0.0) > MOST:
        return doubt
    return replace(doubt, outline=outline, veils=fit_veils(outline, shaded) if through else None)


def _pixels(doubt: Doubt, side: Side, tile: Tile, known: Differences) -> Mask:
    """Return the pixels of a tile that one side doubts by themselves and that are brighter (darker) in the mean."""
    mean = known[0].mean(axis=0)
    alone = replace(doubt, sides=(replace(side, rim_px=0.0),))
    return np.asarray(alone.of(tile, known) & (mean > 0 if side.name == "bright" else mean < 0))
