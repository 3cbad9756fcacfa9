"""From blocks to published files: the folder of an image, its final files, and the proof that they hold.

Read `folder` first (who owns it, when it is finished), then `assemble` (final files) and `verify` (promises checked).
`dataset` gives them names in a BIDS data set, too; `display` makes an image for looking at, of what `donors` lend;
`cube` puts the dates of a series together. `delivery` is for results at an address, which `sending` gives their names.
"""
