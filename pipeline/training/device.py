"""Where a training runs, and in which precision."""

from __future__ import annotations

import torch

from pipeline.errors import ConfigError, PlanRefused
from pipeline.system.bfloat16 import has_bfloat16
from pipeline.training.config import TrainingConfig


def placed(config: TrainingConfig) -> TrainingConfig:
    """Return the config with the device that `auto` stands for.

    Raises:
        ConfigError: there is no such kind of device.
        PlanRefused: the device is not there.
    """
    if config.device == "auto":
        return config.model_copy(update={"device": "cuda" if torch.cuda.is_available() else "cpu"})
    try:
        device = torch.device(config.device)
    except RuntimeError:
        raise ConfigError(f"device: '{config.device}' is no device; set auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise PlanRefused(
            f"device '{config.device}': {torch.cuda.device_count()} CUDA devices are visible; set device: cpu"
        )
    return config


def autocast(config: TrainingConfig) -> torch.autocast:
    """Return the context of mixed precision on the config's device."""
    return torch.autocast(torch.device(config.device).type, dtype=torch.bfloat16, enabled=mixed(config))


def mixed(config: TrainingConfig) -> bool:
    """Say whether training uses bfloat16: a CPU without such instructions takes 10 to 20 times longer with it."""
    if config.bfloat16 != "auto":
        return config.bfloat16
    if torch.device(config.device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return has_bfloat16()


def layout(ndim: int) -> torch.memory_format:
    """Return channels-last, the faster layout for convolutions."""
    return torch.channels_last if ndim == 2 else torch.channels_last_3d
