"""Write weights with their card: what they are, what made them, what they are good for and what not."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from safetensors.torch import save

from pipeline.models._unet import ResidualUNet
from pipeline.models.base import read_card
from pipeline.system.files import replacing, write_text
from pipeline.training.config import Images, Synthetic, TrainingConfig
from pipeline.training.device import mixed
from pipeline.training.verdict import verdict_text

_LIMITS = (
    "Corrects a base fill by what texture and edges suggest; it cannot know what a hole really hid.",
    "Uncertainties are uncalibrated until the self-test of a run has scaled them.",
    "Not a medical device; not for diagnosis or treatment.",
)


def export(network: ResidualUNet, config: TrainingConfig, progress: Mapping[str, Any]) -> Path:
    """Write `config.output` and its card, each atomically; the weights first.

    Args:
        network: in float32.
        config: what it was trained with.
        progress: steps and metrics for the card.

    Returns:
        The weights file.
    """
    weights = Path(config.output)
    weights.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().float().contiguous() for key, value in network.state_dict().items()}
    data = save(state)
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 100
    yaml.dump(_card(config, progress, hashlib.sha256(data).hexdigest(), network), text)
    with replacing(weights) as partial:
        partial.write_bytes(data)
    write_text(weights.with_suffix(".yaml"), text.getvalue())
    return weights


def _card(config: TrainingConfig, progress: Mapping[str, Any], sha256: str, network: ResidualUNet) -> dict[str, Any]:
    card = {
        "name": config.name,
        "summary": config.summary,
        "kind": "autoencoder",
        "ndim": config.ndim,
        **({"suits": config.suits} if config.suits else {}),
        "sha256": sha256,
        "architecture": {
            "widths": list(config.network.widths),
            "bottom_units": config.network.bottom_units,
            "unshuffle": config.network.unshuffle,
        },
        "parameters": sum(p.numel() for p in network.parameters()),
        "base_fill": dict(config.base_fill),
        "training": _training(config) | {"best_step": progress["step"]},
        "data": [_described(part) for part in config.train],
        "validation": {
            "data": [_described(part) for part in config.validate_on] or "held out of the training data",
            "measure": "gain over the base fill, dB of the squared error in the holes, mean over cases",
            "tension": {family: round((low + high) / 2, 3) for family, (low, high) in config.tension_ranges.items()},
            **{key: progress[key] for key in ("gain_db", "cases_worse", "gain_db_at_start") if key in progress},
            **({"verdict": verdict_text(progress)} if "gain_db" in progress else {}),
        },
        "limits": [*_LIMITS, *config.notes],
        "licence": config.licence,
    }
    if config.searched:
        card["search"] = [dict(row) for row in config.searched]
    return card


def _training(config: TrainingConfig) -> dict[str, Any]:
    numbers = ("steps", "batch", "patch", "tile", "learning_rate", "weight_decay", "clip_norm", "ema", "seed")
    chosen: dict[str, Any] = {key: getattr(config, key) for key in (*numbers, "validate_every", "patience")}
    chosen["masks"] = config.shares
    chosen["tensions"] = {family: list(limits) for family, limits in config.tension_ranges.items()}
    chosen["kriging"] = config.kriged
    chosen["augment"] = config.augment.model_dump()
    chosen["loss"] = config.loss.model_dump()
    chosen["torch"] = str(torch.__version__)
    chosen["device"] = torch.device(config.device).type
    chosen["bfloat16"] = mixed(config)
    if config.start is not None:
        start = read_card(Path(config.start))
        chosen["start"] = {"name": start.name, "sha256": start.sha256}
    if config.teacher is not None:
        teacher = read_card(Path(config.teacher))
        chosen["teacher"] = {"name": teacher.name, "sha256": teacher.sha256}
    return chosen


def _described(part: Images | Synthetic) -> dict[str, Any]:
    if isinstance(part, Synthetic):
        kind = {"contrast": part.contrast} if part.synthetic == "brain" else {}
        return {"synthetic": part.synthetic, "scenes": part.count, "first_seed": part.seed, **kind}
    # a name alone does not say which set: many files are called T1.nii.gz
    described: dict[str, Any] = {"files": ["/".join(Path(p).parts[-2:]) for p in part.paths]}
    if part.data_licence:
        described["licence"] = part.data_licence
    if part.region:
        described["region"] = list(part.region)
    if part.zoom != 1:
        described["zoom"] = part.zoom if isinstance(part.zoom, int) else list(part.zoom)
    return described
