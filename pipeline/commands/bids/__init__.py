"""A BIDS data set from end to end: `inpaint-pipeline bids` as a BIDS App.

Read `images` (what is found, and with which masks and guides), `lost` (slices that a series lost), `participant` (a
config and a run for each image), `group` (one table of all). `command` is the command line.
"""
