"""The trained model: a one-channel residual autoencoder that corrects the base fill and states its scale.

Bands, components and time points go through the same network one by one, so any number of channels works. A
pass always has the same number of them, hence the same bytes in any batch. A patch can also be shown mirrored, and
the mean of what the network says counts: what depends on the direction it looks in is error (enhanced prediction,
Timofte, Rothe and Van Gool 2016, Seven ways to improve example-based single image super resolution).

Also known as: network, neural network, nn, cnn, unet, ai, deep learning.
"""

from __future__ import annotations

import hashlib
import math
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from pipeline.errors import ConfigError, PlanRefused
from pipeline.models._packed import packed
from pipeline.models._unet import ResidualUNet
from pipeline.models.base import (
    AUTO,
    BFLOAT16,
    FLOAT32,
    Card,
    Patch,
    Prediction,
    find_weights,
    read_card,
    verified,
)
from pipeline.numerics.alike import alike
from pipeline.numerics.parts import Part, parts_of
from pipeline.numerics.statistics import (
    LocalStatistics,
    depth_channels,
    depth_of,
    network_input,
    statistics_of_channels,
)
from pipeline.system import gpu
from pipeline.system.bfloat16 import has_bfloat16
from pipeline.system.meter import counted, lap
from pipeline.system.paths import shortened

Array = NDArray[np.float32]

_PASS = {"cuda": 8}
"""Channels in one forward pass, by kind of device. Convolution libraries choose another kernel, and other last bits,
for another batch size, so it is constant and the last pass is filled up. Only a GPU that is full makes it smaller."""
_TOGETHER = 2**15
"""Pixels of one forward pass on a processor, unless one channel has more: what is asked of one patch goes through
together, so that the bytes depend on the patch alone. More than its caches hold takes longer."""
_VIEWS: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((), (2, 3)),
    3: ((), (2, 3, 4)),
}
"""Axes along which a patch is mirrored, by dimensions of the image: a mirrored image gets the mirrored result.
The second look brings two thirds of what four or eight would."""
_MOST_RESIDUAL = 1e6
"""Correction by a network, in local standard deviations, above which it is broken; shipped ones stay below 1."""
_MIRRORED, _PRECISION = "test_time_augmentation", "precision"
_OPTIONS: dict[str, tuple[Any, ...]] = {_MIRRORED: (True, False), _PRECISION: (AUTO, FLOAT32, BFLOAT16)}
"""Options and their values, the default first."""


_Axes = tuple[tuple[int, ...], ...]
"""For each view, the axes that it is mirrored along."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A part of one channel of a patch, as the network sees it and in which precision, and where its answer goes."""

    x: Array
    """`(3, *part)`."""
    precision: str
    part: Part
    answer: Array
    """`(2, *patch)`; 0 where nothing was asked."""

    @property
    def kind(self) -> tuple[tuple[int, ...], str]:
        """What looks must share to go through the network together."""
        return self.x.shape, self.precision

    def take(self, said: Array) -> None:
        """Put what the network says of the part, `(2, *part)`, where it was asked."""
        into = self.answer[:, *self.part.box]
        into[:, self.part.own] = said[:, self.part.own]


