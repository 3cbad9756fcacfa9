"""What commands print for people: an aligned table, and a last line that says the result in words."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.commands.layout import aligned, as_text
from pipeline.config.names import INDEX, REPORT
from pipeline.plan.cost import Span
from pipeline.provenance.roofline import roofline_text
from pipeline.report.judgement import LEVEL_WORDS, LEVELS
from pipeline.report.viewers import viewers
from pipeline.system.paths import is_address
from pipeline.system.redact import redacted
from pipeline.system.words import counted, in_percent

_LICENCE = 24
"""Letters of a licence that a table has room for; the whole of it stands in `--json`."""


def run_text(summary: Mapping[str, Any], directory: str) -> str:
    """Return how each image of a run ended, how far to trust it, and where its results and its report are."""
    lines = []
    for entry in summary["sources"]:
        holes = entry["holes"]
        doubted, hazy = holes.get("doubted"), holes.get("hazy")
        over = f" over {planes} channels" if (planes := holes.get("planes", 1)) > 1 else ""
        doubt = f"; {doubted:,} observed pixels{over} were not used, they look like cloud or shadow" if doubted else ""
        doubt += f"; {hazy:,} observed pixels{over} were used without the haze or shadow over them" if hazy else ""
        result = f"{directory}/{entry['outputs'][0]}"
        report = next((f"{directory}/{name}" for name in entry["outputs"] if name.endswith(REPORT)), None)
        # records of older versions have no account
        lines.append(f"{entry['stem']}: {holes.get('account', 'done')}{doubt}")
        if "judgement" in entry:
            lines.append(f"{entry['stem']}: {entry['judgement']['said']}")
        lines.append(f"{entry['stem']}: {entry['state']}; result {result}" + (f", report {report}" if report else ""))
        # of many images it stands in run.json
        if entry.get("roofline") and len(summary["sources"]) == 1:
            lines.append(f"{entry['stem']}: {roofline_text(entry['roofline'])}")
        if "derivative" in entry:
            lines.append(f"{entry['stem']}: in the BIDS data set as {entry['derivative']}")
    for cube in summary.get("cubes", ()):
        lines.append(f"{counted(cube['dates'], 'date')} in one cube: {directory}/{cube['path']}")
    count = len(summary["sources"])
    if count > 1:
        page = Path(directory, INDEX)
        shown = f", all on one page: {page}" if page.exists() else ""
        lines.append(
            f"all {counted(count, 'image')} are finished in {directory}{_levels(summary)}, what each took stands "
            f"in run.json there{shown}"
        )
    elif not is_address(directory):
        (entry,) = summary["sources"]
        files, space = [f"{directory}/{name}" for name in entry["outputs"]], entry["space"]
        for first in viewers(files, space["kind"], space["channels"])[:1]:
            lines.append(f"look at it with: {first}")
    return "\n".join(lines)


def _levels(summary: Mapping[str, Any]) -> str:
    """Return how many images are judged how, the best first: ` (4 sound, 1 look at it, 1 do not rely on it)`."""
    found = Counter(entry["judgement"]["level"] for entry in summary["sources"] if "judgement" in entry)
    said = [f"{found[level]} {LEVEL_WORDS[level]}" for level in reversed(LEVELS) if found[level]]
    return f" ({', '.join(said)})" if said else ""


def plan_text(facts: Mapping[str, Any], config: Path, overrides: Sequence[str] = ()) -> str:
    """Return the numbers of `plan`, its notices, how long the run takes, and what starts it with the same overrides.

    Several images are a table, one a list: a line of the table is wider than a terminal.
    """
    rows = facts["images"]
    table = [
        [
            row["image"],
            " x ".join(map(str, row["shape"])) + f" x {row['channels']}",
            f"{row['holes']:,} ({in_percent(row['holes_fraction'])})",
            f"{row['patches_touching_holes']:,} of {row['patches_total']:,}",
            row["blocks"],
            f"{row['worker_GiB']:.2f} GiB",
            f"{row['peak_GiB']:.2f} GiB",
            f"{row['disk_GiB']:.2f} GiB",
            f"{row['executor']}, {row['workers']}",
            str(_span(row["seconds"])) if row["seconds"] else "-",
        ]
        for row in rows
    ]
    heads = [
        "image",
        "shape",
        f"{rows[0]['unit']}s to restore",
        "patches",
        "blocks",
        "memory a worker",
        "memory at most",
        "disk at most",
        "workers",
        "time",
    ]
    notes = [f"{row['image']}: note: {notice}" for row in rows for notice in row["notices"]]
    said = facts_text(dict(zip(heads, table[0], strict=True))) if len(table) == 1 else aligned(heads, table)
    return "\n".join([said, *notes, _planned(rows, config, overrides)])


def _planned(rows: Sequence[Mapping[str, Any]], config: Path, overrides: Sequence[str]) -> str:
    todo = [row for row in rows if row["holes"]]
    more = (part for given in overrides for part in ("--set", redacted(given)))
    run = f"inpaint-pipeline run {shlex.join([str(config), *more])}"
    if not todo:
        return f"{counted(len(rows), 'image')}, and nothing to restore: see the mask entries of {config}"
    spans = [_span(row["seconds"]) for row in todo]
    total = sum(spans[1:], spans[0])
    empty = f", {len(rows) - len(todo)} of them without anything to restore" if len(todo) < len(rows) else ""
    return f"{counted(len(rows), 'image')}{empty}: {total} if nothing else runs here; start it with: {run}"


def _span(seconds: Mapping[str, float]) -> Span:
    return Span(low=seconds["low"], likely=seconds["likely"], high=seconds["high"])


def status_text(facts: Mapping[str, Any]) -> str:
    """Return the table of `status`, and what is left to do."""
    rows = facts["images"]
    table = [
        [
            row["image"],
            row["state"],
            f"{row['done']:,} of {row['blocks']:,}" if "blocks" in row else "-",
            row.get("what", ""),
        ]
        for row in rows
    ]
    states = [row["state"] for row in rows]
    parts = [f"{states.count('done')} of {counted(len(rows), 'image')} done"]
    for state, advice in (
        ("running", "at work now"),
        ("survey", "being surveyed now"),
        ("failed", "failed: remove the cause, then `inpaint-pipeline run CONFIG` again"),
        ("interrupted", "interrupted: `inpaint-pipeline run CONFIG` again continues"),
        (
            "computed",
            "computed, only the files are missing: `inpaint-pipeline assemble CONFIG` makes them, as `run` does",
        ),
        ("damaged", "damaged: `inpaint-pipeline run CONFIG --overwrite` makes them again"),
    ):
        if state in states:
            parts.append(f"{states.count(state)} {advice}")
    if states.count("done") < len(states):
        parts.append("images of the config that were not begun yet are not listed")
    return "\n".join([aligned(["image", "state", "blocks", ""], table), "; ".join(parts)])


def catalog_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of `catalog list`, what is there, and how the rest is fetched."""
    table = [[r["name"], r["state"], _short(r["license"], _LICENCE), r["title"]] for r in rows]
    states = [row["state"] for row in rows]
    said = [f"{counted(len(rows), 'data set')}: {states.count('there')} there"]
    for state, words in (
        ("made on use", "made by the program on first use"),
        ("over network", "read over the network, window by window"),
    ):
        if state in states:
            said.append(f"{states.count(state)} {words}")
    missing = [row for row in rows if row["state"] == "missing"]
    lines = [aligned(["name", "state", "licence", "what"], table)]
    if missing:
        lines += [
            "",
            aligned(
                ["missing", "fetch it from", "so that there is"],
                [[r["name"], r["url"] or "-", r["wanted"]] for r in missing],
            ),
        ]
        said.append(
            f"{len(missing)} to be fetched by you, as above; INPAINT_DATA names the folder they are looked for in"
        )
    lines.append("; ".join(said) + ". Use a name as `input.source`, or: inpaint-pipeline config new NAME -o my.yaml")
    return "\n".join(lines)


