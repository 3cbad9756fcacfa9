"""The methods to beat: every classical fill of a family, and a plain reference regression of the benchmark's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.quality.scenes import Image
from pipeline.fills.base import FillSpec, Window

Array = NDArray[np.float32]
REGRESSION, CLUSTERS, COPY = "regression + spline", "clusters + ridge + spline residual", "copy"
TIME = "mean of the time points beside it"
_ISOTROPIC = " isotropic=True"
_KINDS, _POOLED = 8, 50.0
"""Clusters of pixels, and the pixels' worth of evidence that pulls each cluster's map to that of the whole image."""
Relate = Callable[[NDArray[np.float64], Array, NDArray[np.bool_]], NDArray[np.float64]]


def classical_fills(image: Image) -> list[FillSpec]:
    """Return the single-image fills that compete on images like this one."""
    if image.values.ndim == 3:
        return [
            FillSpec("nearest"),
            FillSpec("harmonic"),
            *(FillSpec("tension", {"t": t}) for t in (0.1, 0.5, 0.75, 0.9, 1.0)),
        ]
    tensions = [FillSpec("tension", {"t": t}) for t in (0.9, 0.95, 1.0)]
    if max(image.spacing) > 1.01 * min(image.spacing):
        tensions += [FillSpec("tension", {**spec.options, "isotropic": True}) for spec in tensions]
    through = [FillSpec("through", {"order": order}) for order in ("linear", "cubic")]
    return [FillSpec("nearest"), FillSpec("harmonic"), *tensions, *through]


def estimates(image: Image, hole: NDArray[np.bool_]) -> dict[str, Array]:
    """Return what every method makes of the holes, by name; float32 `(c, *spatial)`."""
    window = window_of(image, hole)
    found = {spec.label: spec(window) for spec in classical_fills(image)}
    if image.values.ndim == 4:
        # on cubic voxels the unit of length changes nothing, but families mix cubic and other voxels
        cubic = {f"{name}{_ISOTROPIC}": values for name, values in found.items() if name.startswith("tension")}
        found = {name: values for name, values in cubic.items() if _ISOTROPIC * 2 not in name} | found
    if image.guides:
        found |= {
            REGRESSION: regression(image, window),
            CLUSTERS: clusters(image, window),
            COPY: copied(image, window),
        }
    if image.values.ndim == 4 and len(image.values) > 2:
        found[TIME] = beside_in_time(window)
    return found


def estimate_of(image: Image, hole: NDArray[np.bool_], method: str) -> Array:
    """Return what one single-image fill makes of the holes."""
    window = window_of(image, hole)
    if method == TIME:
        return beside_in_time(window)
    specs = {spec.label: spec for spec in classical_fills(image)}
    return (specs.get(method) or specs[method.removesuffix(_ISOTROPIC)])(window)


def window_of(image: Image, hole: NDArray[np.bool_]) -> Window:
    """Return the image with its holes as the fills take it; real clouds are holes, too."""
    missing = hole | image.hidden
    values = np.where(missing, 0, image.values).astype(np.float32)
    return Window(values=values, valid=~missing, hole=missing, spacing=image.spacing)


def as_stored(values: Array, dtype: np.dtype) -> Array:
    """Round and clip as the file's type would."""
    if dtype.kind not in "iu":
        return values.astype(np.float32)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(np.float32)


def beside_in_time(window: Window) -> Array:
    """Return the mean of the nearest volumes before and after that have the voxel."""
    result = window.values.copy()
    for c in range(len(result)):
        sides = [k for k in (c - 1, c + 1) if 0 <= k < len(result)]
        weight = window.valid[sides].astype(np.float32)
        mean = (weight * window.values[sides]).sum(0) / np.maximum(weight.sum(0), 1)
        result[c] = np.where(window.hole[c], mean, result[c])
    return result


def copied(image: Image, window: Window) -> Array:
    """Paste the first guide, scaled to each channel's mean and spread where it has other channels."""
    guide = image.guides[0].values.astype(np.float32)
    if len(guide) != len(window.values):
        guide = np.repeat(guide[:1], len(window.values), axis=0)
    if image.guides[0].auxiliary:
        both = window.valid.all(axis=0)
        for c, band in enumerate(guide):
            source, target = band[both], window.values[c][both]
            guide[c] = (band - source.mean()) / max(float(source.std()), 1e-9) * target.std() + target.mean()
    return np.where(window.hole, guide, window.values)


def regression(image: Image, window: Window) -> Array:
    """Multi-band ridge, then local regression, then the spline of the residual."""
    return guided(image, window, _ridge, local=True)


def clusters(image: Image, window: Window) -> Array:
    """Ridge maps of clusters, then the spline of the residual; in volumes a local one between."""
    return guided(image, window, _clusters, local=image.values.ndim == 4)


