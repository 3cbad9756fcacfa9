"""Values -> pictures `(rows, columns, 3)` of 0 to 255 -> WebP in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DOUBT_COLOUR = (60, 120, 255)
"""Observed pixels that are no evidence."""

HAZE_COLOUR = (150, 200, 255)
"""Observed pixels that are evidence without the haze or shadow over them."""

RAMP = np.array([[8, 8, 40], [80, 18, 123], [182, 54, 121], [251, 136, 97], [252, 253, 191]], dtype=np.float64)
"""Dark blue, violet, orange, pale yellow; readable in grey and by colour-blind readers."""

_EFFORT = 2
"""Of WebP, 0 to 6: half the time of its usual 4, for pictures of a tenth more bytes."""

_GAP = 2
_SMALL = 20_000
"""Pictures of fewer pixels are stored without loss."""


def webp(picture: NDArray[np.float64], quality: int) -> str:
    """Return a picture `(rows, columns, 3)` of 0 to 255 as a data URI; its proportions are those of the page."""
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    stream = io.BytesIO()
    # thinning out colours would smear what is only a few pixels wide
    image.save(stream, "WEBP", quality=quality, method=_EFFORT, lossless=image.width * image.height < _SMALL)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def beside(pictures: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> bytes:
    """Return pictures `(rows, columns, 3)` beside each other as one small WebP, each of a `(width, height)`."""
    row = Image.new("RGB", (len(pictures) * size[0] + _GAP * (len(pictures) - 1), size[1]), "white")
    for k, picture in enumerate(pictures):
        image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
        row.paste(image, (k * (size[0] + _GAP), 0))
    stream = io.BytesIO()
    row.save(stream, "WEBP", quality=60, method=_EFFORT)
    return stream.getvalue()


def tinted(
    picture: NDArray[np.float64], where: NDArray[np.bool_], colour: Sequence[int], share: float
) -> NDArray[np.float64]:
    """Return a picture `(rows, columns, 3)` with a colour over part `(rows, columns)` of it; `share` 1 hides it."""
    tinted = picture.copy()
    tinted[where] = (1 - share) * tinted[where] + share * np.asarray(colour, dtype=np.float64)
    return tinted


def stretch(values: NDArray[Any], observed: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 2nd and the 98th percentile of each channel of `(c, rows, columns)`, each `(c, 1, 1)`."""
    use = observed if observed.any() else np.ones_like(observed)
    pairs = []
    for channel in _wide(values):
        finite = channel[use & np.isfinite(channel)]
        pairs.append(np.percentile(finite, (2, 98)) if finite.size else (0.0, 1.0))
    low, high = np.asarray(pairs).T.reshape(2, -1, 1, 1)
    # beyond 2^53 one more is the same number
    return low, np.where(high > low, high, np.maximum(low + 1, np.nextafter(low, np.inf)))


def _wide(values: NDArray[Any]) -> NDArray[np.float64]:
    # NaNs that signal, which files may hold, are no fault of this program
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def colour(values: NDArray[Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one or three channels `(c, rows, columns)` between `low` and `high` as a picture."""
    scaled = np.clip(np.nan_to_num((_wide(values) - low) / (high - low)), 0, 1) * 255
    return np.moveaxis(np.broadcast_to(scaled, (3, *scaled.shape[1:])), 0, -1).copy()


def ramp(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares `(rows, columns)` of 0 to 1 in the colours of `RAMP`, black at 0 and where there is none (NaN)."""
    share = np.nan_to_num(share, nan=0.0)
    position = np.clip(share, 0, 1) * (len(RAMP) - 1)
    low = np.minimum(position.astype(int), len(RAMP) - 2)
    part = (position - low)[..., None]
    picture: NDArray[np.float64] = RAMP[low] * (1 - part) + RAMP[low + 1] * part
    picture[share <= 0] = 0
    return picture


def css(colour: Sequence[float]) -> str:
    """Return a colour as CSS."""
    return "rgb({:.0f} {:.0f} {:.0f})".format(*colour)
