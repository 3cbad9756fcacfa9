"""What the survey knows of one reference: how its values map to the image's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pipeline.references.ridge import Ridge, fit_ridge


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """How a reference and the image are related, over the whole image; part of the plan.

    Attributes:
        ridge: linear map of all bands.
    """

    ridge: Ridge


def fit_relation(target: NDArray[Any], reference: NDArray[Any]) -> Relation:
    """Relate `(n, c)` values of the image to `(n, c_ref)` values of the reference at the same pixels.

    Raises:
        ValueError: the arrays are not 2-D or differ in length.
    """
    return Relation(ridge=fit_ridge(target, reference))
