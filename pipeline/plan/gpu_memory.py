"""How much memory of a GPU the network takes, known before it runs; a plan that cannot fit is refused with numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import PlanRefused
from pipeline.models.base import Inpainter
from pipeline.plan.plan import Plan
from pipeline.system import gpu

_BASE_BYTES = 600 * 2**20
"""CUDA itself, its libraries' working memory and the weights, in one process."""
_ACTIVATION_BYTES = 1400
"""Per patch pixel and channel a pass: the most that PyTorch's own convolutions took on a CPU; no GPU was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """What the network needs, by channels that it takes a pass, and what is free; all in bytes."""

    needed: dict[int, int]
    """From the usual number of channels down to one, halved each time."""
    free: int

    @property
    def usual(self) -> int:
        """Channels a pass where memory suffices."""
        return max(self.needed)

    def check(self, path: str) -> str:
        """Return what the user should know if passes will have to be smaller than usual, "" if not.

        Raises:
            PlanRefused: not even one channel a pass fits.
        """
        fitting = [channels for channels, need in self.needed.items() if need <= self.free]
        if not fitting:
            raise PlanRefused(
                f"{path}: the network needs {self.needed[1] / 2**30:.2f} GiB of GPU memory for one channel of a patch, "
                f"{self.free / 2**30:.2f} GiB are free. Set a smaller patch.size, end what else uses the GPU, or set "
                "compute.device: cpu"
            )
        if max(fitting) == self.usual:
            return ""
        return (
            f"the GPU has {self.free / 2**30:.2f} GiB free, {self.usual} channels a pass may need "
            f"{self.needed[self.usual] / 2**30:.2f} GiB: if they do not fit, the network takes fewer at a time"
        )


def gpu_memory(plan: Plan, model: Inpainter | None) -> GpuMemory | None:
    """Return what the model of a plan needs on the GPU of this process; None if it runs on none, or does not say."""
    usual = getattr(model, "channels_a_pass", None)
    if usual is None or plan.model is None or not plan.model.device.startswith("cuda"):
        return None
    patch = math.prod(min(p, n) for p, n in zip(plan.lattice.patch, plan.space.shape, strict=True))
    sizes = [usual >> k for k in range(usual.bit_length())]
    needed = {channels: _BASE_BYTES + channels * patch * _ACTIVATION_BYTES for channels in sizes}
    return GpuMemory(needed=needed, free=gpu.free_bytes())
