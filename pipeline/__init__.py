"""inpaint-pipeline: restore hidden pixels of GeoTIFF and NIfTI images of any size."""

__version__ = "0.1.0"
