"""The report: one self-contained HTML page for an image, and one for a batch.

Read `build` first (what stands on the page), then `gallery` (its pictures), `planes` and `highlights` (what they show
of an image), `panels` and `drawing` (how they are drawn), `tested` and `charts` (what hidden pixels told),
`words`, `judgement` and `methods` (what is said), `pages` (the templates). `group` is the page of all images of a
folder; `styles`, `bands` and `viewers` are for other programs, `evaluation` is the page of an evaluation.
"""
