"""What a model promises.

A model module (its file name is the `kind`) offers::

    def open_model(weights: Path | None, *, ndim: int, device: str, options: Mapping[str, Any]) -> Inpainter

and, if it is no trained network, `TRAITS`, see `Traits`.
Models see patches of one constant spatial shape in data units; local normalisation is their own affair.

Weights are a `.safetensors` file with a YAML card of the same stem beside it. The card says what the weights
are for, how they were made and their SHA-256; weights without a card or with another hash are refused.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ConfigError, IntegrityError, PlanRefused
from pipeline.numerics.beyond import Beyond
from pipeline.registry import load
from pipeline.system.bfloat16 import has_bfloat16
from pipeline.system.paths import describe, kind_of, shortened, state_of
from pipeline.system.yaml_files import nearest, read_text, read_yaml

WEIGHTS = Path(__file__).parent.parent / "weights"
FLOAT32, BFLOAT16, AUTO = "float32", "bfloat16", "auto"
"""In which precision a network computes; `auto`: the self-test decides, and itself looks in float32."""
_MOST_BYTES = 2**30
"""Of a weights file, which is read as a whole; those that come with the package have 3 MB."""
_MOST_PARAMETERS, _MOST_LEVELS, _MOST_UNITS = 2**26, 6, 64
_UNSHUFFLES = (1, 2, 4)
"""Of a network: a card is believed only so far, because a network takes its memory before its weights are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What the network sees.

    Attributes:
        filled: float32 `(c, *patch)` data units; observed values, the base fill in holes. Patches may differ in shape.
        valid: bool `(c, *patch)`; True = observed. False in holes and never-touch pixels.
        spacing: step per spatial axis (mm for volumes, 1 for rasters).
        floor: smallest local scale to divide by, per channel, in data units (stored quantum and 1 % of the
            robust range of the file).
        views: mirror images that the mean is taken over, for models that have some; None = all of them.
        precision: in which a model that has several looks at each channel, see `Inpainter`; `auto` is float32, and so
            is an empty one.
        asked: bool `(c, *patch)`, the pixels whose prediction counts; None = all. A model may spare the others and
            return what it likes there, as long as it is finite.
        beyond: what the whole image says of a patch whose holes go on beyond it, its `distance` as exact as it is
            known; None = the patch shows all there is to know.
    """

    filled: NDArray[np.float32]
    valid: NDArray[np.bool_]
    spacing: tuple[float, ...]
    floor: NDArray[np.float32]
    views: int | None = None
    precision: tuple[str, ...] = ()
    asked: NDArray[np.bool_] | None = None
    beyond: Beyond | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What it says.

    Attributes:
        mean: float32 `(c, *patch)` data units; the estimate (base fill plus residual).
        scale: float32 `(c, *patch)` data units, > 0; uncalibrated standard error.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How the models of a module take part in a run; without any, as a trained network that the self-test weighs."""

    weighed: bool = True
    """It competes in the self-test. Else it takes the place of the restoration in every hole, as models do that test
    the engine."""
    has_weights: bool = True
    """It is made from a weights file."""
    sees_stored: bool = False
    """Holes show it what the file stores there, not a fill."""
    absolute: bool = False
    """What it predicts are stored values: nothing is subtracted from the image before."""


class Inpainter(Protocol):
    """A trained or trivial model. Deterministic: the same patch gives the same bytes in any batch.

    A model may have `views`, the number of mirror images it can look at (see `Patch`), 1 without, and `remembering()`,
    a context in which it need not look twice at what is only shown with more of them. One that can compute in
    bfloat16 has a `precision`: what its options ask for, `auto` only where the processor has such arithmetic. One
    that runs on a GPU may have `channels_a_pass`, of which its memory there is a multiple, and `reduced_to`: that
    number if a GPU that was full made it smaller than usual, else None.
    """

    name: str
    sha256: str
    """Hash of the weights; the model's name for models without weights."""
    ndim: int

    def predict(self, patches: list[Patch]) -> list[Prediction]:
        """Return one prediction a patch, in order."""
        ...


def reduced_to(model: Inpainter | None) -> int | None:
    """Return how many channels a model takes a pass if a GPU that was full made it fewer than usual, else None."""
    reduced: int | None = getattr(model, "reduced_to", None)
    return reduced


