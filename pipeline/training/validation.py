"""How much better than the base fill a network is on held-out scenes, family by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.models._unet import ResidualUNet
from pipeline.training.config import TrainingConfig
from pipeline.training.data import DEPTH, HOLE, SCALE, TARGET, Sample
from pipeline.training.device import autocast, layout

INPUT = slice(0, DEPTH + 1)
_HARM = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """Gain over the base fill in dB of the squared error in the holes.

    Attributes:
        families: mean over the cases of each family, and `mean` over families.
        worse: share of cases more than 0.05 dB below the base fill.
    """

    families: Mapping[str, float]
    worse: float

    @property
    def score(self) -> float:
        """Mean gain less thrice the losses of families below zero: no family pays for another."""
        lost = sum(min(0.0, gain) for family, gain in self.families.items() if family != "mean")
        return self.families["mean"] + _HARM * lost


@torch.inference_mode()
def validate(network: ResidualUNet, cases: Sequence[Sample], config: TrainingConfig) -> Gains:
    """Measure a network on whole tiles."""
    gains: dict[str, list[float]] = {}
    for case in cases:
        gains.setdefault(case.family, []).append(_gain_db(network, case, config))
    every = np.array([g for family in gains.values() for g in family])
    families = {family: round(float(np.mean(g)), 4) for family, g in sorted(gains.items())}
    mean = round(float(np.mean(list(families.values()))), 4)
    return Gains(families=families | {"mean": mean}, worse=round(float(np.mean(every < -0.05)), 4))


def _gain_db(network: ResidualUNet, case: Sample, config: TrainingConfig) -> float:
    planes = case.planes()
    whole = tuple(slice(n - n % network.multiple) for n in planes.shape[1:])
    tile = torch.from_numpy(planes[(slice(None), *whole)].astype(np.float32))
    x: Tensor = tile[None, INPUT].to(config.device).contiguous(memory_format=layout(config.ndim))
    with autocast(config):
        residual = network(x)[0, 0].float().cpu()
    weight = tile[SCALE] * tile[HOLE]
    before = float(((tile[TARGET] * weight) ** 2).sum())
    after = float((((tile[TARGET] - residual) * weight) ** 2).sum())
    return 10.0 * float(np.log10((before + 1e-12) / (after + 1e-12)))
