"""Other dates and other contrasts as predictors of what a hole hides.

A reference enters in three steps, each of which repairs what the one before cannot know::

    relation   what a reference looks like around a pixel -> each band of the target, for the whole image: a linear
               map, a smooth non-linear correction, and how far off both are for pixels that look like this
    local      its error regressed on all bands of the reference in a window around each pixel: season, haze, bias field
    residual   what is left on observed pixels, interpolated across the holes along what the reference shows as one

Several references that see the same pixels have one relation of all their bands (`joint`), before each has its own.

The last step makes the result meet the observed pixels without a seam. Where the reference itself sees
nothing (its own clouds) the single-image fill stands, moved by what the reference changes beside it (`continued`).
"""
