"""Where the holes are: one file per kind of mask, composed to three states a pixel.

Read `base` first (the states, what a mask promises, how several make one), then `raster` as the plainest kind.
"""
