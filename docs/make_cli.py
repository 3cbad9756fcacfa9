"""Write `docs/cli.md` from the commands themselves, so that the page cannot say something else than `--help`.

Run it with `make docs`; `tests/endtoend/test_docs.py` fails when the page is stale.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("cli.md")
_WIDTH = 100
_INTRODUCTION = """\
# Command line

Written by `make docs` from the commands' own help; do not edit. Data go to stdout (`--json`), messages to stderr.
Exit codes are explained in [outputs.md](outputs.md#exit-codes), config keys in `inpaint-pipeline config schema`.
"""


def command_names() -> list[tuple[str, ...]]:
    """Return the words of every command, groups included, in the order of the help."""
    import typer

    from pipeline.cli import app

    return list(_walk(typer.main.get_command(app), ()))


def help_text(words: tuple[str, ...]) -> str:
    """Return what `inpaint-pipeline WORDS --help` prints on a terminal of 100 columns."""
    from typer.testing import CliRunner

    from pipeline.cli import app

    # the shell decides the wording of two options; take none
    plain = {"TERM": "dumb", "COLUMNS": str(_WIDTH), "NO_COLOR": "1"}
    result = CliRunner(env=plain).invoke(app, [*words, "--help"], prog_name="inpaint-pipeline", terminal_width=_WIDTH)
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [_INTRODUCTION]
    for words in command_names():
        title = " ".join(("inpaint-pipeline", *words))
        parts.append(f"{'##' if len(words) < 2 else '###'} `{title}`\n\n```text\n{help_text(words)}\n```\n")
    return "\n".join(parts)


def _walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from _walk(command.commands[name], (*words, name))


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", str(_WIDTH))
    PAGE.write_text(page(), encoding="utf-8")
