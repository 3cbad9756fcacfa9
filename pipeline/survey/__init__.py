"""The one look at the whole image, in passes of bounded memory; it ends in a plan.

Read `survey` first (from a job to a plan), then `coarse` (the fill of the whole image that patches start from),
`cost` (how long all of it will take) and `unfinished` (what a run that was interrupted goes on with).
"""
