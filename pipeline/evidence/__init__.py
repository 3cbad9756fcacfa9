"""Which observed pixels are evidence: what a mask missed of thin cloud, haze and shadow is observed, but not trusted.

Read `learn` first (how contaminated pixels are told), then `doubt` (what is known of them), `ground` (what the ground
should look like), `rings` (how pixels differ from it), `shifts` and `cast` (what is proof), `haze` (what can be taken
off), `outline` (where scraps of cloud and shadow end), `veil` (what can be taken off these) and `mark` (the passes over
an image).
"""
