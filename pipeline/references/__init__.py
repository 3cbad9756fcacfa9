"""Other dates and other contrasts as predictors of what a hole hides.

A reference enters in three steps, each of which repairs what the one before cannot know::

    ridge      all bands of the reference -> each band of the target, one linear map for the whole image
    local      target on ridge output in a window around each pixel: season, haze, bias field
    residual   what is left on observed pixels, interpolated across the holes by the tension spline

The last step makes the result meet the observed pixels without a seam. Where the reference itself sees
nothing (its own clouds) the single-image fill stands, and the two are feathered into one another.
"""

from pipeline.references.estimate import ReferenceFill, reference_fill
from pipeline.references.relation import Relation, fit_relation

__all__ = ["ReferenceFill", "Relation", "fit_relation", "reference_fill"]
