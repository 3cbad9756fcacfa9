"""Models that refine a fill, one file each; the file name is the `kind:`."""
