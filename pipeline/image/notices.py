"""What a user should know of an image, its masks and guides once they are open: a sentence for each finding."""

from __future__ import annotations

import numpy as np

from pipeline.formats._resample import Resampled
from pipeline.formats._view import View, turn_text, whole_of
from pipeline.formats.base import Source
from pipeline.image.open import OpenGuide, pieces
from pipeline.image.scan import StateScan, ValueScan
from pipeline.masks.base import ComposedMask, Mask
from pipeline.plan.job import Job

_OPAQUE = 0.5
"""Share of the pixels that are not wholly transparent which have one value, from which that is full opacity."""


def state_notices(source: Source, mask: Mask, states: StateScan, said: tuple[str, ...]) -> list[str]:
    """Return what the user should know of files and holes, after what was `said` before they were opened."""
    notices = [*said, *(f"{source.paths[0]}: {remark}" for remark in source.attributes.get("remarks", ()))]
    notices += [*getattr(source, "notices", ()), *alpha_notices(source), *mask.notices]
    notices += mask.examine() if isinstance(mask, ComposedMask) else ()
    if len(source.paths) > 1:
        notices.append(
            f"{len(source.paths)} files were taken as the bands of one image: {', '.join(source.channel_names)}"
        )
    if states.drawn_nodata:
        notices.append(
            f"{states.drawn_nodata} pixels to restore had no value (nodata) under a drawn mask; "
            "`input.fill_nodata: never` keeps them as they are"
        )
    if states.empty:
        notices.append(
            f"{_names(source, states.empty)} without any observed value (all hidden, or nodata): left as stored (never "
            "touched), the others are restored"
        )
    if states.wide:
        notices.append(
            f"{states.wide} pixels without a value are left: they lie in voids wider than max_gap "
            f"({getattr(mask, 'max_gap', '')}) or around the image's content; `max_gap: null` restores them, too"
        )
    if not states.holes:
        notices.append(_nothing_to_restore(states, gaps=asks_for_nodata(mask)))
    elif states.holes > states.kept > 0:
        share = 100 * states.holes / (states.holes + states.kept)
        notices.append(
            f"the masks mark {share:.3g} % of what has a value or is to get one; if that is what is to be kept, write "
            "`invert: true` on the entry"
        )
    return notices


def _nothing_to_restore(states: StateScan, *, gaps: bool) -> str:
    if states.marked_empty:
        return "nothing to restore: the masks mark no pixel of the channels that have an observed value"
    if not states.never:
        no_gap = ", and every pixel of the image has a value: none is NaN or nodata" if gaps else ""
        return f"nothing to restore: the masks mark no pixel{no_gap}"
    return (
        f"nothing to restore: the masks mark no pixel that has a value, and {states.never} pixels without one (nodata, "
        "or not acquired by the mask's own codes) stay as they are; `input.fill_nodata: inside` restores those inside "
        "the masks"
    )


def asks_for_nodata(mask: Mask) -> bool:
    """Say whether an entry picks pixels without a value."""
    return any(getattr(part.mask, "claims_nodata", False) for part in getattr(mask, "parts", ()))


def value_notices(source: Source, channels: tuple[int, ...], values: ValueScan) -> list[str]:
    """Return a notice for each value that looks like nodata nobody declared, and for channels of one value."""
    found: dict[float, list[int]] = {}
    for channel, end in zip(channels, values.lone_ends, strict=True):
        if end is not None:
            found.setdefault(end.value, []).append(channel)
    ends = {end.value: end for end in reversed(values.lone_ends) if end is not None}
    return [
        f"{_names(source, tuple(where))}: {100 * ends[value].share:.2g} % of the observed pixels are exactly "
        f"{value:.17g}, far from all others (next: {ends[value].next:.6g}); if that means that nothing was observed, "
        f"write `input.nodata: {value:.17g}`"
        for value, where in found.items()
    ] + _still_notices(source, channels, values)


def _still_notices(source: Source, channels: tuple[int, ...], values: ValueScan) -> list[str]:
    still: dict[float, list[int]] = {}
    for channel, low, high in zip(channels, values.low.tolist(), values.high.tolist(), strict=True):
        if low == high:
            still.setdefault(low, []).append(channel)
    varies = len(channels) > sum(map(len, still.values()))
    said = (
        ", while other channels vary, and holes there get that value; if nothing was observed, leave it out (`bands`)"
        if varies
        else ", and holes get that value: nothing in the image varies; is it the right file?"
    )
    return [
        f"{_names(source, tuple(where))}: {value:.6g} wherever it was looked at{said}" for value, where in still.items()
    ]


def _names(source: Source, channels: tuple[int, ...]) -> str:
    named = [source.channel_names[c] for c in channels]
    return f"{'channel' if len(named) == 1 else 'channels'} {', '.join(named)}"


def guide_notices(job: Job, image: Source, guides: tuple[OpenGuide, ...]) -> list[str]:
    """Return what the user should know of headers and masks of references and auxiliaries."""
    said = [note for guide in guides for note in getattr(guide.source, "notices", ())]
    said += [note for guide in guides for note in (*guide.mask.notices, *guide.mask.examine())]
    said += [
        f"{guide.source.paths[0]}: has no reference system; its numbers are those of the image's grid, so it is taken "
        "to lie there"
        for guide in guides
        if image.space.crs and not guide.source.space.crs
    ]
    said += [
        f"{ref.role} {guide.source.paths[0]}: {off}"
        for ref, guide in zip(job.guides, guides, strict=True)
        if (off := image.space.offset_text(guide.source.space))
    ]
    said += [
        f"{ref.role} {guide.source.paths[0]}: {turn_text(guide.source.whole.space, image.space)}"
        for ref, guide in zip(job.guides, guides, strict=True)
        if isinstance(guide.source, View) and guide.source.turn.changes
    ]
    said += [
        f"{ref.role} {guide.source.paths[0]}: its grid is another; it is read on that of the image (interpolated)"
        for ref, guide in zip(job.guides, guides, strict=True)
        if isinstance(whole_of(guide.source), Resampled)
    ]
    return said


def alpha_notices(source: Source) -> list[str]:
    """Return a notice for each band that is marked as alpha and holds what data hold: many values, none frequent.

    GDAL marks the fourth of four bands of bytes as alpha unless it is told otherwise, whatever they hold.
    """
    read = pieces(source) if source.fixed_channels else []
    said = []
    for channel in source.fixed_channels:
        values = np.concatenate([piece[channel].ravel() for piece in read])
        seen = values[values > 0]
        if seen.size and np.unique(seen, return_counts=True)[1].max() < _OPAQUE * seen.size:
            said.append(_alpha_notice(source, channel))
    return said


def _alpha_notice(source: Source, channel: int) -> str:
    path, name = source.paths[0], source.channel_names[channel]
    known = source.attributes.get("colorinterp", ())
    meant = ",".join("undefined" if c == channel else kind for c, kind in enumerate(known))
    edit = f": `rio edit-info --colorinterp {meant} {path}`" if meant and len(source.paths) == 1 else ""
    return (
        f"WARNING: {path}: {name} is marked as alpha (opacity), so it is not restored, is made opaque in the holes, "
        f"and its zeros count as not observed; yet it varies as data do. If it is data, say so in the file{edit}"
    )
