"""What self-tests of many images found about references, for images that cannot tell.

The table is made by `python -m benchmarks.prior`, which says on which images.
"""

from __future__ import annotations

from pipeline.references.reliance import RELIABILITY, Reliance
from pipeline.selftest.weights import Belief

# best weight, and relative change of the squared error at it, at each of RELIABILITY
_THIN = ((0.0, 0.0), (0.1, -0.01), (0.2, -0.03), (0.4, -0.1), (0.7, -0.3))
_NEAR = ((0.0, 0.0), (0.2, -0.05), (0.4, -0.15), (0.8, -0.45), (0.9, -0.6))
_FAR = ((0.1, -0.05), (0.4, -0.25), (0.6, -0.3), (0.9, -0.5), (0.9, -0.65))

BELIEFS = tuple(Belief(weight=w, change=c) for row in (_THIN, _NEAR, _FAR) for w, c in row)
"""One for each cell of `references.reliance_cells`: thin holes, wide ones near observed pixels, wide ones far off."""


def believed_reliance() -> Reliance:
    """Return how much of a reference is blended in where nothing could be hidden."""
    n = len(RELIABILITY)
    thin, near, far = (tuple(b.weight for b in BELIEFS[k * n : (k + 1) * n]) for k in range(3))
    return Reliance(near=near, far=far, thin=thin)
