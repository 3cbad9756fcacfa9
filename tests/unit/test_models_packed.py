"""Networks made ready for a processor say what they said before, to the last bit."""

import pytest
import torch
from monai.networks.blocks import ResidualUnit
from torch import nn

from pipeline.models import _packed
from pipeline.models._packed import packed
from pipeline.models._unet import ResidualUNet
from pipeline.system.bfloat16 import has_bfloat16

SHAPES = {2: ((8, 8), (24, 40), (72, 64)), 3: ((8, 8, 16), (24, 16, 24))}


def _network(ndim, widths):
    torch.manual_seed(1)
    network = ResidualUNet(ndim, widths).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.1)
    return network.to(memory_format=torch.channels_last if ndim == 2 else torch.channels_last_3d)


def _said(network, ndim):
    layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
    with torch.inference_mode():
        inputs = [torch.randn(n, 3, *shape) for n in (1, 3) for shape in SHAPES[ndim]]
        return [network(x.contiguous(memory_format=layout)).numpy().tobytes() for x in inputs]


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize(("ndim", "widths"), [(2, (16, 32, 64, 128)), (2, (24, 48, 96)), (3, (8, 16, 32))])
def test_the_same_bytes_for_parts_of_any_size(ndim, widths, low):
    """Also where oneDNN asks for another order of weights in small parts; the network itself is left as it is."""
    if low and not has_bfloat16():
        pytest.skip("no bfloat16 in hardware")
    network = _network(ndim, widths)
    network = network.lowered() if low else network
    ready = packed(network)
    for seed in range(2):
        torch.manual_seed(seed)
        before = _said(network, ndim)
        torch.manual_seed(seed)
        assert _said(ready, ndim) == before
    assert not any(isinstance(part, _packed._Step) for part in network.modules())


def test_units_add_to_what_their_convolutions_gave():
    """MONAI's would make one more array of a level's size each time; a unit that changes channels stays as it is."""
    network = nn.Sequential(
        ResidualUnit(2, 8, 8, norm=None, act="leakyrelu"), ResidualUnit(2, 8, 4, norm=None, act="leakyrelu")
    ).eval()
    x = torch.randn(1, 8, 16, 16)
    with torch.inference_mode():
        before = network(x.clone())
        ready = packed(network)
        assert torch.equal(ready(x), before)
    assert [type(part) for part in ready] == [_packed._Residual, ResidualUnit]


def _steps(network):
    return [part for part in packed(network).modules() if isinstance(part, _packed._Step)]


@pytest.mark.skipif(not _packed.ONE_DNN, reason="no oneDNN")
def test_weights_are_in_order_only_where_that_is_no_slower(monkeypatch):
    """Else a convolution stays as it is, as it does where oneDNN is not there."""
    network = _network(2, (16, 32))
    torch.manual_seed(0)
    before = _said(network, 2)
    seconds = iter([1.0, 9.0] * 1000)
    monkeypatch.setattr(_packed, "_seconds", lambda _: next(seconds))
    in_order = _steps(network)
    assert all(step._product.__name__ == "product" for step in in_order)
    slow = iter([9.0, 1.0] * 1000)
    monkeypatch.setattr(_packed, "_seconds", lambda _: next(slow))
    assert not any(step._product.__name__ == "product" for step in _steps(network))
    monkeypatch.setattr(_packed, "ONE_DNN", False)
    assert len(_steps(network)) == len(in_order)
    torch.manual_seed(0)
    assert _said(packed(network), 2) == before
