"""A residual convolutional encoder-decoder for one channel, 2-D or 3-D, without normalisation layers.

Batch statistics would make the result depend on the batch, instance statistics on how the image is cut into
patches; local normalisation of the input replaces both.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Self

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pipeline.models.base import require_bounded

IN_CHANNELS = 3
LOG_SCALE_RANGE = (-6.0, 4.0)
_EXACT = ("stem", "residual_head")
"""Parts that stay in float32 when the rest is bfloat16: half of the errors arise there, and 1 % of the time."""

_ACTIVATION = ("LEAKYRELU", {"inplace": True})
"""In place: what a convolution gave is used nowhere else, and memory is what a pass waits for beside products."""

ONE_DNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class _Direct(_ConvNd):
    """A convolution that goes to oneDNN on every CPU where nothing is learnt.

    PyTorch sends small inputs (batch x channels x the first two extents at most 20,480, whatever the third) to a way of
    its own, which takes 2 to 8 times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_grad_enabled() or not ONE_DNN:
            y: Tensor = super().forward(x)
            return y
        padding = tuple(int(n) for n in self.padding)
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups)


class _Conv2d(_Direct, nn.Conv2d):
    pass


class _Conv3d(_Direct, nn.Conv3d):
    pass


_DIRECT: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: _Conv2d, nn.Conv3d: _Conv3d}


class ResidualUNet(nn.Module):
    """Predict the residual over the base fill and the logarithm of its scale, in normalised units.

    Input `(n, 3, *spatial)`: normalised filled values, validity, log distance to observed pixels; each extent
    a multiple of `multiple`. Output `(n, 2, *spatial)`: residual (0 at initialisation) and log-scale.

    Args:
        ndim: 2 or 3.
        widths: channels of each level, finest first; every level halves the resolution.
        bottom_units: residual units at the coarsest level.
        unshuffle: pixels along each axis that the finest level sees as channels of one (Shi et al. 2016, sub-pixel
            convolution, doi:10.1109/CVPR.2016.207, and its inverse); 1: each by itself.
    """

    def __init__(self, ndim: int, widths: Sequence[int], bottom_units: int = 2, unshuffle: int = 1) -> None:
        super().__init__()
        require_bounded(ndim, widths, bottom_units, unshuffle)
        self.multiple = unshuffle * 2 ** (len(widths) - 1)
        self._unshuffle = unshuffle
        pixels = unshuffle**ndim
        self._lowered = False
        first = widths[0]
        steps = list(pairwise(widths))
        self.stem = Convolution(ndim, IN_CHANNELS * pixels, first, norm=None, act=_ACTIVATION)
        self.encoder = nn.ModuleList(_unit(ndim, w) for w in widths[:-1])
        self.down = nn.ModuleList(Convolution(ndim, a, b, strides=2, norm=None, act=_ACTIVATION) for a, b in steps)
        self.bottom = nn.Sequential(*(_unit(ndim, widths[-1]) for _ in range(bottom_units)))
        self.up = nn.ModuleList(_widen(ndim, b, a) for a, b in steps)
        self.decoder = nn.ModuleList(_unit(ndim, w) for w in widths[:-1])
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.residual_head = conv(first, pixels, 1)
        self.scale_head = nn.Sequential(Convolution(ndim, first, 16, norm=None, act=_ACTIVATION), conv(16, pixels, 1))
        for parameter in self.residual_head.parameters():
            nn.init.zeros_(parameter)
        for module in self.modules():
            # MONAI chooses the class of its convolutions
            if type(module) in _DIRECT:
                module.__class__ = _DIRECT[type(module)]

    def forward(self, x: Tensor) -> Tensor:
        """Return `(n, 2, *spatial)`; the scale head learns from the features without changing them."""
        x = self.stem(pixelunshuffle(x, x.dim() - 2, self._unshuffle))
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
        said = torch.stack([self.residual_head(x).float(), log_scale], dim=1)
        y: Tensor = pixelshuffle(said.flatten(1, 2), x.dim() - 2, self._unshuffle)
        return y

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
            if isinstance(module, ResidualUnit):
                for parameter in module.parameters():
                    parameter.data.mul_(factor)


def _unit(ndim: int, width: int) -> nn.Module:
    unit: nn.Module = ResidualUnit(ndim, width, width, subunits=2, norm=None, act=_ACTIVATION, last_conv_only=True)
    return unit


def _widen(ndim: int, coarse: int, fine: int) -> nn.Module:
    return nn.Sequential(Convolution(ndim, coarse, fine, kernel_size=1, conv_only=True), nn.Upsample(scale_factor=2))
