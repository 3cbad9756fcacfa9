"""What the report says in words; the numbers are those of the record, so both say the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import Environment

from pipeline.report.judgement import error_text, relative_error
from pipeline.system.words import counted, in_percent, whole_percents

_HALF = 0.5
"""Share of a value below which it looks more like the rest than like the guide that is named for it."""

_SHOWN = 12
"""Channels of which the page gives numbers; the record has all."""


def register_words(environment: Environment, record: Mapping[str, Any], channels: Sequence[str]) -> None:
    """Give templates the words for a record.

    These are the filters `percent`, `signed` and `told`, and `unit`, `channels`, `network` and `by_channel`.

    Args:
        environment: of the templates.
        record: the record.
        channels: names of the restored channels.
    """
    environment.filters["percent"] = in_percent
    environment.filters["signed"] = lambda v: "-" if v is None or math.isnan(v) else f"{v:+.2f}"
    environment.filters["told"] = lambda name: source_words(record).get(name, name)
    environment.globals["unit"] = unit_of(record)
    environment.globals["channels"] = counted(record["space"]["channels"], channel_of(record))
    environment.globals["network"] = network_part(record)
    environment.globals["by_channel"] = partial(by_channel, record, channels)


def by_channel(record: Mapping[str, Any], channels: Sequence[str], name: str, form: str, factor: float = 1.0) -> str:
    """Return what the self-test says of each channel in which something was hidden, e.g. `red 91 %, nir 88 %`.

    Args:
        record: the record.
        channels: names of the restored channels.
        name: of a list in `self_test`, a value for each channel.
        form: how a value is written, as `%.0f`.
        factor: values are multiplied by it first.
    """
    test = record["self_test"]
    rows = zip(channels, test[name] or (), test["coverage_90_by_channel"] or (), strict=False)
    known = [f"{channel} {form % (factor * value)}" for channel, value, held in rows if held is not None]
    more = len(known) - _SHOWN
    return ", ".join(known[:_SHOWN]) + (f" and {more} more, which are in record.json" if more > 0 else "")


def unit_of(record: Mapping[str, Any]) -> str:
    """Return what a value of the image is called: `pixel`, in volumes `voxel`."""
    return "voxel" if record["space"]["kind"] == "volume" else "pixel"


def channel_of(record: Mapping[str, Any]) -> str:
    """Return what a channel of the image is called: `band`, in volumes `time point`."""
    return "time point" if record["space"]["kind"] == "volume" else "band"


def source_words(record: Mapping[str, Any]) -> dict[str, str]:
    """Return by name of a source what says more to somebody who has not read the config: which reference it is."""
    guides = enumerate(record["references"])
    named = {f"{guide['role']} {k}": f"{guide['role']} {k} ({guide['label']})" for k, guide in guides}
    named["classical"] = "classical interpolation"
    return named | {"other channels": f"other {channel_of(record)}s of the image"}


def verdict(record: Mapping[str, Any]) -> str:
    """Return the one-sentence summary on top of the page; what was left is a reason of the judgement below it."""
    holes = record["holes"]
    unit = unit_of(record)
    if not holes["pixels"]:
        what = f"Nothing to restore: the masks mark no {unit} that may be changed. The output equals the input."
        return f"{what} Of what was asked for: {holes['account']}." if holes.get("left") else what
    parts = [f"{holes['pixels']:,} {unit}s ({100 * holes['fraction']:.2f} %) were restored"]
    error = relative_error(record)
    if error is not None:
        parts.append(f"the error to expect there is {error_text(error)} (root mean square)")
    test = record["self_test"]
    if test and test["coverage_90"] is not None:
        parts.append(f"the 90 % interval held {100 * test['coverage_90']:.0f} % of hidden test {unit}s")
    return "; ".join([*parts, made_of(record)]) + "."


def made_of(record: Mapping[str, Any]) -> str:
    """Return from what the restored pixels are made, with the share of each; empty if none was restored."""
    by_source, said = record["holes"]["by_source"], source_words(record)
    shares = zip(by_source, whole_percents(list(by_source.values())), strict=True) if by_source else ()
    parts = ", ".join(f"{share} {said.get(name, name)}" for name, share in shares)
    return f"from: {parts}{_thinly(record)}" if parts else ""


def _thinly(record: Mapping[str, Any]) -> str:
    """Return which guides are named in the result but make less than half of its values, with the self-test's share."""
    said = {
        text: in_percent(row["weight"])
        for name, text in source_words(record).items()
        for row in (record["self_test"] or {}).get("methods", ())
        if name in record["holes"]["by_source"] and 0 < row["weight"] < _HALF and row["method"].startswith(name)
    }
    if not said:
        return ""
    parts = ", ".join(f"{text} made {share}" for text, share in said.items())
    return f" (blended, mostly of what the image itself tells: of values on hidden {unit_of(record)}s {parts})"


def network_part(record: Mapping[str, Any]) -> str:
    """Return which part the network has in the result, in the words and numbers of the table and the record."""
    model = record["model"]
    if not model:
        return "none"
    if not model["used"]:
        return f"{model['name']}: not used, it did not help enough on hidden {unit_of(record)}s"
    rows = [row for row in (record["self_test"] or {}).get("methods", ()) if row["method"].startswith("network ")]
    tested = f"{in_percent(rows[0]['weight'])} of what was tested, " if rows else ""
    most, unit = in_percent(record["recipe"]["network_weight"]), unit_of(record)
    leads = record["holes"]["by_source"].get("network", 0)
    where = f"it leads in {leads:,} {unit}s" if leads else f"it leads in no {unit}"
    return f"{model['name']}: {tested}up to {most} of a {unit}; {where}"
