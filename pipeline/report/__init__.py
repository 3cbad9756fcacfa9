"""The report: one self-contained HTML page.

Read `build` first (what stands on the page), then `gallery` (its pictures), `planes` and `places` (what they show of an
image), `panels` and `drawing` (how they are drawn). The page of an evaluation
is `evaluation`.
"""