def precision_of(model: Inpainter | None) -> str:
    """Return the precision that the options of a model ask for; float32 for models that have no other."""
    precision: str = getattr(model, "precision", FLOAT32)
    return precision


def require_precision(precision: Sequence[str], path: str) -> None:
    """Refuse to compute here in bfloat16, for the image `path`, what took its place in a plan, if that takes too long.

    Raises:
        PlanRefused: the processor has no such arithmetic; names the machine, and what to do.
    """
    if BFLOAT16 in precision and not has_bfloat16():
        raise PlanRefused(
            f"{path}: its run computes the network in bfloat16, which the processor of {socket.gethostname()} has not "
            "(it would take 10 to 20 times as long, and give other last digits): go on where it was begun, or run "
            "again with --overwrite and --set=model.options.precision=float32"
        )


def take_fewer(model: Inpainter, channels: int) -> None:
    """Have a model take no more channels a pass than the same one in another process, whose GPU was full."""
    usual: int | None = getattr(model, "channels_a_pass", None)
    if usual is not None and channels < usual:
        model.channels_a_pass = channels  # type: ignore[attr-defined]


def reduced_notice(channels: int) -> str:
    """Return what the user should know of a network that takes only `channels` a pass."""
    return (
        f"the GPU was full: the network takes {channels} channels a pass where that happens, which is slower and may "
        "change last digits; end what else uses the GPU, or set a smaller patch.size"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What it takes to open a model again, in any process; see `open_model` above."""

    kind: str
    weights: str | None
    """Path of the file."""
    sha256: str
    """What the model must have for its `sha256`."""
    ndim: int
    device: str
    options: Mapping[str, Any]

    def open(self) -> Inpainter:
        """Open it.

        Raises:
            IntegrityError: the weights are others than they were.
            ConfigError, PlanRefused: as `open_model`.
        """
        weights = Path(self.weights) if self.weights else None
        model: Inpainter = load("models", self.kind).open_model(
            weights, ndim=self.ndim, device=self.device, options=self.options
        )
        if model.sha256 != self.sha256:
            raise IntegrityError(
                f"{self.weights or self.kind}: the weights changed since the plan was made, from {self.sha256[:12]} to "
                f"{model.sha256[:12]}; put the old ones back, or run again with --overwrite to start afresh"
            )
        return model


class Portable:
    """A model that goes to another process as its `Opening`, and is opened there once."""

    def __init__(self, model: Inpainter, opening: Opening) -> None:
        self._model, self._opening = model, opening

    def __getattr__(self, name: str) -> Any:
        """Return what the model has."""
        return getattr(self._model, name)

    @property
    def channels_a_pass(self) -> int:
        """Return what the model has under that name, which others may lower."""
        return self._model.channels_a_pass  # type: ignore[attr-defined, no-any-return]

    @channels_a_pass.setter
    def channels_a_pass(self, channels: int) -> None:
        self._model.channels_a_pass = channels  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Callable[..., Inpainter], tuple[str, ...]]:
        """Leave tensors where they are."""
        return _opened_once, (json.dumps(asdict(self._opening), sort_keys=True),)


@lru_cache(maxsize=1)
def _opened_once(opening: str) -> Inpainter:
    return Opening(**json.loads(opening)).open()


class Card(BaseModel):
    """What a YAML card beside a weights file says; unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="Name for configs and tables.")
    summary: str = Field(default="", description="One line: what images, what holes.")
    kind: str = Field(default="autoencoder", description="Module in pipeline/models that can load it.")
    ndim: int = Field(description="2 for rasters, 3 for volumes.", ge=2, le=3)
    suits: str = Field(default="", description="`hounsfield`: chosen by itself for computed tomography.")
    sha256: str = Field(description="Of the weights file; the first 12 digits are enough.", min_length=12)
    architecture: Mapping[str, Any] = Field(default_factory=dict, description="Arguments of the network.")
    base_fill: Mapping[str, Any] = Field(default_factory=dict, description="Fill that it was trained over.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """Weights that come with the package: `name` in configs, spatial dimensions, card, file."""

    name: str
    ndim: int
    card: Card
    path: Path


def shipped() -> tuple[Shipped, ...]:
    """Return the weights that come with the package, sorted by name; reads only the cards."""
    found = []
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        card = read_card(path)
        found.append(Shipped(name=path.stem, ndim=card.ndim, card=card, path=path))
    return tuple(found)


def find_weights(name_or_path: str | Path) -> Path:
    """Return the weights file that a name of shipped weights, or a path, stands for.

    Raises:
        ConfigError: no such name or file (names the shipped ones), no regular file, or one of more than 1 GiB.
    """
    text = str(name_or_path)
    names = [p.stem for p in sorted(WEIGHTS.glob("*.safetensors"))]
    if text in names:
        return WEIGHTS / f"{text}.safetensors"
    what = kind_of(text)
    if what == "file":
        size = Path(text).stat().st_size
        if size > _MOST_BYTES:
            raise ConfigError(f"weights '{text}': have {size} bytes, more than the {_MOST_BYTES} that are read")
        return Path(text)
    problem = f"are {describe(text)}; give a file" if what else "no such file"
    raise ConfigError(
        f"weights '{shortened(text)}': {problem}, and no such name{nearest(text, names)} "
        f"(shipped: {', '.join(names) or 'none'})"
    )


def read_card(weights: Path) -> Card:
    """Read the card beside a weights file.

    Raises:
        ConfigError: there is none, or a key is missing or wrong.
    """
    path = _card_path(weights)
    return _read_card(path, state_of(path))


@lru_cache(maxsize=16)
def _read_card(path: Path, _state: tuple[int, ...]) -> Card:
    try:
        return Card.model_validate(read_yaml(path).data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}; correct the card") from None


def card_text(name_or_path: str | Path) -> str:
    """Return the text of the card of some weights, as it stands in its file.

    Raises:
        ConfigError: no such weights, no card beside them, or one that cannot be read.
    """
    return read_text(_card_path(find_weights(name_or_path)))


def _card_path(weights: Path) -> Path:
    path = weights.with_suffix(".yaml")
    if not kind_of(path):
        raise ConfigError(f"{weights}: no card {path.name} beside it; keep the two files together")
    return path


def require_bounded(ndim: int, widths: Sequence[int], bottom_units: int, unshuffle: int = 1) -> None:
    """Refuse a network that no image needs, before memory is taken for it.

    Args:
        ndim: 2 or 3.
        widths: channels of each level, finest first.
        bottom_units: residual units at the coarsest level.
        unshuffle: pixels along each axis that the finest level sees as channels of one.

    Raises:
        ValueError: not of that kind, or too large; says what is possible.
    """
    numbers = isinstance(widths, list | tuple) and all(type(w) is int and w > 0 for w in widths)
    if ndim not in (2, 3) or not numbers or not 2 <= len(widths) <= _MOST_LEVELS:
        raise ValueError(
            f"ndim {ndim} must be 2 or 3 and widths {shortened(repr(widths), 60)} at least two numbers, at most "
            f"{_MOST_LEVELS}, all of them whole and above 0"
        )
    if type(bottom_units) is not int or not 0 <= bottom_units <= _MOST_UNITS:
        raise ValueError(f"bottom_units {bottom_units!r} must be a whole number from 0 to {_MOST_UNITS}")
    if type(unshuffle) is not int or unshuffle not in _UNSHUFFLES:
        raise ValueError(f"unshuffle {unshuffle!r} must be one of {', '.join(map(str, _UNSHUFFLES))}")
    kernel = 3**ndim
    units = [2 * kernel * w * w for w in widths]
    total = 2 * sum(units[:-1]) + bottom_units * units[-1] + sum((kernel + 1) * a * b for a, b in pairwise(widths))
    if total > _MOST_PARAMETERS:
        raise ValueError(f"widths {list(widths)} make {total} parameters, more than {_MOST_PARAMETERS}")


def verified(weights: Path, card: Card) -> str:
    """Return the SHA-256 of the weights file after comparing it with the card.

    Raises:
        ConfigError: they differ; names both.
    """
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(card.sha256):
        raise ConfigError(
            f"{weights}: sha256 is {found}, its card says {card.sha256}; "
            "the file is damaged or not the one described: fetch both again"
        )
    return found
