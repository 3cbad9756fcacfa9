"""What self-tests of many images found about references and networks, for images that cannot tell, or not surely.

The table of references is rounded from that of `python -m benchmarks.prior`, down where reliability is low: cloudy
scenes of three places speak for all. Thin holes are not measured there; a fill is hard to beat in them, and the image
itself tells. That of networks comes from `python -m benchmarks.prior_network`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.numerics.situation import KNOTS
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

LEADING = Reliance(near=(0.3, 0.6, 0.9, 1.0, 1.0), far=(0.6, 1.0, 1.0, 1.0, 1.0), untested=True)
"""How much of a reference is blended in where nearly all is hidden. What can be hidden there lies between clouds
and says nothing of what is under them; there a fill knows nothing, another date does."""

_Row = tuple[tuple[float, float], ...]
"""Best weight, and relative change of the squared error at it, at each of the first `KNOTS` of a family of holes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What self-tests of many images found about a network; nothing is known of one that is not in the table."""

    beliefs: tuple[Belief | None, ...] = ()
    """One for each knot of each family of holes (`numerics.situation.KNOTS`), None = nothing is known there."""
    harmed: float | None = None
    """Share of the single wide pseudo-holes that these weights make worse, see `scores.harmed`."""


def usual_of(sha256: str) -> Usual:
    """Return what is usual with the weights of a network that have this hash."""
    return NETWORKS.get(sha256[:12], Usual())


def _usual(*, thin: _Row, wide: _Row = (), edge: _Row = (), harmed: float | None = None) -> Usual:
    rows = ((*row, *(None,) * (len(knots) - len(row))) for row, knots in zip((thin, wide, edge), KNOTS, strict=True))
    cells = [cell for row in rows for cell in row]
    return Usual(beliefs=tuple(c and Belief(weight=c[0], change=c[1]) for c in cells), harmed=harmed)


NETWORKS = {
    # optical, six places
    "393abce708e4": _usual(thin=((0.8, -0.09),)),
    # optical_small, the same
    "3d36692ac25c": _usual(
        thin=((0.9, -0.11),),
        wide=((1.0, -0.11), (1.0, -0.1), (1.0, -0.09), (1.0, -0.08), (1.0, -0.06), (0.9, -0.03), (0.0, 0.0)),
        edge=((1.0, -0.13), (1.0, -0.11), (1.0, -0.08), (1.0, -0.04), (0.9, -0.02), (0.7, -0.01), (0.2, 0.0)),
        harmed=0.17,
    ),
    # t1, four heads
    "200761717878": _usual(
        thin=((0.9, -0.21),),
        wide=((0.9, -0.31), (0.9, -0.33), (0.9, -0.33), (0.9, -0.32), (0.9, -0.3)),
        harmed=0.11,
    ),
}
"""By the first digits of the hash of their weights; rounded from the table of `python -m benchmarks.prior_network`."""
