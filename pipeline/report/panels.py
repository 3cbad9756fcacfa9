"""Pictures of a restored image: before, holes, after, uncertainty; whole (thinned out) and around the largest hole."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.geometry.box import Box

_MAX_EDGE = 560
_ZOOM_EDGE = 256
_TILE = 1024
"""Extent of what is read of an image at once, pixels."""
_RGB_NAMES = (
    ("red", "green", "blue"),
    ("b04", "b03", "b02"),
    ("b4", "b3", "b2"),
    ("sr_b4", "sr_b3", "sr_b2"),
)
# dark blue -> violet -> orange -> pale yellow; readable in grey and by colour-blind readers
_RAMP = np.array([[8, 8, 40], [80, 18, 123], [182, 54, 121], [251, 136, 97], [252, 253, 191]], dtype=np.float64)
_HOLE_COLOUR = np.array([230, 60, 40], dtype=np.float64)

_DOUBT_COLOUR = np.array([60, 120, 255], dtype=np.float64)

Pull = Callable[[Box], NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture: title, caption in a full sentence, WebP data URI."""

    title: str
    caption: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A plane of an image to be shown.

    Attributes:
        name: what part it shows.
        box: the pixels; volumes have one axis of extent 1.
        step: thinning on every axis.
        aspect: height of a pixel over its width.
        flip: turn upside down, so that the head is up in volumes.
        across: the axis of a volume that the plane cuts; None for rasters.
    """

    name: str
    box: Box
    step: int = 1
    aspect: float = 1.0
    flip: bool = False
    across: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulls:
    """Where the pixels come from: stored input, restored, standard error, source codes, doubted pixels."""

    before: Pull
    after: Pull
    uncertainty: Pull
    origin: Pull
    doubt: Pull | None = None


def panels(view: View, pulls: Pulls, channels: Sequence[int], sigma_top: float) -> list[Panel]:
    """Return the four pictures of one view; `channels` are positions among the restored channels."""
    before = _plane(pulls.before, view)[list(channels)]
    after = _plane(pulls.after, view)[list(channels)]
    codes = _plane(pulls.origin, view)
    # one plane of codes speaks for all channels; else a pixel shows its hole in whichever shown channel has one
    origin = codes[list(channels) if len(codes) > 1 else [0]].max(axis=0)
    sigma = np.nan_to_num(_plane(pulls.uncertainty, view))[list(channels)].mean(axis=0)
    hole = (origin != 0) & (origin != 255)
    observed = origin == 0
    low, high = _stretch(before, observed)
    shown = _colour(before, low, high)
    marked = shown.copy()
    marked[hole] = 0.35 * marked[hole] + 0.65 * _HOLE_COLOUR
    if pulls.doubt is not None:
        doubted = _plane(pulls.doubt, view).any(axis=0) & observed
        marked[doubted] = 0.5 * marked[doubted] + 0.5 * _DOUBT_COLOUR
    marked[origin == 255] = 40
    said = "Pixels to restore in red; dark grey is never touched."
    if pulls.doubt is not None:
        said = "Pixels to restore in red; observed ones that look like cloud or shadow, kept but not used, in blue."
    heat = _ramp(np.where(hole, sigma / max(sigma_top, 1e-30), 0.0))
    heat[origin == 255] = 40
    pictures = (
        ("before", "The input as stored, stretched to its 2nd to 98th percentile of observed pixels.", shown),
        ("holes", said, marked),
        ("after", "The restored image, same stretch.", _colour(after, low, high)),
        ("uncertainty", f"One standard error, black = 0 (observed), yellow = {sigma_top:.3g} or more.", heat),
    )
    return [
        Panel(title=f"{view.name}: {title}", caption=caption, uri=_webp(picture, view))
        for title, caption, picture in pictures
    ]


def overview(shape: tuple[int, ...], spacing: tuple[float, ...], centre: tuple[int, ...]) -> list[View]:
    """Return the views of an image: whole and zoomed for rasters, three planes through `centre` for volumes."""
    whole = Box.whole(shape)
    if len(shape) == 2:
        step = max(1, -(-max(shape) // _MAX_EDGE))
        views = [View(name="whole image", box=whole, step=step)]
        if step > 1 or max(shape) > 1.5 * _ZOOM_EDGE:
            views.append(View(name="around the largest hole", box=_around(centre, shape)))
        return views
    names = ("axial-like plane (first axis)", "plane across the second axis", "plane across the third axis")
    views = []
    for axis, name in enumerate(names):
        start = tuple(centre[a] if a == axis else 0 for a in range(3))
        stop = tuple(centre[a] + 1 if a == axis else shape[a] for a in range(3))
        rest = [a for a in range(3) if a != axis]
        views.append(
            View(
                name=name,
                box=Box(start, stop),
                step=max(1, -(-max(shape[a] for a in rest) // _MAX_EDGE)),
                aspect=spacing[rest[0]] / spacing[rest[1]],
                flip=True,
                across=axis,
            )
        )
    return views


def rgb_channels(names: Sequence[str]) -> list[int]:
    """Return the channels to show as red, green, blue, or one channel for grey, as positions in `names`."""
    lower = [n.lower() for n in names]
    for wanted in _RGB_NAMES:
        found = [next((i for i, n in enumerate(lower) if n == w or n.endswith("_" + w)), None) for w in wanted]
        if None not in found:
            return [i for i in found if i is not None]
    if len(names) == 3:
        return [0, 1, 2]
    if len(names) >= 12:
        # unnamed bands in this number are Sentinel-2 in its usual order
        return [3, 2, 1]
    return [2, 1, 0] if len(names) > 3 else [0]


def _plane(pull: Pull, view: View) -> NDArray[Any]:
    """Pull a view tile by tile and thin it out, `(c, rows, cols)`; never holds more than one tile of the image."""
    step = view.step
    edge = max(step, _TILE // step * step)
    plane: NDArray[Any] | None = None
    for tile in Box.whole(view.box.shape).tiles((edge,) * view.box.ndim):
        part = pull(tile.shift(view.box.start))[(slice(None), *(slice(None, None, step),) * tile.ndim)]
        if plane is None:
            plane = np.empty((len(part), *(-(-n // step) for n in view.box.shape)), dtype=part.dtype)
        at = (slice(a // step, a // step + n) for a, n in zip(tile.start, part.shape[1:], strict=True))
        plane[(slice(None), *at)] = part
    assert plane is not None, "a view is never empty"
    return plane if view.across is None else plane.squeeze(axis=1 + view.across)


def _around(centre: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    start = tuple(max(0, min(c - _ZOOM_EDGE // 2, n - _ZOOM_EDGE)) for c, n in zip(centre, shape, strict=True))
    return Box(start, tuple(min(n, s + _ZOOM_EDGE) for s, n in zip(start, shape, strict=True)))


def _stretch(values: NDArray[Any], observed: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    use = observed if observed.any() else np.ones_like(observed)
    pairs = []
    for channel in _wide(values):
        finite = channel[use & np.isfinite(channel)]
        pairs.append(np.percentile(finite, (2, 98)) if finite.size else (0.0, 1.0))
    low, high = np.asarray(pairs).T.reshape(2, -1, 1, 1)
    return low, np.where(high > low, high, low + 1)


def _wide(values: NDArray[Any]) -> NDArray[np.float64]:
    # NaNs that signal, which files may hold, are no fault of this program
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def _colour(values: NDArray[Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = np.clip(np.nan_to_num((_wide(values) - low) / (high - low)), 0, 1) * 255
    return np.moveaxis(np.broadcast_to(scaled, (3, *scaled.shape[1:])), 0, -1).copy()


def _ramp(share: NDArray[np.float64]) -> NDArray[np.float64]:
    position = np.clip(share, 0, 1) * (len(_RAMP) - 1)
    low = np.minimum(position.astype(int), len(_RAMP) - 2)
    part = (position - low)[..., None]
    picture: NDArray[np.float64] = _RAMP[low] * (1 - part) + _RAMP[low + 1] * part
    picture[share <= 0] = 0
    return picture


def _webp(picture: NDArray[np.float64], view: View) -> str:
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    if view.flip:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    width, height = image.size
    grow = max(1.0, min(3.0, 320 / max(width, height)))
    target = (round(width * grow), max(1, round(height * grow * view.aspect)))
    if target != image.size:
        image = image.resize(target, Image.Resampling.NEAREST if grow > 1 else Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=88, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
