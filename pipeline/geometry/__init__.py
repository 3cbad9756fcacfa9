"""Integers and numpy only: boxes, spaces, the patch lattice and its blend weights."""
