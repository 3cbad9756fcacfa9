"""Readers and writers, one file per format; `open_any` finds the right one, `files_of` what belongs to an image.

Read `base` first (what a source promises); what was read must be what is written, so both live in one file.
"""

from pipeline.formats._belonging import files_of
from pipeline.formats._open import is_image, open_any

__all__ = ["files_of", "is_image", "open_any"]
