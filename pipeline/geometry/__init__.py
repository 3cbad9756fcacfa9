"""Where pixels are: boxes, spaces, places in other reference systems, orientations, the patch lattice and its weights.

Read `box` first, then `space` (where pixels lie in the world), `places` (the same in other reference systems),
`orientation` (how a volume lies in the body, by the algebra of nibabel) and `lattice` (which patches cover a pixel, how
much).
"""
