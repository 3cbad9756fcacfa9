"""The opened image of a run: its guides, its hole states, its statistics, and the windows cut from it.

Read `open` first (files), then `scan` (where holes are, what values look like), `scene` (what the survey looks at) and
`workspace` (what a block reads).
"""
