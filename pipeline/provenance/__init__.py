"""The account of a restored image: `record` builds record.json, from which all other metadata are rendered.

Facts of files, software and machine come from `system.facts`; nothing here computes a pixel.
"""
