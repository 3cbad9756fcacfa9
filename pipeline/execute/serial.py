"""Blocks one after another in this process: the reference for every other executor, and best for small images.

Also known as: single, sequential, none.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.blocks.block import BlockResult
from pipeline.execute.base import Failures, Work, attempt


def execute(work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:
    """Run the blocks in order; see `execute.base`."""
    failures: Failures = {}
    for block in work.blocks:
        if should_stop():
            break
        result = attempt(work, block)
        if isinstance(result, str):
            failures[block] = result
        else:
            on_done(result)
    return failures
