"""The training config: what to learn from, which holes to cut, which network, how long."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from pipeline.errors import ConfigError
from pipeline.models.base import Card, find_weights, read_card, require_bounded
from pipeline.system.bounds import cores
from pipeline.system.yaml_files import expand_environment, explain, read_yaml
from pipeline.training.beside import require_replaceable
from pipeline.training.masks import FAMILIES, KRIGED, TENSIONS

TILE = {2: 256, 3: 48}
TUNING_TILE = {2: 128, 3: 48}
TUNING_BATCH = {2: 8, 3: 4}
_TUNING: dict[str, Any] = {
    "learning_rate": 1e-4,
    "steps": 400,
    "validate_every": 50,
    "checkpoint_every": 100,
    "patience": 4,
    "masks_per_tile": 12,
}
"""Defaults that differ when training starts from weights: few images, little to learn, nothing to forget."""


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
    observed: float = Field(default=0.9, gt=0, le=1, description="Least share of observed pixels of a tile.")
    zoom: int | tuple[int, ...] = Field(
        default=1, description="Average this many pixels into one; one number for all axes, or one an axis."
    )
    contrast: float = Field(default=0.02, ge=0, description="Least tile deviation / robust range of the file.")
    data_licence: str = Field(default="", description="For the card: where the data are from and their licence.")


class Synthetic(_Part):
    """Scenes drawn from `pipeline.synthetic`, for licence-free training."""

    synthetic: Literal["optical", "brain", "body"]
    count: int = Field(ge=1, description="How many scenes.")
    seed: int = Field(default=0, ge=0, description="Of the first; the others follow.")
    tiles: int = Field(default=4, ge=1, description="Tiles of each volume; an optical scene is one tile.")
    repeats: int = Field(default=1, ge=1, description="Rounds of masks over each tile.")
    contrast: Literal["t1", "random"] = Field(default="t1", description="Brains only.")


_KINDS: dict[str, type[_Part]] = {"images": Images, "synthetic": Synthetic}


def _kind(part: Any) -> str:
    """Say what a part of the data is meant to be, so that only what is wrong with that is told."""
    scenes = isinstance(part, Synthetic) or (isinstance(part, Mapping) and "synthetic" in part)
    return "synthetic" if scenes else "images"


Data = Annotated[
    Annotated[Images, Tag("images")] | Annotated[Synthetic, Tag("synthetic")],
    Discriminator(_kind),
]


class Network(_Part):
    """Size of the encoder-decoder; see `ResidualUNet`."""

    widths: tuple[int, ...] = Field(default=(24, 48, 96, 128), min_length=2)
    bottom_units: int = Field(default=2, ge=1)
    unshuffle: Literal[1, 2, 4] = Field(
        default=1,
        description="Pixels along an axis that are channels of one at the finest level: faster, worse for thin ones.",
    )


class Loss(_Part):
    """Weights of the terms; the fit in the hole has weight 1."""

    gradient: float = Field(default=0.1, ge=0, description="Finite differences, 2-D only (harms 3-D).")
    scale: float = Field(default=0.2, ge=0, description="Likelihood of the stated scale.")
    taught: float = Field(default=1.0, ge=0, description="Fit to what the teacher says, if there is one.")


Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class Search(_Part):
    """What `train --search` draws from; pairs are ranges, drawn evenly on a logarithmic scale."""

    widths: tuple[tuple[int, ...], ...] = Field(
        default=(), description="Default: those of `network`, a third narrower or wider, one level less or more."
    )
    bottom_units: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    learning_rate: Range = (3e-4, 3e-3)
    weight_decay: Range = (1e-6, 1e-2)
    gradient: Range = (0.05, 2.0)
    scale: Range = (0.05, 0.5)
    rungs: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(1 / 9, 1 / 3), min_length=1, description="Shares of `steps` after which trials are compared."
    )
    keep: float = Field(default=1 / 3, gt=0, lt=1, description="Share of trials that goes on after each rung.")


class Augment(_Part):
    """Changes of a tile before its holes are cut; each happens to `share` of the training holes on its own.

    Gain and offset are not among them: local normalisation takes them out.
    """

    share: float = Field(default=0.25, ge=0, le=1)
    gamma: float = Field(default=0.5, ge=0, le=2, description="Exponent of the tone curve: exp(+- this) at most.")
    noise: float = Field(default=0.02, ge=0, le=0.2, description="Largest noise deviation / robust range.")
    blur: float = Field(default=0.8, ge=0, le=4, description="Largest deviation of a Gaussian blur, pixels.")


class TrainingConfig(_Part):
    """All that decides a training run."""

    name: str = Field(description="Name of the weights.")
    summary: str = Field(default="", description="One line for the card.")
    suits: Literal["", "hounsfield"] = Field(default="", description="Kind of values the weights are chosen for.")
    ndim: Literal[2, 3] = 2
    train: tuple[Data, ...] = Field(min_length=1)
    validate_on: tuple[Data, ...] = Field(
        default=(), description="Scenes held out; if empty, one scene in five of `train` is."
    )
    base_fill: Mapping[str, Any] = Field(default={"kind": "tension"}, description="Fill kind and options.")
    tensions: Mapping[str, tuple[float, float]] | None = Field(
        default=None,
        description="Range of the tension t by hole family: drawn anew for every training hole, its middle in "
        "validation. Other families use base_fill; {} turns it off. Default: what self-tests tend to choose.",
    )
    kriging: Mapping[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(
        default=None,
        description="Share of the training holes of a family that kriging fills instead of base_fill; validated apart, "
        "as `FAMILY kriged`. {} turns it off. Default: half of the thin families if base_fill is the spline.",
    )
    masks: Mapping[str, float] = Field(default_factory=dict, description="Hole families and their shares.")
    augment: Augment = Augment()
    tile: int = Field(default=256, ge=16, description="Extent of precomputed tiles.")
    masks_per_tile: int = Field(default=8, ge=1)
    bands_per_mask: int = Field(default=3, ge=1)
    network: Network = Network()
    loss: Loss = Loss()
    patch: int = Field(default=96, ge=16, description="Extent of the crops the network sees.")
    batch: int = Field(default=8, ge=1, le=4096, description="Crops of a step; all of them lie in memory.")
    steps: int = Field(default=2000, ge=1)
    learning_rate: float = Field(default=1.2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0, description="Of AdamW.")
    clip_norm: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    ema: float = Field(default=0.999, ge=0, lt=1, description="Decay of the averaged weights.")
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    bfloat16: bool | Literal["auto"] = Field(
        default="auto", description="Mixed precision in training; auto: where the device computes it in hardware."
    )
    validate_every: int = Field(default=500, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)
    validation_cases: int = Field(default=120, ge=1, description="Most cases validated on, shared by families.")
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many validations without a better score."
    )
    device: str = Field(
        default="cpu",
        description="cpu, cuda, cuda:N, or auto: cuda if there is one; only on a cpu are runs repeatable to the bit.",
    )
    loaders: int = Field(default=1, ge=1, description="Processes for fills and batches; at most one a core.")
    start: str | None = Field(
        default=None,
        description="Weights to start from: a name or a file. Dimensions, network, base fill and holes are then "
        "those of its card unless given, and the defaults those of a short adaptation.",
    )
    teacher: str | None = Field(
        default=None,
        description="Weights whose answers are learnt from beside the truth: a name or a file. Small networks learn "
        "wide holes in far fewer steps.",
    )
    output: str = Field(description="Weights file to write; card, curve and checkpoint lie beside it.")
    cache: str = Field(default=".cache/training", description="Folder for precomputed fills.")
    notes: tuple[str, ...] = Field(default=(), description="Sentences for the card: limits, intended use.")
    licence: str = Field(default="not stated", description="Of the weights, for the card.")
    search: Search = Search()
    searched: tuple[Mapping[str, Any], ...] = Field(
        default=(), description="Table of the search that chose these values; `train --search` writes it."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingConfig:
        unknown = sorted(set(self.masks) - set(FAMILIES[self.ndim]))
        if unknown:
            known = ", ".join(sorted(FAMILIES[self.ndim]))
            raise ValueError(f"masks: no family '{unknown[0]}' in {self.ndim}-D (known: {known})")
        for key, named in (("tensions", self.tensions), ("kriging", self.kriging)):
            if stray := sorted(set(named or {}) - set(FAMILIES[self.ndim])):
                raise ValueError(f"{key}: no family '{stray[0]}' in {self.ndim}-D")
        if self.patch > self.tile:
            raise ValueError(f"patch {self.patch} must not be larger than tile {self.tile}")
        network = self.network
        require_bounded(self.ndim, network.widths, network.bottom_units, network.unshuffle)
        multiple = network.unshuffle * 2 ** (len(network.widths) - 1)
        if self.patch % multiple:
            raise ValueError(f"patch {self.patch} must be a multiple of {multiple} for this network")
        return self

    @property
    def processes(self) -> int:
        """Return how many loaders this machine has cores for."""
        return min(self.loaders, cores())

    @property
    def shares(self) -> dict[str, float]:
        """Hole families and their shares; all families alike if none are given."""
        return dict(self.masks) or dict.fromkeys(FAMILIES[self.ndim], 1.0)

    @property
    def tension_ranges(self) -> dict[str, tuple[float, float]]:
        """Range of `t` by hole family; empty for base fills without tension."""
        if self.tensions is not None:
            return dict(self.tensions)
        return dict(TENSIONS[self.ndim]) if self.base_fill.get("kind") == "tension" else {}

    @property
    def kriged(self) -> dict[str, float]:
        """Share of kriged holes by hole family, of families that are trained on."""
        default = KRIGED[self.ndim] if self.base_fill.get("kind") == "tension" else {}
        return {
            f: share for f, share in (default if self.kriging is None else self.kriging).items() if f in self.shares
        }


def read_config(path: Path) -> TrainingConfig:
    """Read a training config; relative paths and `${NAME}` in it are resolved.

    Raises:
        ConfigError: not readable, an unknown or missing key, values that do not fit together, or a card that would
            take the config's own place.
    """
    document = read_yaml(path)
    data = dict(document.data)
    start = data.get("start")
    if isinstance(start, str):
        weights = start_weights(start, path)
        data = _inherited(data, read_card(weights)) | {"start": str(weights)}
    try:
        config = TrainingConfig.model_validate(_sized(data))
    except ValidationError as error:
        raise ConfigError(explain(error, document, _known_keys(data), _KINDS)) from None
    output = resolve(config.output, path)
    require_replaceable(Path(output), path)
    return config.model_copy(
        update={
            "output": output,
            "teacher": config.teacher and str(start_weights(config.teacher, path)),
            "cache": resolve(config.cache, path),
            "train": tuple(_resolved(part, path) for part in config.train),
            "validate_on": tuple(_resolved(part, path) for part in config.validate_on),
        }
    )


def start_weights(start: str, config: Path) -> Path:
    """Return the file that `start` names: shipped weights, else a path relative to the config file.

    Raises:
        ConfigError: neither exists.
    """
    relative = Path(resolve(start, config))
    return relative if relative.is_file() else find_weights(start)


def _inherited(data: Mapping[str, Any], card: Card) -> dict[str, Any]:
    """Add what the config does not say and the weights' card does, and the defaults of an adaptation."""
    made = (card.model_extra or {}).get("training", {})
    told: dict[str, Any] = {key: made[key] for key in ("patch", "masks", "loss") if key in made}
    card_says: dict[str, Any] = {
        "ndim": card.ndim,
        "network": dict(card.architecture),
        "base_fill": dict(card.base_fill),
    }
    result = (
        card_says | told | {"tile": TUNING_TILE[card.ndim], "batch": TUNING_BATCH[card.ndim]} | _TUNING | dict(data)
    )
    if isinstance(data.get("train"), list):
        # a user's few images are used even where clouds hide a part of a tile
        result["train"] = [
            {"observed": 0.5} | part if isinstance(part, dict) and "paths" in part else part for part in data["train"]
        ]
    return result


def _sized(data: Mapping[str, Any]) -> dict[str, Any]:
    """Set the tile of the image's dimensions where the config names none."""
    ndim = data.get("ndim", 2)
    return {"tile": TILE.get(ndim, TILE[2])} | dict(data) if isinstance(ndim, int) else dict(data)


def _known_keys(data: Mapping[str, Any]) -> dict[tuple[str | int, ...], list[str]]:
    known: dict[tuple[str | int, ...], list[str]] = {(): list(TrainingConfig.model_fields)}
    for name in ("train", "validate_on"):
        parts = data.get(name)
        for number, part in enumerate(parts if isinstance(parts, list) else ()):
            known[name, number] = list(_KINDS[_kind(part)].model_fields)
    return known


def resolve(text: str, config: Path) -> str:
    """Return `text` with variables replaced, absolute; relative paths are relative to the config file."""
    expanded = expand_environment(text, str(config))
    return expanded if "://" in expanded else str((config.parent / expanded).resolve())


def _resolved(part: Images | Synthetic, path: Path) -> Images | Synthetic:
    if isinstance(part, Synthetic):
        return part
    return part.model_copy(update={"paths": tuple(resolve(p, path) for p in part.paths)})
