"""The pipeline from Python: arrays, xarray and nibabel images in, the same kind out, the bytes of the command line.

Read `calls` first (what can be called), then `given` (arguments as values of a config), `images` and `base` (which
kinds of images there are), a kind each: `rasters`, `labelled`, `volumes` (how one becomes a file and comes back), and
`messages` (notices and errors in the words of a call).
"""

from pipeline.api.calls import Restored, evaluate, open_image, plan, restore

__all__ = ["Restored", "evaluate", "open_image", "plan", "restore"]
