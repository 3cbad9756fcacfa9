"""Classical fills: a window with holes in, the same window without holes out; one file per kind.

Read `base` first (what a fill promises), then `nearest` (the smallest) and `tension` (the base of everything).
"""
