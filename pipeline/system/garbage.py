"""Python looks for garbage less often: the libraries make 600,000 objects that stay.

With its own numbers it looks a thousand times while they are imported, for nothing, which took 0.8 of 16 seconds of a
small run. Objects that nothing refers to go at once as ever; only those that refer to themselves wait to be found.
"""

from __future__ import annotations

import gc

_AFTER = (100_000, 50, 50)
"""New objects, and rounds of the younger generations, after which a generation is looked through."""


def collect_seldom() -> None:
    """Let this process look for garbage less often; for processes of the program's own."""
    gc.set_threshold(*_AFTER)
