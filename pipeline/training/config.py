"""The training config: what to learn from, which holes to cut, which network, how long."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline._yaml import expand_environment, explain, read_yaml
from pipeline.errors import ConfigError
from pipeline.training.masks import FAMILIES


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Images(_Part):
    """Files to learn from. One file is one scene; a scene is either trained on or held out, never both."""

    paths: tuple[str, ...] = Field(min_length=1, description="Files or globs, relative to the config file.")
    bands: tuple[int | str, ...] | None = Field(default=None, description="Bands by 1-based index or name.")
    nodata: float | None = Field(default=None, description="Overrides what the file declares.")
    region: tuple[float, ...] | None = Field(
        default=None, description="Part to use: low corner, then high corner, as fractions of the extent."
    )
    masks: tuple[Mapping[str, Any], ...] = Field(default=(), description="Pixels not to learn from.")
    tiles: int = Field(default=16, ge=1, description="Most tiles taken from one file.")
    repeats: int = Field(default=1, ge=1, description="Rounds of masks over each tile.")
    zoom: int = Field(default=1, ge=1, le=4, description="Average this many pixels a side into one.")
    contrast: float = Field(default=0.02, ge=0, description="Least tile deviation / robust range of the file.")
    data_licence: str = Field(default="", description="For the card: where the data are from and their licence.")


class Synthetic(_Part):
    """Scenes drawn from `pipeline.synthetic`, for licence-free training."""

    synthetic: Literal["optical", "brain"]
    count: int = Field(ge=1, description="How many scenes.")
    seed: int = Field(default=0, ge=0, description="Of the first; the others follow.")
    tiles: int = Field(default=4, ge=1, description="Tiles of each scene (brain) - optical scenes are one tile.")
    repeats: int = Field(default=1, ge=1, description="Rounds of masks over each tile.")
    contrast: Literal["t1", "random"] = Field(default="t1", description="Brains only.")


Data = Annotated[Images | Synthetic, Field(union_mode="smart")]


class Network(_Part):
    """Size of the encoder-decoder; see `ResidualUNet`."""

    widths: tuple[int, ...] = Field(default=(24, 48, 96, 128), min_length=2)
    bottom_units: int = Field(default=2, ge=1)


class Loss(_Part):
    """Weights of the terms; the fit in the hole has weight 1."""

    gradient: float = Field(default=0.1, ge=0, description="Finite differences, 2-D only (harms 3-D).")
    scale: float = Field(default=0.2, ge=0, description="Likelihood of the stated scale.")


class TrainingConfig(_Part):
    """All that decides a training run."""

    name: str = Field(description="Name of the weights.")
    summary: str = Field(default="", description="One line for the card.")
    ndim: Literal[2, 3] = 2
    train: tuple[Data, ...] = Field(min_length=1)
    validate_on: tuple[Data, ...] = Field(
        default=(), description="Scenes held out; if empty, one scene in five of `train` is."
    )
    base_fill: Mapping[str, Any] = Field(default={"kind": "tension"}, description="Fill kind and options.")
    masks: Mapping[str, float] = Field(default_factory=dict, description="Hole families and their shares.")
    tile: int = Field(default=256, ge=16, description="Extent of precomputed tiles.")
    masks_per_tile: int = Field(default=8, ge=1)
    bands_per_mask: int = Field(default=3, ge=1)
    network: Network = Network()
    loss: Loss = Loss()
    patch: int = Field(default=96, ge=16, description="Extent of the crops the network sees.")
    batch: int = Field(default=8, ge=1)
    steps: int = Field(default=2000, ge=1)
    learning_rate: float = Field(default=1.2e-3, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1, description="Decay of the averaged weights.")
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    bfloat16: bool = Field(default=True, description="Mixed precision in training.")
    validate_every: int = Field(default=500, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)
    start_from: str | None = Field(default=None, description="Weights to continue from: a name or a file.")
    output: str = Field(description="Weights file to write; card, curve and checkpoint lie beside it.")
    cache: str = Field(default=".cache/training", description="Folder for precomputed fills.")
    notes: tuple[str, ...] = Field(default=(), description="Sentences for the card: limits, intended use.")

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingConfig:
        unknown = sorted(set(self.masks) - set(FAMILIES[self.ndim]))
        if unknown:
            known = ", ".join(sorted(FAMILIES[self.ndim]))
            raise ValueError(f"masks: no family '{unknown[0]}' in {self.ndim}-D (known: {known})")
        if self.patch > self.tile:
            raise ValueError(f"patch {self.patch} must not be larger than tile {self.tile}")
        multiple = 2 ** (len(self.network.widths) - 1)
        if self.patch % multiple:
            raise ValueError(f"patch {self.patch} must be a multiple of {multiple} for these widths")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Hole families and their shares; all families alike if none are given."""
        return dict(self.masks) or dict.fromkeys(FAMILIES[self.ndim], 1.0)


def read_config(path: Path) -> TrainingConfig:
    """Read a training config; relative paths and `${NAME}` in it are resolved.

    Raises:
        ConfigError: not readable, an unknown or missing key, or values that do not fit together.
    """
    document = read_yaml(path)
    try:
        config = TrainingConfig.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError(explain(error, document, {(): list(TrainingConfig.model_fields)})) from None
    return config.model_copy(
        update={
            "output": resolve(config.output, path),
            "cache": resolve(config.cache, path),
            "train": tuple(_resolved(part, path) for part in config.train),
            "validate_on": tuple(_resolved(part, path) for part in config.validate_on),
        }
    )


def resolve(text: str, config: Path) -> str:
    """Return `text` with variables replaced, absolute; relative paths are relative to the config file."""
    expanded = expand_environment(text, str(config))
    return expanded if "://" in expanded else str((config.parent / expanded).resolve())


def _resolved(part: Images | Synthetic, path: Path) -> Images | Synthetic:
    if isinstance(part, Synthetic):
        return part
    return part.model_copy(update={"paths": tuple(resolve(p, path) for p in part.paths)})
