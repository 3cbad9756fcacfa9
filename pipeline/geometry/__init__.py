"""Where pixels are: boxes, spaces, orientations, the patch lattice and its blend weights. Integers and numpy only.

Read `box` first, then `space` (where pixels lie in the world), `orientation` (how a volume lies in the body, by the
algebra of nibabel) and `lattice` (which patches cover a pixel, how much).
"""
