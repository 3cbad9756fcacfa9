"""Hides observed pixels by families of holes, lets the image be restored, and scores every method on them.

Read `rounds` first (the whole story), then `families` and `holes` (what is hidden), `hiding` (how the image is told),
`methods` (what each makes of it), `scoring` (what is counted) and `table` (the scores and how sure they are).
"""
