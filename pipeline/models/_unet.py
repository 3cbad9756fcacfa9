"""A residual convolutional encoder-decoder for one channel, 2-D or 3-D, without normalisation layers.

Batch statistics would make the result depend on the batch, instance statistics on how the image is cut into
patches; local normalisation of the input replaces both.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pipeline.models.base import require_bounded

IN_CHANNELS = 3
LOG_SCALE_RANGE = (-6.0, 4.0)
_EXACT = ("stem", "residual_head")
"""Parts that stay in float32 when the rest is bfloat16: half of the errors arise there, and 1 % of the time."""

_ONE_DNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class _Direct(_ConvNd):
    """A convolution that goes to oneDNN on every CPU where nothing is learnt.

    PyTorch sends small inputs (batch x channels x the first two extents at most 20,480, whatever the third) to a way of
    its own, which takes 2 to 8 times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_grad_enabled() or not _ONE_DNN:
            y: Tensor = super().forward(x)
            return y
        padding = tuple(int(n) for n in self.padding)
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups)


class _Conv2d(_Direct, nn.Conv2d):
    pass


class _Conv3d(_Direct, nn.Conv3d):
    pass


_CONVOLUTIONS: dict[int, type[_Conv2d] | type[_Conv3d]] = {2: _Conv2d, 3: _Conv3d}
"""By dimensions of the image."""


class _ResidualUnit(nn.Module):
    """Two convolutions, an activation between them, added to what goes in (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, ndim: int, width: int) -> None:
        super().__init__()
        units = _convolved(ndim, width, width), _convolved(ndim, width, width, activated=False)
        self.conv = nn.Sequential(OrderedDict((f"unit{k}", unit) for k, unit in enumerate(units)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.add_(x)


class ResidualUNet(nn.Module):
    """Predict the residual over the base fill and the logarithm of its scale, in normalised units.

    Input `(n, 3, *spatial)`: normalised filled values, validity, log distance to observed pixels; each extent
    a multiple of `multiple`. Output `(n, 2, *spatial)`: residual (0 at initialisation) and log-scale.

    Args:
        ndim: 2 or 3.
        widths: channels of each level, finest first; every level halves the resolution.
        bottom_units: residual units at the coarsest level.
    """

    def __init__(self, ndim: int, widths: Sequence[int], bottom_units: int = 2) -> None:
        super().__init__()
        require_bounded(ndim, widths, bottom_units)
        self.multiple = 2 ** (len(widths) - 1)
        self._lowered = False
        first = widths[0]
        steps = list(pairwise(widths))
        self.stem = _convolved(ndim, IN_CHANNELS, first)
        self.encoder = nn.ModuleList(_ResidualUnit(ndim, w) for w in widths[:-1])
        self.down = nn.ModuleList(_convolved(ndim, a, b, stride=2) for a, b in steps)
        self.bottom = nn.Sequential(*(_ResidualUnit(ndim, widths[-1]) for _ in range(bottom_units)))
        self.up = nn.ModuleList(_widened(ndim, b, a) for a, b in steps)
        self.decoder = nn.ModuleList(_ResidualUnit(ndim, w) for w in widths[:-1])
        convolution = _CONVOLUTIONS[ndim]
        self.residual_head = convolution(first, 1, 1)
        self.scale_head = nn.Sequential(_convolved(ndim, first, 16), convolution(16, 1, 1))
        for parameter in self.residual_head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(n, 2, *spatial)`; the scale head learns from the features without changing them."""
        x = self.stem(x)
        if self._lowered:
            x = x.bfloat16()
        skips = []
        for unit, down in zip(self.encoder, self.down, strict=True):
            x = unit(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for unit, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            x = unit(up(x).add_(skips.pop()))
        log_scale = self.scale_head(x.detach()).float().clamp(*LOG_SCALE_RANGE)
        if self._lowered:
            x = x.float()
        return torch.cat([self.residual_head(x).float(), log_scale], dim=1)

    def lowered(self) -> Self:
        """Return a copy that computes in bfloat16; its input and output stay float32.

        Products of bfloat16 numbers (8 bits of significand) are added up in float32 by the processor.
        """
        copy = deepcopy(self)
        for name, part in copy.named_children():
            if name not in _EXACT:
                part.to(torch.bfloat16)
        copy._lowered = True
        return copy

    def shrink_units(self, factor: float) -> None:
        """Multiply the initial weights of all residual units, so that they start close to the identity."""
        for module in self.modules():
            if isinstance(module, _ResidualUnit):
                for parameter in module.parameters():
                    parameter.data.mul_(factor)


def _convolved(ndim: int, before: int, after: int, *, stride: int = 1, activated: bool = True) -> nn.Sequential:
    """Return a convolution over 3 pixels along each axis; stored weights know it by the name `conv`."""
    parts: dict[str, nn.Module] = {"conv": _CONVOLUTIONS[ndim](before, after, 3, stride=stride, padding=1)}
    if activated:
        # in place: what a convolution gave is used nowhere else, and memory is what a pass waits for beside products
        parts["activation"] = nn.LeakyReLU(inplace=True)
    return nn.Sequential(OrderedDict(parts))


def _widened(ndim: int, coarse: int, fine: int) -> nn.Sequential:
    """Return a change of the number of channels at the coarser level, then nearest neighbours at the finer one."""
    mixed = nn.Sequential(OrderedDict({"conv": _CONVOLUTIONS[ndim](coarse, fine, 1)}))
    return nn.Sequential(mixed, nn.Upsample(scale_factor=2))
