"""One door for everything that may help: a reference file, an auxiliary, the image's other channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.fills.base import Window
from pipeline.references.estimate import ReferenceFill, reference_fill
from pipeline.references.relation import Relation
from pipeline.references.siblings import Siblings, sibling_fill


def consult(
    window: Window,
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    relation: Relation | Siblings,
    base: NDArray[np.float32],
) -> ReferenceFill:
    """Return what a guide says about the holes of a window; see `reference_fill`.

    Siblings look at the window itself, not at `values`: what is hidden there must be hidden from them.
    """
    if isinstance(relation, Siblings):
        return sibling_fill(window, relation, base)
    return reference_fill(window, values, valid, relation, base)