def checks_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of `catalog check`, and how many entries are as they should be."""
    states = [row["state"] for row in rows]
    words = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    table = aligned(["name", "state", "what was found"], [[r["name"], r["state"], r["message"]] for r in rows])
    return f"{table}\n{counted(len(rows), 'data set')} checked: {words}"


def verification_text(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return a line for each check of each image."""
    words = {True: "ok", False: "FAILED", None: "not checked"}
    return "\n".join(
        f"{name}: {one['name']}: {words[one['held']]} ({one['detail']})"
        for name, checks in results.items()
        for one in checks
    )


def models_text(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of `models list`, and how weights are chosen."""
    table = [[name, f"{row['ndim']}-D", row["summary"]] for name, row in rows.items()]
    return (
        aligned(["weights", "images", "for"], table)
        + f"\n{len(rows)} kinds of weights come with the program, and an image gets the right ones by itself; "
        "`model: {weights: NAME}` or a path overrules it, and what does not help an image is not used"
    )


def shares_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return what a share of a run did, image by image."""
    return "\n".join(f"{e['image']}: share {e['share']} {e['state']}, {counted(e['blocks'], 'block')}" for e in entries)


def facts_text(facts: Mapping[str, Any]) -> str:
    """Return facts without an order of their own as lines `name  value`; lists of mappings become tables.

    >>> print(facts_text({"names": ["red", "nir"], "nodata": [0, 0, 0, 7], "units": ["", ""]}))
    names   red, nir
    nodata  0 (3 times), 7
    """
    lines = []
    # what a header does not say is no line
    facts = {key: value for key, value in facts.items() if _is_table(value) or _plain(value).strip(", ")}
    plain = {key: value for key, value in facts.items() if not _is_table(value)}
    width = max((len(key) for key in plain), default=0)
    for key, value in facts.items():
        if _is_table(value):
            heads = list(dict.fromkeys(name for row in value for name in row))
            lines += [f"{key}:", aligned(heads, [[row.get(name) for name in heads] for row in value])]
        else:
            lines.append(f"{key.ljust(width)}  {_plain(value)}".rstrip())
    return "\n".join(lines)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and any(value)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        # what many bands say alike is said once
        runs = ((text, len(list(same))) for text, same in groupby(map(_plain, value)))
        return ", ".join(f"{text} ({n} times)" if text and n > 2 else ", ".join([text] * n) for text, n in runs)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return str(value) if isinstance(value, int) else as_text(value)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
