"""Integers and numpy only: boxes, spaces, the patch lattice and its blend weights.

Read `box` first, then `space` (where pixels lie in the world) and `lattice` (which patches cover a pixel, how much).
"""
