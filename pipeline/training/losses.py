"""Losses in the holes: logarithms of ratios to the base fill's error, as the gain in dB is what counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_EASY = 1e-3
"""Smooth-L1 (squared normalised error / 2) below which a sample counts as solved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Terms of one batch, scalars.

    Attributes:
        fit: logarithm of smooth-L1 of the residual over that of the base fill; 0 = no better than the fill.
        gradient: the same of the L1 of finite differences.
        taught: as `fit`, with what a teacher says in place of the truth; 0 without a teacher.
        likelihood: negative log-likelihood of a Laplace distribution with the stated scale.
    """

    fit: Tensor
    gradient: Tensor
    taught: Tensor
    likelihood: Tensor


def losses(output: Tensor, target: Tensor, hole: Tensor, taught: Tensor | None = None) -> Losses:
    """Compare a network's output with the residual it should have found.

    Without balancing by the fill's own error, large holes drown points and stripes.

    Args:
        output: `(n, 2, *spatial)`, residual and log-scale in normalised units.
        target: `(n, *spatial)`, truth minus base fill in normalised units.
        hole: `(n, *spatial)`, 1 where pixels count, else 0.
        taught: what a teacher takes for `target`, None without one.
    """
    residual, log_scale = output[:, 0], output[:, 1]
    count = _sum(hole).clamp_min(1.0)
    error = (residual - target) * hole
    missed = target * hole
    before, after = _smooth(missed) / count, _smooth(error) / count
    unlike = after.new_zeros(()) if taught is None else _log_ratio(_smooth((residual - taught) * hole) / count, before)
    # The mean is detached: the scale must describe the errors, not excuse them.
    nll = _sum((error.detach().abs() * torch.exp(-log_scale) + log_scale) * hole) / count
    return Losses(
        fit=_log_ratio(after, before),
        gradient=_log_ratio(_differences(error) / count, _differences(missed) / count),
        taught=unlike,
        likelihood=nll.mean(),
    )


def _log_ratio(after: Tensor, before: Tensor) -> Tensor:
    return torch.log((after + _EASY) / (before + _EASY)).mean()


def _smooth(error: Tensor) -> Tensor:
    return _sum(functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none"))


def _sum(field: Tensor) -> Tensor:
    return field.flatten(1).sum(1)


def _differences(field: Tensor) -> Tensor:
    axes = range(1, field.ndim)
    return torch.stack([_sum(field.diff(dim=axis).abs()) for axis in axes]).sum(0)
