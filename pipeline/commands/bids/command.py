"""The command line of `inpaint-pipeline bids`, with the arguments that BIDS Apps have."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from pipeline.commands.options import AsJson, Overwrite, Quiet

if TYPE_CHECKING:
    from pipeline.commands.bids.images import Choice

_POSITIONALS = 3
_LISTS = ("--participant-label", "--session-label", "--modalities")
"""Options that take several values one after the other, as those of other BIDS Apps do."""


def command() -> Any:
    """Return the command."""
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    one.command(cls=AppCommand)(bids)
    return typer.main.get_command(one)


class Level(StrEnum):
    """What is done: each participant by itself, or a table of all."""

    participant = "participant"
    group = "group"


class AppCommand(TyperCommand):
    """Takes `--participant-label 01 02` and `--participant_label 01` like `--participant-label 01,02`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write lists of values as one value each before they are parsed."""
        words: list[str] = []
        positionals, option, given = 0, "", 0
        for word in args:
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                option, given = name.replace("_", "-"), int(bool(equals))
                words.append(option + equals + value)
            elif word.startswith("-"):
                option = word
                words.append(word)
            # a value too many belongs to the list, once all that must be given has been
            elif option in _LISTS and given and positionals >= _POSITIONALS:
                words += [option, word]
            else:
                taken = self._takes_value(option) and not given
                positionals += not taken
                words.append(word)
                given += taken
        return super().parse_args(ctx, words)

    def _takes_value(self, option: str) -> bool:
        return any(option in one.opts and not getattr(one, "is_flag", False) for one in self.params)


def bids(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set.", show_default=False)],
    output_dir: Annotated[Path, typer.Argument(help="Data set of derivatives; made if needed.", show_default=False)],
    level: Annotated[
        Level,
        typer.Argument(
            metavar="participant|group", help="Restore, or write the table and the page.", show_default=False
        ),
    ],
    participant_label: Annotated[
        list[str] | None, typer.Option(metavar="LABEL...", help="Participants, with or without 'sub-'; default all.")
    ] = None,
    session_label: Annotated[
        list[str] | None, typer.Option(metavar="LABEL...", help="Sessions, with or without 'ses-'; default all.")
    ] = None,
    modalities: Annotated[
        list[str] | None, typer.Option(metavar="SUFFIX...", help="Of T1w, T2w, FLAIR, bold; default all.")
    ] = None,
    mask_pattern: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="File names of masks, with wildcards; default those of lesions. Repeatable."),
    ] = None,
    mask_dir: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder or data set of masks, looked at first. Repeatable."),
    ] = None,
    buffer: Annotated[
        str, typer.Option(metavar="LENGTH", help="Widen the masks: '1 mm', '2 px'.", show_default=False)
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=VALUE", help="Set a key of the configs; may be repeated."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Restore lesions and lost slices of a BIDS data set; a BIDS App that writes derivatives.

    Example: inpaint-pipeline bids heads derivatives participant --participant-label 01 02
    """
    from pipeline.commands.bids.images import MODALITIES, Choice

    choice = Choice(
        root=Path(os.path.abspath(bids_dir)),  # noqa: PTH100 - without `..`, and by the name that was given
        participants=_labels(participant_label, "sub-"),
        sessions=_labels(session_label, "ses-"),
        modalities=_labels(modalities, "") or MODALITIES,
        mask_folders=tuple(folder.absolute() for folder in mask_dir or ()),
        mask_names=tuple(mask_pattern or ()),
        buffer=buffer,
    )
    target = output_dir.resolve()
    if level is Level.group:
        _group(choice, target, as_json=as_json)
    else:
        _participant(choice, target, set_ or [], as_json=as_json, quiet=quiet, overwrite=overwrite)


def _participant(
    choice: Choice, target: Path, overrides: list[str], *, as_json: bool, quiet: bool, overwrite: bool
) -> None:
    import json

    from pipeline.commands.progress import loading, progress

    with loading(quiet=quiet):
        from pipeline.commands.bids.participant import participant, participants_text
    with progress(quiet=quiet) as events:
        facts = participant(choice, target, overrides, overwrite=overwrite, events=events)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    elif not quiet:
        typer.echo(participants_text(facts, target), err=True)


def _group(choice: Choice, target: Path, *, as_json: bool) -> None:
    import json

    from pipeline.commands.bids.group import group, group_text

    facts = group(choice, target)
    typer.echo(json.dumps(facts, indent=1) if as_json else group_text(facts))


def _labels(given: list[str] | None, prefix: str) -> tuple[str, ...]:
    """Return labels without their prefix, each once; commas separate them, too."""
    labels = [label.removeprefix(prefix) for text in given or () for label in text.split(",") if label]
    return tuple(dict.fromkeys(labels))
