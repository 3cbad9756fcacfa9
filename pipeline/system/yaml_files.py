"""Read YAML 1.2 and remember the line of every value, so that errors can name it."""

from __future__ import annotations

import datetime
import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import ConfigError

Loc = tuple[str | int, ...]
"""Path of a value in a document: `("mask", 0, "buffer")` is written `mask.0.buffer`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A YAML file as plain Python values.

    Attributes:
        path: the file.
        data: its top-level mapping.
        origins: where each value stands, e.g. `sentinel.yaml:12` or `--set patch.size=128`.
    """

    path: Path
    data: dict[str, Any]
    origins: Mapping[Loc, str]

    def origin(self, loc: Loc) -> str:
        """Return where `loc` stands: itself, else what was set inside it, else what it stands in."""
        if loc in self.origins:
            return self.origins[loc]
        inside = [text for known, text in self.origins.items() if known[: len(loc)] == loc]
        if loc and inside:
            return inside[0]
        return self.origin(loc[:-1]) if loc else str(self.path)


def read_yaml(path: Path) -> Document:
    """Read a YAML 1.2 file whose top level is a mapping.

    Raises:
        ConfigError: missing, not UTF-8, bad syntax (with the line), a duplicate key, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file{nearest(path.name, siblings)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    tree = _parse(text, str(path))
    if tree is None:
        raise ConfigError(f"{path}: is empty; 'inpaint-pipeline config new FILE' writes a start")
    if not isinstance(tree, dict):
        what = "a list" if isinstance(tree, list) else repr(tree)
        raise ConfigError(f"{path}: must hold 'key: value' pairs at its top level, found {what}")
    origins: dict[Loc, str] = {}
    data = _plain(tree, (), path, origins)
    return Document(path=path, data=data, origins=origins)


def parse_value(text: str, where: str) -> Any:
    """Return the value of one YAML expression, e.g. the right side of `--set`."""
    return _plain(_parse(text, where), (), Path(where), {})


def with_overrides(document: Document, overrides: Iterable[str]) -> Document:
    """Return the document with every `a.b=VALUE` (VALUE in YAML) put in; list items by number.

    Raises:
        ConfigError: no `=`, an empty path, or a path through a value that is no mapping or list.
    """
    data = _copy(document.data)
    origins = dict(document.origins)
    for text in overrides:
        dotted, equals, value = text.partition("=")
        loc: Loc = tuple(int(k) if k.isdigit() else k for k in dotted.strip().split("."))
        if not equals or "" in loc:
            raise ConfigError(f"--set {text}: write it as --set section.key=VALUE")
        _put(data, loc, parse_value(value, f"--set {text}"), text)
        origins = {known: line for known, line in origins.items() if known[: len(loc)] != loc}
        origins[loc] = f"--set {text}"
    return Document(path=document.path, data=data, origins=origins)


def explain(error: ValidationError, document: Document, known_keys: Mapping[Loc, Iterable[str]]) -> str:
    """Turn a validation error into lines `file:line: dotted.path: what is wrong, what to do`.

    Args:
        error: what pydantic found.
        document: the file that was read.
        known_keys: keys allowed in the mapping at each path, for the nearest right one.
    """
    lines = []
    for item in error.errors(include_url=False):
        loc: Loc = tuple(item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            keys = sorted(known_keys.get(loc[:-1], ()))
            known = f" (known: {', '.join(keys)})" if keys else ""
            message = f"unknown key{nearest(str(loc[-1]), keys)}{known}"
        elif item["type"] == "missing":
            message = "this key is required; add it"
        elif item["type"] != "value_error":
            words = re.findall(r"'([^']+)'", str(item.get("ctx", {}).get("expected", "")))
            message = f"{message}, found {item['input']!r}{nearest(str(item['input']), words)}"
        lines.append(f"{document.origin(loc)}: {'.'.join(map(str, loc)) or 'top level'}: {message}")
    return "\n".join(lines)


def expand_environment(text: str, where: str) -> str:
    """Return `text` with `${NAME}` replaced from the environment and a leading `~` by the home folder.

    Raises:
        ConfigError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigError(f"{where}: '{text}' needs the environment variable {name}, which is not set")
        return os.environ[name]

    expanded = re.sub(r"\$\{(\w+)\}", value, text)
    return expanded if "://" in expanded else str(Path(expanded).expanduser())


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` - did you mean 'x'?`, or nothing if no known word is near."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" - did you mean '{found[0]}'?" if found else ""


def _parse(text: str, where: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        problem = str(error.problem).split(" with value", maxsplit=1)[0]
        raise ConfigError(f"{where}:{line}: {problem}; keep one of them") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from None


def _plain(node: Any, loc: Loc, path: Path, origins: dict[Loc, str]) -> Any:
    marks: Any = getattr(node, "lc", None)
    if isinstance(node, dict):
        lines = marks.data or {}
        for key in node:
            if key in lines:
                origins[(*loc, key)] = f"{path}:{lines[key][0] + 1}"
        return {key: _plain(value, (*loc, key), path, origins) for key, value in node.items()}
    if isinstance(node, list):
        for index in range(len(node)):
            origins[(*loc, index)] = f"{path}:{marks.item(index)[0] + 1}"
        return [_plain(value, (*loc, index), path, origins) for index, value in enumerate(node)]
    return _scalar(node)


def _scalar(node: Any) -> Any:
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    # YAML 1.2 knows no dates: an unquoted 2024-06-01 is text.
    return node.isoformat() if isinstance(node, datetime.date) else node


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _put(data: Any, loc: Loc, value: Any, text: str) -> None:
    for depth, key in enumerate(loc[:-1]):
        following: Any = {}
        if isinstance(data, dict):
            if data.get(key) is None:
                data[key] = following
        elif not (isinstance(data, list) and isinstance(key, int) and key < len(data)):
            raise ConfigError(f"--set {text}: '{'.'.join(map(str, loc[:depth]))}' has no part '{key}'")
        data = data[key]
    last = loc[-1]
    if isinstance(data, dict):
        data[last] = value
    elif isinstance(data, list) and isinstance(last, int) and last <= len(data):
        data[last : last + 1] = [value]
    else:
        raise ConfigError(f"--set {text}: '{'.'.join(map(str, loc[:-1]))}' has no part '{last}'")
