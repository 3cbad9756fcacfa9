"""What masks of clouds miss: haze around them, thin cloud and shadow beside them, added to observed pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.quality.scenes import Image

HAZE = (0.5, 0.0)
"""Brightness of haze in the first and the last band, in shares of their 1-99 % range: it falls with wavelength."""


def haze_ring(rng: np.random.Generator, image: Image, hole: NDArray[np.bool_]) -> Image:
    """Add haze around the holes, strongest beside them and gone after some 20 pixels; outside the mask, as often."""
    distance = ndimage.distance_transform_edt(~hole.all(axis=0))
    patchy = ndimage.gaussian_filter(rng.normal(size=distance.shape), 12)
    amount = np.exp(-distance / 6.0) * np.clip(0.75 + 0.25 * patchy / patchy.std(), 0, None)
    return _brighter(image, hole, amount)


def thin_cloud(rng: np.random.Generator, image: Image, hole: NDArray[np.bool_]) -> Image:
    """Add patches of thin cloud that touch the holes, and darken as much on their other side."""
    distance = ndimage.distance_transform_edt(~hole.all(axis=0))
    patchy = ndimage.gaussian_filter(rng.normal(size=distance.shape), 6)
    patches = ndimage.gaussian_filter(((patchy > 0.5 * patchy.std()) & (distance < 16)).astype(np.float64), 1.5)
    shadow = np.roll(patches, (12, 12), axis=(0, 1)) * (distance < 24)
    darker = replace(image, values=_stored(image, np.where(hole, image.values, image.values * (1 - 0.35 * shadow))))
    return _brighter(darker, hole, 0.8 * patches)


def _brighter(image: Image, hole: NDArray[np.bool_], amount: NDArray[np.float64]) -> Image:
    reach = np.ptp(np.percentile(image.values[:, image.counted], (1, 99), axis=1), axis=0)
    bands = np.linspace(*HAZE, len(image.values)) * reach
    added = image.values + bands[:, None, None] * amount
    return replace(image, values=_stored(image, np.where(hole | image.hidden, image.values, added)))


def _stored(image: Image, values: NDArray[np.float64]) -> NDArray[Any]:
    kind = image.values.dtype
    if kind.kind in "iu":
        values = np.clip(np.rint(values), np.iinfo(kind).min, np.iinfo(kind).max)
    return values.astype(kind)
