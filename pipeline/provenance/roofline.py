"""The time that a run could not have done without, beside what it took: how much is left to gain, and where.

Each kind of work has a least amount, and a rate that the run itself reached while it worked:

=========  =================================================  ===========================================
work       least amount                                       rate
=========  =================================================  ===========================================
read       image, mask and guides, decoded once               mean over all that was read
fill       every hole pixel, by the base fill of its run      mean over all windows of that fill
network    the patches that touch holes, once                 the fastest pass (the bare forward)
write      the files, encoded once                            the last step of writing them
=========  =================================================  ===========================================

Seconds are those of all processes together, so the number of workers does not change the comparison. Model: roofline
(Williams, Waterman and Patterson 2009, Roofline: an insightful visual performance model for multicore architectures).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.blocks.journal import Totals
from pipeline.plan.plan import Plan
from pipeline.system.meter import PROCESSOR, Use, Uses, add, as_facts

_WORDS = {
    "read": "reading",
    "fill": "classical fills",
    "network": "the network",
    "write": "writing the files",
    "rest": "looking, testing and deciding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One kind of work, seconds of all processes together."""

    least_s: float
    """What could not be avoided."""
    took_s: float
    """What it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """What a run took, beside what it could not have done without.

    Attributes:
        work: by kind of work: `read`, `fill`, `network`, `write`, and the `rest`, none of which is needed.
        gpu_busy: share of the wall time in which a GPU worked, 0 to 1; None if none was used. Several workers that
            share a GPU are added up, so it is at most 1.
        wall_s: wall time from the survey to the files, seconds; more than the work where workers start or wait.
    """

    work: dict[str, Share]
    gpu_busy: float | None
    wall_s: float
    processor_s: float | None
    """Processor seconds of all processes; None if an older version made the survey. Less than the work where processes
    wait: for a processor that others use, for files, for a GPU.
    """

    @property
    def least_s(self) -> float:
        """Return the seconds that could not be avoided."""
        return sum(share.least_s for share in self.work.values())

    @property
    def took_s(self) -> float:
        """Return the seconds that the run took in all processes together."""
        return sum(share.took_s for share in self.work.values())

    def facts(self) -> dict[str, Any]:
        """Return JSON values for the record and `run.json`."""
        work = {name: asdict(share) for name, share in self.work.items()}
        return {
            "least_s": self.least_s,
            "took_s": self.took_s,
            "wall_s": self.wall_s,
            "processor_s": self.processor_s,
            "work": work,
            "gpu_busy": self.gpu_busy,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was counted while a run worked; the report, which shows it, is not in it."""

    uses: Uses
    """Of all processes, from the survey to the files."""
    blocks: Uses
    """Of the blocks alone."""
    seconds: float
    """Of all processes and threads together."""
    wall_s: float
    """Wall time, survey included even if that was made by an earlier process."""
    processor_s: float | None
    """See `Roofline`."""


def measured(facts: Mapping[str, Any], totals: Totals, assembling: Uses, seconds: Mapping[str, float]) -> Measured:
    """Put together what survey, blocks and assembly took.

    Args:
        facts: of the survey; those of older versions say only how long it took.
        totals: of the blocks.
        assembling: what was counted while files were made.
        seconds: wall time of the stages `blocks` and `assemble`.
    """
    survey_s = sum(facts["seconds"].values())
    uses: Uses = {}
    for part in (facts.get("work", {}), as_facts(totals.work), as_facts(assembling)):
        add(uses, part)
    surveyed = facts.get("work", {}).get(PROCESSOR)
    return Measured(
        uses=uses,
        blocks=totals.work,
        # threads work at the same time
        seconds=max(survey_s, surveyed[0] if surveyed else 0.0) + sum(totals.seconds.values()) + seconds["assemble"],
        wall_s=survey_s + seconds["blocks"] + seconds["assemble"],
        processor_s=uses[PROCESSOR].seconds if surveyed else None,
    )


def roofline(plan: Plan, patches: Mapping[str, int], found: Measured) -> Roofline:
    """Compare what a run took with the least it could have taken.

    Args:
        plan: its plan.
        patches: those `touching_holes` and those that were computed, `forwards`.
        found: what was measured.
    """
    uses = found.uses
    fills = [use for name, use in uses.items() if name.startswith("fill ")]
    network, written = uses.get("network", Use()), _seconds(uses, "write", "encode")
    took = {
        "read": _seconds(uses, "read"),
        "fill": sum(use.seconds for use in fills),
        "network": network.seconds,
        "write": written,
    }
    once = patches["touching_holes"] / max(1, patches["forwards"])
    least = {
        "read": _bytes(plan) * uses.get("read", Use()).mean,
        "fill": plan.n_holes * _rate(uses.get(f"fill {plan.recipe.fill.label}"), fills),
        "network": found.blocks.get("network", Use()).amount * min(1.0, once) * network.best,
        "write": _seconds(uses, "encode") or written,
    }
    work = {name: Share(least_s=min(least[name], took[name]), took_s=took[name]) for name in took}
    work["rest"] = Share(least_s=0.0, took_s=max(0.0, found.seconds - sum(took.values())))
    device = uses.get("device")
    busy = min(1.0, device.seconds / found.wall_s) if device and found.wall_s else None
    return Roofline(work=work, gpu_busy=busy, wall_s=found.wall_s, processor_s=found.processor_s)


def roofline_text(facts: Mapping[str, Any]) -> str:
    """Return a roofline in one sentence, from its facts."""
    took, work = facts["took_s"], facts["work"]
    if not took:
        return "nothing was computed"
    parts = {name: share["took_s"] - share["least_s"] for name, share in work.items()}
    most = max(parts, key=lambda name: parts[name])
    gpu = "" if facts["gpu_busy"] is None else f"; the GPU worked {100 * facts['gpu_busy']:.0f} % of the time"
    waited = "" if gpu else _waited(took, facts.get("processor_s"))
    return (
        f"took {_time(facts['wall_s'])}: {_time(took)} of work, all processes together, of which "
        f"{_time(facts['least_s'])} could not be avoided; most of the rest went into {_WORDS[most]} "
        f"({_time(parts[most])}){gpu}{waited}"
    )


def _waited(took: float, processor: float | None) -> str:
    """Say how much of the work was waiting, where that is a third and more of it, and seconds."""
    if processor is None or took - processor < max(took / 3, 2.0):
        return ""
    return f"; {_time(took - processor)} of the work was waiting, for slow files or for a processor that others used"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _bytes(plan: Plan) -> float:
    """Return the bytes of image, states and guides as they lie in memory."""
    pixels = math.prod(plan.space.shape)
    # how many bands a guide has is known to its file only: as many as the image is the usual case
    images = (1 + len(plan.guides)) * len(plan.channels) * np.dtype(plan.dtype).itemsize
    return float(pixels * (images + plan.n_state))


def _rate(base: Use | None, fills: Sequence[Use]) -> float:
    """Return the mean seconds a hole pixel of the base fill; of all fills where that one was never on its own."""
    used = base or Use(sum(fill.seconds for fill in fills), sum(fill.amount for fill in fills))
    return used.mean


def _seconds(uses: Uses, *names: str) -> float:
    return sum(uses[name].seconds for name in names if name in uses)
