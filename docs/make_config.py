"""Write `docs/config.md` from the JSON schema, so that the page names every key, its default and what it means.

Run it with `make docs`; `tests/endtoend/test_docs.py` fails when the page is stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("config.md")
_INTRODUCTION = """\
# Keys of a config

Written by `make docs` from the config's own schema; do not edit. `inpaint-pipeline config new FILE` writes a start with
comments, `inpaint-pipeline config show CONFIG` prints all keys of a config with their defaults. Kinds of holes for
`mask` have options of their own: [masks.md](masks.md).
"""


def page() -> str:
    """Return the whole page as Markdown."""
    from pipeline.config.schema import json_schema

    schema = json_schema()
    return "\n".join([_INTRODUCTION, *_section(schema, schema, "")])


def _section(schema: dict[str, Any], part: dict[str, Any], name: str) -> Iterator[str]:
    """Yield the lines of a section, then those of the sections in it."""
    inner: list[tuple[str, dict[str, Any]]] = []
    rows = []
    for key, value in part["properties"].items():
        path = f"{name}.{key}" if name else key
        below = _below(schema, value)
        if below and "properties" in below:
            inner.append((path, below))
        rows.append(f"| `{key}` | {_default(value)} | {_said(value, below)} |")
    if name:
        yield f"## `{name}`\n\n{part.get('description', '').strip()}\n"
    yield "| key | default | what |\n|---|---|---|"
    yield from rows
    yield ""
    for path, below in inner:
        yield from _section(schema, below, path)


def _below(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any] | None:
    """Return the section that a key holds, alone, in a list or as one of several things; None of several kinds."""
    found = set(_references(value))
    return schema["$defs"][found.pop()] if len(found) == 1 else None


def _references(value: dict[str, Any]) -> Iterator[str]:
    if "$ref" in value:
        yield value["$ref"].rsplit("/", 1)[1]
    for one in (*value.get("anyOf", ()), *value.get("allOf", ()), *filter(None, [value.get("items")])):
        yield from _references(one)


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default is None or isinstance(default, dict):
        return ""
    return f"`{json.dumps(default)}`"


def _said(value: dict[str, Any], below: dict[str, Any] | None) -> str:
    text = value.get("description") or (below or {}).get("description", "")
    choices = value.get("enum")
    if choices and len(choices) < 16:
        text += f" One of {', '.join(f'`{json.dumps(one)}`' for one in choices)}."
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
