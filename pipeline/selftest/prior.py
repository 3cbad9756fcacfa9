"""What self-tests of many images found about references, for images that cannot tell.

The table is rounded from that of `python -m benchmarks.prior`, down where reliability is low: cloudy scenes of three
places speak for all. Thin holes are not measured there; a fill is hard to beat in them, and the image itself tells.
"""

from __future__ import annotations

from pipeline.references.reliance import Reliance
from pipeline.selftest.weights import Belief

# best weight, and relative change of the squared error at it, at each of RELIABILITY
_THIN = ((0.0, 0.0), (0.1, -0.01), (0.2, -0.03), (0.4, -0.1), (0.7, -0.3))
_NEAR = ((0.0, 0.0), (0.3, -0.08), (0.5, -0.2), (0.9, -0.45), (1.0, -0.65))
_FAR = ((0.2, -0.05), (0.7, -0.2), (1.0, -0.35), (1.0, -0.55), (1.0, -0.8))

BELIEVED_GAIN_DB = 2.0
"""Gain of a piece of image from a reference at these weights."""

BELIEFS = tuple(Belief(weight=w, change=c) for row in (_THIN, _NEAR, _FAR) for w, c in row)
"""One for each cell of `references.reliance_cells`: thin holes, wide ones near observed pixels, wide ones far off."""

LEADING = Reliance(near=(0.3, 0.6, 0.9, 1.0, 1.0), far=(0.6, 1.0, 1.0, 1.0, 1.0))
"""How much of a reference is blended in where nearly all is hidden. What can be hidden there lies between clouds
and says nothing of what is under them; there a fill knows nothing, another date does."""
