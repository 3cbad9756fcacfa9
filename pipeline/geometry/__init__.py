"""Integers and numpy only: boxes, spaces, orientations, the patch lattice and its blend weights.

Read `box` first, then `space` (where pixels lie in the world), `orientation` (how a volume lies in the body) and `lattice`
(which patches cover a pixel, how much).
"""
