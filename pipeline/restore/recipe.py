"""What was decided for one image, once, by the self-test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pipeline.fills.base import FillSpec
from pipeline.numerics.calibration import Calibration
from pipeline.numerics.situation import Curve, Curves, flat
from pipeline.references.joint import AnyRelation, Joint, guides_of
from pipeline.references.relation import Relation
from pipeline.references.reliance import Reliance
from pipeline.references.siblings import Siblings

STORED = "stored"
"""Marker instead of a base fill: holes keep what the file stores there, for a model that must change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the self-test decided for one image.

    Attributes:
        fill: the base fill of deep holes, and of all for which nothing else is said.
        thin_fill: the base fill of thin holes (dead pixels, lines), None = `fill`.
        border_fill: the base fill of holes with nothing observed behind them, None = `fill`.
        relations: how guides map to the image: first several of them together, then each by itself, None if that could
            not be fitted; the last one is that of the image's own channels if they have different holes.
        references: how much of what each relation says is blended in over what came before it.
        network: blend weight of the network over the image's own estimate; 0 everywhere = not used.
        network_referenced: the same where references carry the mean, None = as elsewhere.
        network_limit: largest correction of the network that is taken in full, in local standard deviations of the
            observed pixels; None = any.
        network_views: mirror images that the network sees of each patch, None = all it has.
        network_precision: in which it looks at each channel; `auto` until the self-test has decided, see `Patch`.
        error_power: power of what the network states, over `typical`, that errors grow with; it varies more than they
            do.
        single: calibration of pixels restored from the image itself.
        referenced: calibration of pixels restored with a reference.
        rim: standard error that a contaminated rim of the mask adds, over distance to observed pixels, one curve a
            channel, data units; empty = nothing.
        quantum: step between stored values, data units; 0 = they are continuous.
        floor: smallest local scale of each channel, data units.
        typical: scale of each channel over the whole image, for pixels far from all that is observed.
        low: smallest value that may be written, per channel, data units.
        high: largest value that may be written, per channel, data units.
    """

    fill: FillSpec
    thin_fill: FillSpec | None = None
    border_fill: FillSpec | None = None
    relations: tuple[AnyRelation, ...] = ()
    references: tuple[Reliance, ...] = ()
    network: Curves = field(default_factory=lambda: flat(0.0))
    network_referenced: Curves | None = None
    network_limit: float | None = None
    network_views: int | None = None
    network_precision: tuple[str, ...] = ()
    error_power: float = 1.0
    single: Calibration = field(default_factory=Calibration)
    referenced: Calibration = field(default_factory=Calibration)
    rim: tuple[Curve, ...] = ()
    quantum: float = 0.0
    floor: tuple[float, ...]
    typical: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def fills(self) -> tuple[FillSpec, FillSpec, FillSpec]:
        """Return the base fill of each family, in the order of `FAMILIES`."""
        return self.thin_fill or self.fill, self.fill, self.border_fill or self.fill

    @property
    def sees_stored(self) -> bool:
        """Return True if holes keep what the file stores there."""
        return self.fill.kind == STORED

    @property
    def copies(self) -> bool:
        """Return True if holes get copies of observed values, as class codes need: no mean of two, wherever made."""
        blended = self.network_weight > 0 or any(reliance.highest > 0 for reliance in self.references)
        return not blended and all(fill.kind == "nearest" for fill in self.fills)

    @property
    def network_weight(self) -> float:
        """Return the largest weight that the network has anywhere."""
        return max(self.network.highest, self.network_referenced.highest if self.network_referenced else 0.0)

    @property
    def reference_weights(self) -> tuple[float, ...]:
        """Return the largest weight that each guide has anywhere, by itself or with others."""
        about = guides_of(self.relations)
        alone = len(about) - sum(isinstance(relation, Joint) for relation in self.relations)
        weights = [0.0] * alone
        for guides, reliance in zip(about, self.references, strict=True):
            for k in guides:
                weights[k] = max(weights[k], reliance.highest)
        return tuple(weights)

    @property
    def consulted(self) -> list[tuple[int, Relation | Siblings]]:
        """Return number and relation of those that have any weight."""
        found: list[tuple[int, Relation | Siblings]] = []
        for k, (relation, reliance) in enumerate(zip(self.relations, self.references, strict=True)):
            own = relation.relation if isinstance(relation, Joint) else relation
            if own is not None and reliance.highest > 0 and (isinstance(own, Siblings) or own.ridge.samples):
                found.append((k, own))
        return found


def narrowed(recipe: Recipe, channels: Sequence[int]) -> Recipe:
    """Return the recipe for some of the channels, without references."""
    return replace(
        recipe,
        relations=(),
        references=(),
        network_precision=tuple(recipe.network_precision[c] for c in channels if recipe.network_precision),
        rim=tuple(recipe.rim[c] for c in channels if recipe.rim),
        floor=tuple(recipe.floor[c] for c in channels),
        typical=tuple(recipe.typical[c] for c in channels),
        low=tuple(recipe.low[c] for c in channels),
        high=tuple(recipe.high[c] for c in channels),
    )
