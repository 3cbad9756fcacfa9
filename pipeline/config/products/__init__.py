"""Scenes as agencies deliver them: which files are the bands, what hides them, and what their numbers mean.

Read `base` first (what a product is); `sentinel2`, `landsat` and `stac` recognise one each, `select` chooses its bands
and their grid, `levels` says which number stands for no reflectance. What comes out is a list of files, a mask and a
nodata value, as a user could have written them.
"""

from pipeline.config.products._open import may_be_product, open_product
from pipeline.config.products.base import Product, ProductBand

__all__ = ["Product", "ProductBand", "may_be_product", "open_product"]
