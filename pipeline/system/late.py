"""Files that another machine has written, and that a network file system may show some time later.

NFS keeps for up to a minute what it knows of a folder (`acdirmax`), also that a file was not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.system.signals import stop_if_asked

LONGEST_S = 65.0
"""What is not seen after this time is taken for not there."""

_FIRST_S, _SLOWEST_S = 0.2, 3.0


def seen_in_time(look: Callable[[], bool]) -> bool:
    """Look until something is seen, or `LONGEST_S` are over; returns whether it was seen.

    Args:
        look: says whether it is.

    Raises:
        Interrupted: see `stoppable`.
    """
    until, pause = time.monotonic() + LONGEST_S, _FIRST_S
    while not look():
        stop_if_asked()
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, _SLOWEST_S)
    return True
