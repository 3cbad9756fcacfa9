"""A residual convolutional encoder-decoder for one channel, 2-D or 3-D, without normalisation layers.

Batch statistics would make the result depend on the batch, instance statistics on how the image is cut into
patches; local normalisation of the input replaces both. Layers have the names of MONAI's blocks, whose weights fit;
the library itself takes longer to import than a small image to restore.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pipeline.models.base import require_bounded

IN_CHANNELS = 3
LOG_SCALE_RANGE = (-6.0, 4.0)

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


class Convolution(nn.Sequential):
    """A convolution with bias that keeps the extents, or halves them with `stride` 2, and a leaky rectifier.

    Args:
        ndim: 2 or 3.
        channels: that come in, and that go out.
        width: of the kernel on each axis, odd.
        stride: on each axis.
        bare: leave the rectifier out.
    """

    def __init__(self, ndim: int, channels: tuple[int, int], width: int = 3, stride: int = 1, *, bare: bool = False):
        kind = _Conv2d if ndim == 2 else _Conv3d
        conv = kind(*channels, kernel_size=width, stride=stride, padding=width // 2)
        super().__init__(OrderedDict(conv=conv) if bare else OrderedDict(conv=conv, act=nn.LeakyReLU()))


class ResidualUnit(nn.Module):
    """Two convolutions whose result is added to what they see (He et al. 2016, Deep residual learning)."""

    def __init__(self, ndim: int, width: int) -> None:
        super().__init__()
        first, last = Convolution(ndim, (width, width)), Convolution(ndim, (width, width), bare=True)
        self.conv = nn.Sequential(OrderedDict(unit0=first, unit1=last))

    def forward(self, x: Tensor) -> Tensor:
        """Return an array of the shape of `x`."""
        y: Tensor = self.conv(x) + x
        return y


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
        first = widths[0]
        steps = list(pairwise(widths))
        self.stem = Convolution(ndim, (IN_CHANNELS, first))
        self.encoder = nn.ModuleList(ResidualUnit(ndim, w) for w in widths[:-1])
        self.down = nn.ModuleList(Convolution(ndim, step, stride=2) for step in steps)
        self.bottom = nn.Sequential(*(ResidualUnit(ndim, widths[-1]) for _ in range(bottom_units)))
        self.up = nn.ModuleList(_widen(ndim, b, a) for a, b in steps)
        self.decoder = nn.ModuleList(ResidualUnit(ndim, w) for w in widths[:-1])
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.residual_head = conv(first, 1, 1)
        self.scale_head = nn.Sequential(Convolution(ndim, (first, 16)), conv(16, 1, 1))
        for parameter in self.residual_head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(n, 2, *spatial)`; the scale head learns from the features without changing them."""
        x = self.stem(x)
        skips = []
        for unit, down in zip(self.encoder, self.down, strict=True):
            x = unit(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for unit, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            x = unit(up(x) + skips.pop())
        log_scale = self.scale_head(x.detach()).float().clamp(*LOG_SCALE_RANGE)
        return torch.cat([self.residual_head(x).float(), log_scale], dim=1)

    def shrink_units(self, factor: float) -> None:
        """Multiply the initial weights of all residual units, so that they start close to the identity."""
        for module in self.modules():
            if isinstance(module, ResidualUnit):
                for parameter in module.parameters():
                    parameter.data.mul_(factor)


def _widen(ndim: int, coarse: int, fine: int) -> nn.Module:
    return nn.Sequential(Convolution(ndim, (coarse, fine), width=1, bare=True), nn.Upsample(scale_factor=2))
