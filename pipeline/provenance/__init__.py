"""The account of a restored image: `record` builds record.json, from which all other metadata are rendered.

`renderings` writes them: `stac` for catalogues of rasters, `crate` for packages of research objects. `bids` says what
the sidecars of a data set of derivatives hold; `output.dataset` puts them there. `summary` and `failure` tell what a
run did and what failed, `index` keeps the page of a batch. Facts of files, software and machine come from
`system.facts`; nothing here computes a pixel.
"""