class Autoencoder:
    """Loaded weights on a device; see `Inpainter`."""

    def __init__(
        self, network: ResidualUNet, card: Card, sha256: str, device: str, options: Mapping[str, Any] | None = None
    ) -> None:
        self.name = card.name
        self.sha256 = sha256
        self.ndim = card.ndim
        self.card = card
        self._device = torch.device(device)
        options = options or {}
        self.precision = _precision(device, options)
        self._views = _VIEWS[card.ndim] if options.get(_MIRRORED, True) else ((),)
        layout = torch.channels_last if card.ndim == 2 else torch.channels_last_3d
        self._layout = layout
        self._memory: dict[tuple[torch.Size, str, bytes], torch.Tensor] | None = None
        self._network = network.eval().requires_grad_(False).to(self._device).to(memory_format=layout)  # type: ignore[call-overload]
        self._networks: dict[str, ResidualUNet] = {}

    @property
    def views(self) -> int:
        """Return the number of mirror images a patch can be shown as, itself included."""
        return len(self._views)

    @cached_property
    def channels_a_pass(self) -> int:
        """Return how many channels go through a GPU at once; half as many each time that it was full."""
        return _PASS.get(self._device.type, 1)

    @property
    def reduced_to(self) -> int | None:
        """Return `channels_a_pass` if a GPU that was full made it smaller than usual, else None."""
        return self.channels_a_pass if self.channels_a_pass < _PASS.get(self._device.type, 1) else None

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """While in context, keep what is seen of each input as it is, so that mirror images of it can be added later.

        A GPU keeps nothing: it is quick, and its memory is dealt out.
        """
        self._memory = {} if self._device.type == "cpu" else None
        try:
            yield
        finally:
            self._memory = None

    def predict(self, patches: list[Patch]) -> list[Prediction]:
        """Return one prediction a patch, in order; `mean` is the patch's fill plus the residual.

        The caller sets the number of torch threads; one thread gives the same bytes on every run.
        """
        results: list[Prediction] = []
        for views, alike_patches in groupby(patches, key=lambda patch: patch.views):
            some = list(alike_patches)
            for together in [some] if self._fills_up else [[patch] for patch in some]:
                results.extend(self._predict(together, self._views[:views]))
        return results

    @property
    def _fills_up(self) -> bool:
        """Return whether all passes have the same number of channels, whatever patches they come from."""
        return self._device.type in _PASS

    def _computing(self, precision: str) -> ResidualUNet:
        """Return the network that computes in a precision, made when it is asked for first."""
        if precision not in self._networks:
            network = self._network.lowered() if precision == BFLOAT16 else self._network
            self._networks[precision] = packed(network) if self._device.type == "cpu" else network
        return self._networks[precision]

    def _predict(self, patches: list[Patch], views: _Axes) -> list[Prediction]:
        looks: list[_Look] = []
        results = []
        for patch in patches:
            precision = patch.precision or (FLOAT32,) * len(patch.filled)
            prepared = _prepare(patch)
            answers = [np.zeros((2, *patch.filled.shape[1:]), dtype=np.float32) for _ in prepared]
            results.append((patch, answers, [local for _, local in prepared]))
            for (x, _), one, parts, answer in zip(prepared, precision, _parts(patch), answers, strict=True):
                lowered = BFLOAT16 if one == BFLOAT16 else FLOAT32
                looks.extend(_Look(x[:, *part.box], lowered, part, answer) for part in parts)
        for look, said in zip(looks, self._forward(looks, views), strict=True):
            look.take(said)
        return [_prediction(*result) for result in results]

    def _forward(self, inputs: list[_Look], views: _Axes) -> list[Array]:
        """Return what the network says of each look; those of one kind go through it together."""
        outputs: dict[int, Array] = {}
        for shape, precision in sorted({one.kind for one in inputs}):
            same = [k for k, one in enumerate(inputs) if one.kind == (shape, precision)]
            while same:
                # asked once: another thread may find the GPU full meanwhile
                channels = self.channels_a_pass if self._fills_up else max(1, _TOGETHER // math.prod(shape[1:]))
                chunk = same[:channels]
                batch = np.zeros((channels if self._fills_up else len(chunk), *shape), dtype=np.float32)
                batch[: len(chunk)] = [inputs[k].x for k in chunk]
                try:
                    said = self._run(torch.from_numpy(batch), views, precision)
                except RuntimeError as error:
                    self._take_fewer(error, channels, shape)
                    said = None
                if said is None:
                    # with the error what the pass held is gone, too
                    gpu.release()
                    continue
                outputs.update(zip(chunk, said, strict=False))
                same = same[len(chunk) :]
        return [outputs[k] for k in range(len(inputs))]

    def _take_fewer(self, error: RuntimeError, channels: int, shape: tuple[int, ...]) -> None:
        """Halve the channels of a pass after an error that says that the GPU is full; another error is raised again."""
        if not gpu.is_full(error):
            raise error
        if channels == 1:
            extent = "x".join(map(str, shape[1:]))
            raise PlanRefused(
                f"the GPU has no memory for one channel of a patch of {extent} pixels; set a smaller patch.size, end "
                "what else uses the GPU, or set compute.device: cpu"
            ) from error
        self.channels_a_pass = min(self.channels_a_pass, channels // 2)

    @torch.inference_mode()
    def _run(self, batch: torch.Tensor, mirrored: _Axes, precision: str) -> Array:
        with lap("network") as done, _device_time(self._device):
            memory = self._memory if self._memory is not None else {}
            digest = hashlib.sha256(batch.numpy().data).digest() if self._memory is not None else b""
            key = (batch.shape, precision, digest)
            known = memory.get(key)
            network = self._computing(precision)
            views = [
                known if known is not None and not axes else self._seen(batch.flip(axes), network).flip(axes)
                for axes in mirrored
            ]
            memory[key] = views[0]
            result: Array = torch.stack(views).mean(dim=0).cpu().contiguous().numpy()
            done.amount = float(batch[:, 0].numel() * (len(mirrored) - (known is not None)))
        return result

    def _seen(self, batch: torch.Tensor, network: ResidualUNet) -> torch.Tensor:
        spatial = batch.shape[2:]
        margin = [m for n in reversed(spatial) for m in (0, -n % self._network.multiple)]
        x = functional.pad(batch, margin, mode="replicate")
        x[:, 1:2] = functional.pad(batch[:, 1:2], margin)
        y: torch.Tensor = network(x.to(self._device).contiguous(memory_format=self._layout))
        whole = [slice(n) for n in spatial]
        return y[:, :, *whole]


@contextmanager
def _device_time(device: torch.device) -> Iterator[None]:
    """Count how long a GPU works on what is asked of it; the results must be back at the end of the block."""
    if device.type != "cuda":
        yield
        return
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record(torch.cuda.current_stream(device))
    yield
    end.record(torch.cuda.current_stream(device))
    end.synchronize()
    counted("device", begin.elapsed_time(end) / 1000)


def open_model(weights: Path | None, *, ndim: int, device: str, options: Mapping[str, Any]) -> Autoencoder:
    """Load weights and their card.

    Args:
        weights: `.safetensors` file; see `find_weights` for names of shipped ones.
        ndim: spatial dimensions of the image, 2 or 3.
        device: `cpu`, `cuda` or `cuda:N`.
        options: `test_time_augmentation` (default true): the mean over mirrored patches where the self-test finds
            that it pays; false takes half of the network's time. `precision` (default `auto`): `float32`, `bfloat16`
            (takes half the time on processors that have it), or what the self-test finds good enough.

    Raises:
        ConfigError: no weights, no card, another hash, another architecture, other dimensions, an unknown option, or
            weights that are not finite or predict what no image holds.
        PlanRefused: a GPU is asked for and there is none, or bfloat16 where the device does not compute in it.
    """
    _check(options)
    if weights is None:
        raise ConfigError("model autoencoder: needs weights; set model.weights to a name or a file")
    weights = find_weights(weights)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PlanRefused(f"device '{device}': no CUDA device is visible; set compute.device: cpu")
    card = read_card(weights)
    if card.ndim != ndim:
        raise ConfigError(
            f"weights '{card.name}' are for {card.ndim}-D images, this one has {ndim} dimensions; "
            "set model.weights: auto"
        )
    sha256 = verified(weights, card)
    return Autoencoder(load_network(weights, card), card, sha256, device, options)


def _check(options: Mapping[str, Any]) -> None:
    takes = f"it takes {_MIRRORED}: true or false, and {_PRECISION}: auto, float32 or bfloat16"
    for name, value in options.items():
        if name not in _OPTIONS:
            raise ConfigError(f"model autoencoder: unknown option '{name}'; {takes}")
        # 1 equals True, and is not what was asked for
        if not any(value is known or (value == known and isinstance(value, str)) for known in _OPTIONS[name]):
            raise ConfigError(f"model autoencoder: {name}: {value!r} is no value of it; {takes}")


def _precision(device: str, options: Mapping[str, Any]) -> str:
    """Return the precision that the options ask for; without a choice where there is none."""
    asked: str = options.get(_PRECISION, AUTO)
    if device.startswith("cuda"):
        if asked == BFLOAT16:
            raise PlanRefused(
                f"model autoencoder: {_PRECISION}: {BFLOAT16} is for processors, a GPU computes in {FLOAT32}; leave it "
                "out, or set compute.device: cpu"
            )
        return FLOAT32
    if asked == AUTO and not has_bfloat16():
        return FLOAT32
    if asked == BFLOAT16 and not has_bfloat16():
        raise PlanRefused(
            f"model autoencoder: the processor of {socket.gethostname()} does not compute in {BFLOAT16}, which would "
            f"take 10 to 20 times as long as {FLOAT32}; leave {_PRECISION} out"
        )
    return asked


def load_network(weights: Path, card: Card) -> ResidualUNet:
    """Return the network of a weights file, on the CPU.

    Raises:
        ConfigError: another architecture than the card's, or weights that are not finite or predict what no image
            holds.
    """
    try:
        network = ResidualUNet(card.ndim, **card.architecture)
        tensors = load_file(weights)
        strange = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
        if strange:
            raise ValueError(f"{strange[0]} is {tensors[strange[0]].dtype}")
        network.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = shortened((str(error).splitlines() or [type(error).__name__])[0])
        raise ConfigError(
            f"{weights}: does not fit the architecture on its card ({reason}); fetch both files again"
        ) from None
    damaged = [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    if damaged:
        raise ConfigError(
            f"{weights}: {len(damaged)} of its layers hold numbers that are not finite (first: {damaged[0]}); the "
            "training failed or the file is damaged: fetch or train it again"
        )
    extreme = _extreme(network, card.ndim)
    if not extreme <= _MOST_RESIDUAL:
        raise ConfigError(
            f"{weights}: corrects a simple image by {extreme:.3g} local standard deviations (at most "
            f"{_MOST_RESIDUAL:g} make sense); the training failed or the file is damaged: fetch or train it again"
        )
    return network


@torch.inference_mode()
def _extreme(network: ResidualUNet, ndim: int) -> float:
    """Return the largest correction of a slope that is half observed, in local standard deviations; may be NaN."""
    extents = (network.multiple,) * ndim
    slope = torch.linspace(-2, 2, network.multiple**ndim).reshape(extents)
    valid = (slope < 0).float()
    looked_at = torch.stack([slope, valid, 1 - valid])[None]
    return float(network.eval()(looked_at)[:, 0].abs().max())


def _prepare(patch: Patch) -> list[tuple[Array, LocalStatistics]]:
    """Return network input and statistics of each channel; equal validity shares one distance transform."""
    beyond = patch.beyond
    depths = depth_channels(patch.valid, patch.spacing) if beyond is None else depth_of(beyond.distance)
    statistics = statistics_of_channels(patch.filled, patch.valid, patch.floor, beyond)
    channels = zip(patch.filled, patch.valid, statistics, depths, strict=True)
    return [(network_input(values, valid, local, depth), local) for values, valid, local, depth in channels]


def _parts(patch: Patch) -> list[list[Part]]:
    """Return the parts of each channel that the network looks at; channels that ask for the same share them."""
    whole = [Part((slice(None),) * (patch.filled.ndim - 1), np.ones(patch.filled.shape[1:], dtype=np.bool_))]
    parts = [whole] * len(patch.filled)
    if patch.asked is not None:
        for channels in alike(patch.asked):
            some = parts_of(patch.asked[channels[0]], len(channels))
            for channel in channels:
                parts[channel] = some
    return parts


def _prediction(patch: Patch, outputs: list[Array], statistics: list[LocalStatistics]) -> Prediction:
    scales = np.stack([local.scale for local in statistics])
    residual = np.stack([y[0] for y in outputs])
    # The head states the Laplace parameter b; its standard deviation is sqrt(2) b.
    spread = np.exp(np.stack([y[1] for y in outputs])) * np.float32(math.sqrt(2.0))
    mean = patch.filled + scales * residual
    return Prediction(mean=mean.astype(np.float32), scale=(scales * spread).astype(np.float32))
