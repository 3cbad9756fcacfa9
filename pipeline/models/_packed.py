"""A network as processors are asked: weights in oneDNN's own order, and no layers around the convolutions.

A pass over a small part of a patch takes 2 ms, most of which goes into bringing the weights of each convolution into
that order and into finding the way through nested layers. Both are done once here. The products are those of the
network itself, and so are the bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import TypeVar

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pipeline.models._unet import ONE_DNN

_EXTENT = {2: 32, 3: 16}
"""Extent of what a level sees of a part, pixels, by dimensions, that weights are brought into the order for."""

_SMALL = 4
"""Extent that is tried with it, too."""

_OTHERWISE = 2.0
"""Times that a convolution may take with weights in one order over what it takes without. Where oneDNN asks for another
order in smaller parts, as it does for 48 and 96 channels, general code takes 10 to 50 times."""

_Product = Callable[[Tensor], Tensor]
_Network = TypeVar("_Network", bound=nn.Module)


class _Step(nn.Module):
    """A convolution and the rectifier after it, if there is one."""

    def __init__(self, product: _Product, slope: float | None) -> None:
        super().__init__()
        self._product, self._slope = product, slope

    def forward(self, x: Tensor) -> Tensor:
        y = self._product(x)
        return y if self._slope is None else nn.functional.leaky_relu_(y, self._slope)


class _Residual(nn.Module):
    """A residual unit that adds to what its convolutions gave, in place."""

    def __init__(self, products: nn.Module) -> None:
        super().__init__()
        self._products = products

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._products(x)
        return y.add_(x)


@torch.inference_mode()
def packed(network: _Network) -> _Network:
    """Return a network on the CPU that gives the same bytes sooner, where nothing is learnt.

    It cannot be copied or pickled.
    """
    copy = deepcopy(network)
    _pack(copy)
    return copy


def _pack(module: nn.Module) -> None:
    for name, part in module.named_children():
        if isinstance(part, Convolution):
            slopes = [one.negative_slope for one in part.modules() if isinstance(one, nn.LeakyReLU)]
            setattr(module, name, _Step(_soonest(part.conv), next(iter(slopes), None)))
        elif isinstance(part, _ConvNd):
            setattr(module, name, _Step(_soonest(part), None))
        else:
            _pack(part)
            if isinstance(part, ResidualUnit) and isinstance(part.residual, nn.Identity):
                setattr(module, name, _Residual(part.conv))


def _soonest(convolution: _ConvNd) -> _Product:
    """Return a convolution, or the same with its weights in order unless that takes twice as long for small parts."""
    if not (ONE_DNN and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return convolution.forward
    weight, bias = convolution.weight, convolution.bias
    ndim = weight.dim() - 2
    # oneDNN orders weights for channels that lie side by side at each pixel only if their own do
    layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
    padding, stride = [int(n) for n in convolution.padding], list(convolution.stride)
    how = padding, stride, list(convolution.dilation), convolution.groups
    shape = [1, weight.shape[1], *[_EXTENT[ndim]] * ndim]
    ordered = torch.ops.mkldnn._reorder_convolution_weight(weight.contiguous(memory_format=layout), *how, shape)

    def product(x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, ordered, bias, *how, "none", [], "")
        return y

    x = weight.new_zeros(1, weight.shape[1], *[_SMALL] * ndim).contiguous(memory_format=layout)
    pays = _seconds(partial(product, x)) < _OTHERWISE * _seconds(partial(convolution, x))
    return product if pays else convolution.forward


def _seconds(call: Callable[[], Tensor]) -> float:
    """Return what a call takes of this thread's processor, the least of three: preparing does not count."""
    least = float("inf")
    for _ in range(3):
        begin = time.thread_time()
        call()
        least = min(least, time.thread_time() - begin)
    return least
