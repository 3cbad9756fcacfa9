"""The pipeline from Python: arrays, xarray and nibabel images in, the same kind out, the bytes of the command line.

Read `calls` first (what can be called), then `images` (how an image in memory becomes a file and comes back).
"""

from pipeline.api.calls import Restored, evaluate, open_image, plan, restore

__all__ = ["Restored", "evaluate", "open_image", "plan", "restore"]
