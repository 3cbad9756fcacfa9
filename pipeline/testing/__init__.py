"""Contract tests for parts of your own, and the fakes that they are made of; needs pytest to run, not to import.

A part (format, mask, fill, model, executor) keeps its contract if a subclass of its class here passes::

    # conftest.py: so that a failed assert shows its values
    pytest.register_assert_rewrite("pipeline.testing")

    # test_smooth.py
    class TestSmooth(FillContract):
        kind = "smooth"

The part must be found by its kind, as in a run: a package that names it in an entry point is installed. Read
`images` first (an image in memory), then the contract of your part; `guards` makes a test fail if pixels are read or
computed. Nothing in the program imports this chapter.
"""

from pipeline.testing.executors import ExecutorContract
from pipeline.testing.fills import FillContract
from pipeline.testing.formats import FormatContract
from pipeline.testing.guards import no_pixels_read, nothing_computed, pixels_read, refuse_blocks
from pipeline.testing.images import ArrayMask, ArraySource, random_image, raster_space, volume_space
from pipeline.testing.masks import MaskContract
from pipeline.testing.models import ModelContract

__all__ = [
    "ArrayMask",
    "ArraySource",
    "ExecutorContract",
    "FillContract",
    "FormatContract",
    "MaskContract",
    "ModelContract",
    "no_pixels_read",
    "nothing_computed",
    "pixels_read",
    "random_image",
    "raster_space",
    "refuse_blocks",
    "volume_space",
]
