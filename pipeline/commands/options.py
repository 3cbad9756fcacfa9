"""Arguments and options that several commands share, so that they read the same everywhere.

Nothing heavy may be imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _config(path: Path) -> Path:
    """Refuse what is no config before a command begins with it."""
    from pipeline.commands.hints import require_config

    require_config(path)
    return path


def _training(path: Path) -> Path:
    """Refuse what is no config of a training."""
    from pipeline.commands.hints import require_training

    require_training(path)
    return path


Config = Annotated[
    Path, typer.Argument(help="YAML config, e.g. configs/sentinel.yaml.", show_default=False, callback=_config)
]
TrainingConfig = Annotated[
    Path,
    typer.Argument(help="YAML config of a training, e.g. train_mine.yaml.", show_default=False, callback=_training),
]
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
