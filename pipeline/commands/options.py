"""Options that several commands share, so that they read the same everywhere. Nothing heavy may be imported here."""

from __future__ import annotations

from typing import Annotated

import typer

Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="a.b=VALUE",
        help="Override a key of the config; may be repeated.",
        default_factory=list,
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results of another config or input.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