def guided(image: Image, window: Window, relate: Relate, *, local: bool, sigma: float = 12.0) -> Array:
    """Relate all bands of all guides, regress locally, add the spline of the residual: what an analyst would script.

    Pixels that a guide's own mask hides get the single-image spline.

    Args:
        image: with its guides.
        window: the image with its holes.
        relate: predicts the image everywhere from guides, observed values and where both are seen.
        local: correct the prediction by a line in a window around each pixel.
        sigma: width of that window in steps of the finest axis.
    """
    guide = np.concatenate([g.values.astype(np.float64) for g in image.guides])
    seen = np.ones(guide.shape[1:], dtype=bool)
    for g in image.guides:
        seen &= True if g.hidden is None else ~g.hidden
    spline = FillSpec("tension", {"t": 0.5 if seen.ndim == 2 else 0.95})
    common = window.valid.all(axis=0) & seen
    fit = relate(guide, window.values, common)
    if local:
        widths = [sigma * min(image.spacing) / s for s in image.spacing]
        both = zip(window.values, fit, strict=True)
        fit = np.stack([_local(y.astype(np.float64), x, common, widths) for y, x in both])
    fit = fit.astype(np.float32)
    valid = window.valid & seen
    rest = replace(
        window,
        values=np.where(valid, window.values - fit, 0).astype(np.float32),
        valid=valid,
        hole=window.hole & seen,
    )
    estimate = fit + spline(rest)
    return np.where(window.hole & seen, estimate, spline(window)).astype(np.float32)


def _clusters(guide: NDArray[np.float64], target: Array, common: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a linear map in each of eight k-means clusters of all bands, shrunk to that of the whole image."""
    flat = guide.reshape(len(guide), -1)
    known = common.ravel()
    spread = np.maximum(flat[:, known].std(axis=1, keepdims=True), 1e-9)
    z = (flat - flat[:, known].mean(axis=1, keepdims=True)) / spread
    centres = _means(z[:, known][:, :: max(1, int(known.sum()) // 20_000)])
    kind = ((z[None] - centres[:, :, None]) ** 2).sum(axis=1).argmin(axis=0)
    whole = _ridge(guide, target, common).reshape(len(target), -1)
    left = target.reshape(len(target), -1) - whole
    design = np.concatenate([np.ones((1, z.shape[1])), z])
    for k in range(len(centres)):
        some = known & (kind == k)
        gram = design[:, some] @ design[:, some].T + _POOLED * np.eye(len(design))
        step = np.linalg.solve(gram, design[:, some] @ left[:, some].T)
        whole[:, kind == k] += step.T @ design[:, kind == k]
    return np.asarray(whole.reshape(len(target), *guide.shape[1:]))


def _means(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `_KINDS` centres `(k, bands)` of k-means on `(bands, n)`, started along the first principal axis."""
    axis = np.linalg.eigh(z @ z.T)[1][:, -1]
    order = np.argsort(axis @ z, kind="stable")
    centres = np.stack([z[:, part].mean(axis=1) for part in np.array_split(order, _KINDS)])
    for _ in range(25):
        kind = ((z[None] - centres[:, :, None]) ** 2).sum(axis=1).argmin(axis=0)
        centres = np.stack([z[:, kind == k].mean(axis=1) if (kind == k).any() else c for k, c in enumerate(centres)])
    return centres


def _ridge(guide: NDArray[np.float64], target: Array, common: NDArray[np.bool_]) -> NDArray[np.float64]:
    x, y = guide[:, common], target[:, common].astype(np.float64)
    centre, spread = x.mean(axis=1, keepdims=True), np.maximum(x.std(axis=1, keepdims=True), 1e-9)
    x = (x - centre) / spread
    level = y.mean(axis=1, keepdims=True)
    gram = np.einsum("in,jn->ij", x, x) + 1e-3 * x.shape[1] * np.eye(len(x))
    weights = np.linalg.solve(gram, np.einsum("in,jn->ij", x, y - level))
    flat = (guide.reshape(len(guide), -1) - centre) / spread
    return np.asarray(np.einsum("ij,in->jn", weights, flat) + level).reshape(len(target), *guide.shape[1:])


def _local(
    y: NDArray[np.float64], x: NDArray[np.float64], common: NDArray[np.bool_], widths: list[float]
) -> NDArray[np.float64]:
    """Return the line of `y` over `x` fitted in a Gaussian window around each pixel, at `x`."""
    weight = common.astype(np.float64)
    level_x, level_y = x[common].mean(), y[common].mean()
    dx, dy = x - level_x, np.where(common, y - level_y, 0.0)
    # a trace of the whole image, for pixels deep in a hole
    trace = 1e-4

    def mean(part: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred = ndimage.gaussian_filter(weight * part, widths, mode="nearest") + trace * part[common].mean()
        return np.asarray(blurred / (ndimage.gaussian_filter(weight, widths, mode="nearest") + trace))

    mx, my = mean(dx), mean(dy)
    prior = 0.02 * dx[common].var() + 1e-12
    slope = (mean(dx * dy) - mx * my + prior) / (np.maximum(mean(dx * dx) - mx**2, 0) + prior)
    return np.asarray(my + slope * (dx - mx) + level_y)
