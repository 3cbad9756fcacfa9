"""Which observed pixels are evidence: what a mask missed of thin cloud, haze and shadow is observed, but not trusted.

Read `doubt` first (how contaminated pixels are told), then `ground` (what the ground should look like) and `mark` (the
passes over an image).
"""
