"""The one look at the whole image, in passes of bounded memory; it ends in a plan.

Read `survey` first (from a job to a plan), then `coarse` (the fill of the whole image that patches start from) and
`cost` (how long all of it will take).
"""
