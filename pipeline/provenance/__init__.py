"""The account of a restored image: `record` builds record.json, from which all other metadata are rendered.

`renderings` writes them: `stac` for catalogues of rasters, `crate` for packages of research objects. Facts of files,
software and machine come from `system.facts`; nothing here computes a pixel.
"""
