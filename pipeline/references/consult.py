"""One door for everything that may help: a file, several together, the image's other channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.references.estimate import ReferenceFill, reference_fill
from pipeline.references.joint import Joint, MaskedBands
from pipeline.references.prediction import Correction, Prediction
from pipeline.references.relation import Relation
from pipeline.references.siblings import Siblings, sibling_fill


def consult(
    window: Window,
    bands: MaskedBands,
    relation: Relation | Siblings | Joint,
    base: NDArray[np.float32],
    standing: NDArray[np.float32],
    predicted: Prediction | None = None,
    beyond: Correction | None = None,
) -> ReferenceFill:
    """Return what a guide says about the holes of a window; see `reference_fill`.

    Siblings look at the window itself, not at the guide: what is hidden there must be hidden from them.

    Args:
        window: as in `reference_fill`.
        bands: values and validity of the guide; of several guides their bands one after the other, see `stacked`.
        relation: how the guide is related to the image.
        base: `(c, *spatial)`, what came before: a single-image fill, with earlier guides blended in.
        standing: float32 like `base`, reliability of what came before; 0.5 where it is a single-image fill. The
            guide's own reliability is relative to it: 0.5 where both are equally good.
        predicted: what `prediction` returns for this relation here, if it is known already.
        beyond: what the whole image says beside the relation where the window does not show what is around, for each
            channel or, of siblings, for each of `Siblings.every`; None = the window does.
    """
    if isinstance(relation, Siblings):
        result = sibling_fill(window, relation, base, beyond)
    else:
        if beyond is not None:
            predicted = replace(predicted or prediction(window, *bands, relation), beyond=beyond)
        result = reference_fill(window, *bands, _one(relation), base, predicted=predicted)
    return replace(result, reliability=compared(result.reliability, standing))


def prediction(
    window: Window, values: NDArray[np.float32], valid: NDArray[np.bool_], relation: Relation | Joint
) -> Prediction:
    """Return what a guide predicts in a window, the same whatever is hidden there; arguments as in `consult`."""
    return Prediction.of(_one(relation), values, valid, window.spacing)


def _one(relation: Relation | Joint) -> Relation:
    return relation.relation if isinstance(relation, Joint) else relation


def compared(reliability: NDArray[np.float32], standing: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a reliability relative to another one: the ratio of their odds; unchanged against 0.5."""
    ours, theirs = reliability * (1 - standing), standing * (1 - reliability)
    total = ours + theirs
    return np.where(total > 0, ours / np.where(total > 0, total, 1), reliability).astype(np.float32)
