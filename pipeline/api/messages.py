"""What a call says: notices in the log, and messages that speak of arguments, not of options and files nobody sees."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.blocks.events import Events
from pipeline.errors import ConfigError, PipelineError

_LOG = logging.getLogger("pipeline.api")
_FILES = {"image": "the image", "guide": "in memory", "holes": "the holes"}
"""Stems of the files that values in memory were written to."""
_WORDS = (
    (r"--overwrite", "overwrite=True"),
    (r"output\.directory", "folder="),
    (
        r"`mask:` on its entry says what is hidden in it, `mask: \[\]` that nothing is",
        "give it as a pair (image, its holes)",
    ),
    (
        r"add a `mask:` entry \(`config new FILE` writes a commented start\), such as .*? \(nodata, NaN\)",
        "give `holes`, an array that is True there, such as `numpy.isnan(values)` for all that is NaN",
    ),
)
_first: list[int] = []


class Logged(Events):
    """Passes notices on as warnings of the logger `pipeline.api`; `inputs` as in `in_words_of_calls`."""

    def __init__(self, inputs: Path) -> None:
        self._inputs = inputs

    def notice(self, stem: str, text: str) -> None:
        """Log it."""
        _LOG.warning("%s: %s", stem, _translated(text, self._inputs, kept=True))


@contextmanager
def in_words_of_calls(inputs: Path, *, kept: bool) -> Iterator[None]:
    """Let errors name arguments where those of the command line name its options and the files that a call writes.

    Args:
        inputs: folder of the config and of images that were given in memory.
        kept: whether it stays after the call.

    Raises:
        PipelineError: of the same class, with other words.
    """
    try:
        yield
    except PipelineError as error:
        words = _translated(str(error), inputs, kept=kept)
        if words == str(error):
            raise
        raise type(error)(words) from error


def require_own_process() -> None:
    """Refuse a process that was forked after its parent had made a call: threads that libraries wait for are gone.

    Raises:
        ConfigError: says how to start processes.
    """
    if not _first:
        _first.append(os.getpid())
    if os.getpid() not in _first:
        raise ConfigError(
            "this process was forked from one that had used pipeline.api before, and could hang; start processes with "
            "multiprocessing.get_context('spawn'), or make no call before they start"
        )


def _translated(text: str, inputs: Path, *, kept: bool) -> str:
    made = rf"{re.escape(str(inputs))}/[0-9a-f]{{16}}"
    again = "call it again to continue" if kept else "nothing was kept, as no folder= was given"
    text = re.sub(rf"run `inpaint-pipeline run {made}/config\.yaml` again to continue", again, text)
    text = re.sub(rf"{made}/config\.yaml:(\d+: )?", "", text).lstrip()
    text = re.sub(rf"{made}/({'|'.join(_FILES)})\.[a-z.]*[a-z]", lambda found: _FILES[found[1]], text)
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
