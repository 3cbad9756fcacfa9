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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ConfigError
from pipeline.system.yaml_files import nearest, read_yaml

WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What the network sees.

    Attributes:
        filled: float32 `(c, *patch)` data units; observed values, the base fill in holes, edge-replicated
            values outside the image.
        valid: bool `(c, *patch)`; True = observed. False in holes, never-touch pixels and outside the image.
        spacing: step per spatial axis (mm for volumes, 1 for rasters).
        floor: smallest local scale to divide by, per channel, in data units (stored quantum and 1 % of the
            robust range of the file).
    """

    filled: NDArray[np.float32]
    valid: NDArray[np.bool_]
    spacing: tuple[float, ...]
    floor: NDArray[np.float32]


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
    """A trained or trivial model. Deterministic: the same patch gives the same bytes in any batch."""

    name: str
    sha256: str
    """Hash of the weights; the model's name for models without weights."""
    ndim: int

    def predict(self, patches: list[Patch]) -> list[Prediction]:
        """Return one prediction a patch, in order."""
        ...


class Card(BaseModel):
    """What a YAML card beside a weights file says; unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="Name for configs and tables.")
    summary: str = Field(default="", description="One line: what images, what holes.")
    kind: str = Field(default="autoencoder", description="Module in pipeline/models that can load it.")
    ndim: int = Field(description="2 for rasters, 3 for volumes.")
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
        ConfigError: no such name or file; names the shipped ones.
    """
    text = str(name_or_path)
    names = [p.stem for p in sorted(WEIGHTS.glob("*.safetensors"))]
    if text in names:
        return WEIGHTS / f"{text}.safetensors"
    if Path(text).is_file():
        return Path(text)
    raise ConfigError(
        f"weights '{text}': no such file, and no such name{nearest(text, names)} "
        f"(shipped: {', '.join(names) or 'none'})"
    )


def read_card(weights: Path) -> Card:
    """Read the card beside a weights file.

    Raises:
        ConfigError: there is none, or a key is missing or wrong.
    """
    path = weights.with_suffix(".yaml")
    if not path.is_file():
        raise ConfigError(f"{weights}: no card {path.name} beside it; keep the two files together")
    try:
        return Card.model_validate(read_yaml(path).data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}; correct the card") from None


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
