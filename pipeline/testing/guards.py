"""Make a test fail if something reads or computes pixels that has no business to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn
from unittest import mock

from pipeline.blocks.block import BlockResult
from pipeline.execute.base import Failures, Work
from pipeline.fills.base import Window
from pipeline.geometry.box import Box
from pipeline.registry import kinds, load


def refuse_blocks(work: Work, on_done: Callable[[BlockResult], None], should_stop: Callable[[], bool]) -> Failures:  # noqa: ARG001
    """Be the executor that computes nothing: an `execute` that fails if there is any block to compute.

    Raises:
        AssertionError: `work` has blocks.
    """
    if work.blocks:
        raise AssertionError(f"{len(work.blocks)} blocks of {work.workdir} were to be computed")
    return {}


@contextmanager
def nothing_computed() -> Iterator[None]:
    """Fail if any value is computed inside: no block, fill, self-test, reference or network.

    All of them see the image through a `Window`, so none may be made; no worker may be asked for, and an executor
    without workers of its own is replaced by `refuse_blocks`. Reading pixels is allowed: masks and statistics need
    them.

    Raises:
        AssertionError: something was computed.
    """

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a window was cut out of an image, or workers were asked for, to compute with")

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Window, "__init__", refuse))
        for kind in kinds("execute"):
            module = load("execute", kind)
            offered = "opened" if hasattr(module, "opened") else "execute"
            stack.enter_context(mock.patch.object(module, offered, refuse_blocks if offered == "execute" else refuse))
        yield


@contextmanager
def no_pixels_read(*sources: type) -> Iterator[None]:
    """Fail if pixels of an image of one of these classes are asked for inside; headers are free.

    Raises:
        AssertionError: `read` or `never` was called.
    """

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("pixels were read")

    with ExitStack() as stack:
        for source in sources:
            for name in ("read", "never"):
                stack.enter_context(mock.patch.object(source, name, refuse))
        yield


@contextmanager
def pixels_read(source: type) -> Iterator[Counter[str]]:
    """Count the pixels read inside from images of a class, by the first of their paths; channels count once."""
    counts: Counter[str] = Counter()
    read = source.read  # type: ignore[attr-defined]

    def counted(image: Any, box: Box, *channels: slice) -> Any:
        counts[image.paths[0]] += box.size
        return read(image, box, *channels)

    with mock.patch.object(source, "read", counted):
        yield counts


@contextmanager
def refused(error: type[Exception], message: str) -> Iterator[None]:
    """Fail unless what is inside raises `error` and its text holds the pattern `message`."""
    try:
        yield
    except error as found:
        if re.search(message, str(found)):
            return
        raise AssertionError(f"{message!r} is not in {str(found)!r}") from found
    raise AssertionError(f"{error.__name__} was not raised ({message})")
