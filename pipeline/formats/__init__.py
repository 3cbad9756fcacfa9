"""One file per format; reader and writer live together: what was read must be what is written."""

from pipeline.formats._open import open_any

__all__ = ["open_any"]
