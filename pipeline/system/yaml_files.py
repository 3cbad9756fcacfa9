"""Read YAML 1.2 and remember the line of every value, so that errors can name it."""

from __future__ import annotations

import codecs
import difflib
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.system.paths import home_expanded, read_bounded, require_possible, shortened

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from pipeline.system.yaml_tree import Tree

MOST_BYTES = 512 * 2**10
"""Of a config, catalog or card; the largest that come with the package have 25 KiB."""
_MOST_LINES, _LONGEST_LINE = 20, 1000
"""Of a message about a file that is wrong in many places."""
_LONGEST_WORD = 100
"""Of which similar words are looked for."""
_DEEPEST_SET = 16
"""Keys of a dotted path on the command line."""
_BARE = re.compile(r"\$([A-Za-z]\w+)")
"""A variable as shells know it, without braces."""

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
        ConfigError: missing, no regular file, larger than `MOST_BYTES`, not UTF-8, bad syntax (with the line), a
            duplicate key, an unknown tag, nested too deep, too many values (see `yaml_tree`), or no mapping.
    """
    text = read_text(path)
    tree = _parse(text, str(path))
    if tree.data is None:
        raise ConfigError(f"{path}: is empty; 'inpaint-pipeline config new FILE' writes a start")
    if not isinstance(tree.data, dict):
        what = "a list" if isinstance(tree.data, list) else shortened(repr(tree.data))
        raise ConfigError(f"{path}: must hold 'key: value' pairs at its top level, found {what}")
    return Document(path=path, data=tree.data, origins={loc: f"{path}:{line}" for loc, line in tree.lines.items()})


def read_text(path: Path) -> str:
    """Return the text of a file that people write by hand; never waits, whatever lies at the path.

    Raises:
        ConfigError: missing, no regular file, larger than `MOST_BYTES`, or not UTF-8 (with the line).
    """
    try:
        content = read_bounded(path, MOST_BYTES)
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file{nearest(path.name, siblings)}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{shortened(str(path))}: cannot be read: {error}") from None
    if _is_wide(content):
        raise ConfigError(
            f"{path}: its text is UTF-16 or UTF-32, as some editors and shells write it; save it as UTF-8"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}: cannot be read as UTF-8 text: line {line} has byte {content[error.start]:#x}; save it as UTF-8"
        ) from None


def _is_wide(content: bytes) -> bool:
    """Return True for text of two or four bytes a letter."""
    # of Latin letters every other byte is zero then, or three of four
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and 3 * content.count(0) <= len(content):
        return False
    for coding in ("utf-32", "utf-16", "utf-16-be"):
        with suppress(UnicodeDecodeError):
            if "".join(content.decode(coding).removeprefix("\ufeff").split()).isprintable():
                return True
    return False


def parse_value(text: str, where: str) -> Any:
    """Return the value of one YAML expression, e.g. the right side of `--set`."""
    return _parse(text, where).data


def with_overrides(document: Document, overrides: Iterable[str]) -> Document:
    """Return the document with every `a.b=VALUE` (VALUE in YAML) put in; list items by number.

    Raises:
        ConfigError: no `=`, an empty path, or a path through a value that is no mapping or list.
    """
    data = _copy(document.data)
    origins = dict(document.origins)
    for text in overrides:
        dotted, equals, value = text.partition("=")
        loc: Loc = tuple(int(k) if re.fullmatch("[0-9]{1,9}", k) else k for k in dotted.strip().split("."))
        if not equals or "" in loc or len(loc) > _DEEPEST_SET:
            raise ConfigError(f"--set {shortened(text)}: write it as --set section.key=VALUE")
        _put(data, loc, parse_value(value, f"--set {shortened(text)}"), text)
        origins = {known: line for known, line in origins.items() if known[: len(loc)] != loc}
        origins[loc] = f"--set {shortened(text)}"
    return Document(path=document.path, data=data, origins=origins)


_PLAINLY = {
    "model_type": "must be a section with keys of its own, such as {{first}: {value}}",
    "dict_type": "must be a section with keys of its own, such as {{first}: {value}}",
    "tuple_type": "must be a list, such as [1, 2]",
    "list_type": "must be a list, such as [1, 2]",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "too_short": "must have at least {min_length} of them",
}
"""What pydantic says of types of values, in the words of YAML."""


def explain(
    error: ValidationError, document: Document, known_keys: Mapping[Loc, Iterable[str]], variants: Iterable[str] = ()
) -> str:
    """Turn a validation error into lines `file:line: dotted.path: what is wrong, what to do`.

    Args:
        error: what pydantic found.
        document: the file that was read.
        known_keys: keys allowed in the mapping at each path, for the nearest right one.
        variants: names of models that a mapping may be one of; pydantic puts them into paths, and no file has them.
    """
    problems = error.errors(include_url=False)
    for item in problems:
        item["loc"] = tuple(part for part in item["loc"] if part not in set(variants))
    wrong = {item["loc"][:end] for item in problems for end in range(len(item["loc"]))}
    lacking = {item["loc"][:-1]: str(item["loc"][-1]) for item in problems if item["type"] == "missing"}
    # a list that is empty because its items are wrong has one error too many
    problems = [item for item in problems if item["type"] != "too_short" or item["loc"] not in wrong]
    lines = []
    for item in problems[:_MOST_LINES]:
        loc: Loc = item["loc"]
        # signs that nobody sees come with text from web pages
        seen = (str(part) if str(part).isprintable() else ascii(part) for part in loc)
        dotted = shortened(".".join(seen)) or "top level"
        message = _message(item, lacking.get(loc[:-1], ""), known_keys)
        lines.append(shortened(f"{document.origin(loc)}: {dotted}: {message}", _LONGEST_LINE))
    if len(problems) > _MOST_LINES:
        lines.append(f"... and {len(problems) - _MOST_LINES} more")
    return "\n".join(lines)


def _message(item: ErrorDetails, lacking: str, known_keys: Mapping[Loc, Iterable[str]]) -> str:
    """Return what is wrong with a value and what to do; `lacking` is the key that its mapping has not."""
    loc: Loc = item["loc"]
    if item["type"] == "extra_forbidden":
        keys = sorted(known_keys.get(loc[:-1], ()))
        known = f" (known: {', '.join(keys)})" if keys else ""
        return f"unknown key{nearest(str(loc[-1]), keys) or _meant(loc, lacking, known_keys)}{known}"
    if item["type"] == "missing":
        return "this key is required; add it"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return message
    context = item.get("ctx", {})
    words = re.findall(r"'([^']+)'", str(context.get("expected", "")))
    first = next(iter(known_keys.get(loc, ())), "key")
    given = str(item["input"]) if isinstance(item["input"], str | int | float) else "value"
    plainly = _PLAINLY.get(item["type"], "").replace("{min_length}", str(context.get("min_length")))
    plainly = plainly.replace("{first}", first).replace("{value}", shortened(given))
    message = plainly or message.replace("Input should", "must")
    return f"{message}, found {shortened(repr(item['input']))}{nearest(str(item['input']), words)}"


def expand_environment(text: str, where: str) -> str:
    """Return a path or URL with `${NAME}` replaced from the environment and a leading `~` by the home folder.

    Raises:
        ConfigError: a variable is not set or lacks its braces, there is no such user, or no file system could hold such
            a path.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigError(f"{where}: '{text}' needs the environment variable {name}, which is not set")
        return os.environ[name]

    for bare in _BARE.finditer(text):
        # a folder may be called like this (`$RECYCLE.BIN`), but hardly like a variable that is set
        if bare[1] in os.environ or bare[0] == text.partition("/")[0]:
            raise ConfigError(f"{where}: '{text}': {bare[0]} is not replaced; write ${{{bare[1]}}}, with braces")
    expanded = re.sub(r"\$\{(\w+)\}", value, text)
    return require_possible(expanded if "://" in expanded else home_expanded(expanded, where), where)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` - did you mean 'x'?`, or nothing if no known word is near."""
    # the search takes time with the square of the length
    choice = list(known)
    found = difflib.get_close_matches(word, choice, n=1) if len(word) <= _LONGEST_WORD else []
    found = found or [one for one in choice if len(word) > 1 and one.startswith(word)]
    return f" - did you mean '{found[0]}'?" if len(found) == 1 else ""


def _meant(loc: Loc, lacking: str, known_keys: Mapping[Loc, Iterable[str]]) -> str:
    """Return what an unknown key may stand for, by what its section lacks, by where it is known, or by descriptions."""
    *section, last = loc
    key, own = str(last), known_keys.get(loc[:-1], ())
    # entries of a list are no place for a key: which of them would it be
    homes = [home for home, keys in known_keys.items() if key in keys and not any(isinstance(p, int) for p in home)]
    home = min(homes, key=lambda home: (home[: len(section)] != tuple(section), len(home)), default=None)
    beneath = home is not None and home[: len(section)] == tuple(section)
    described = [name for name, field in own.items() if _mentions(field, key)] if isinstance(own, Mapping) else []
    if lacking and not beneath:
        return f" - did you mean '{lacking}', which is missing?"
    if home == ():
        return " - it belongs to no section, but to the top"
    if len(described) == 1 and (home is None or beneath):
        return f" - did you mean '{described[0]}'?"
    return f" - it belongs to '{'.'.join(map(str, home))}'" if home else _near_elsewhere(key, known_keys)


def _near_elsewhere(key: str, known_keys: Mapping[Loc, Iterable[str]]) -> str:
    """Return a key of another section that differs by a letter or two, such as `input.references` for `reference`."""
    every = {f"{'.'.join(map(str, at))}.{name}": name for at, keys in known_keys.items() for name in keys if at}
    near = difflib.get_close_matches(key[:_LONGEST_WORD], every.values(), n=1, cutoff=0.85)
    inside = [dotted for dotted, name in every.items() if name in near]
    return f" - did you mean '{inside[0]}'?" if len(inside) == 1 else ""


def _mentions(field: object, word: str) -> bool:
    word = word.lower()
    described = re.findall(r"\w+", str(getattr(field, "description", "")).lower())
    return not {word, word.removesuffix("s")}.isdisjoint(described)


def _parse(text: str, where: str) -> Tree:
    # imported only where something is read: it takes longer than most commands do
    from pipeline.system.yaml_tree import parse

    return parse(text, where)


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _put(data: Any, loc: Loc, value: Any, text: str) -> None:
    for depth, key in enumerate(loc[:-1]):
        # items of a list that is not there yet are counted from 0
        following: Any = [] if isinstance(loc[depth + 1], int) else {}
        if isinstance(data, dict):
            if data.get(key) is None:
                data[key] = following
        elif isinstance(data, list) and key == len(data):
            data.append(following)
        elif not (isinstance(data, list) and isinstance(key, int) and key < len(data)):
            raise ConfigError(
                f"--set {shortened(text)}: '{'.'.join(map(str, loc[:depth]))}' has no part '{shortened(str(key))}'"
            )
        data = data[key]
    last = loc[-1]
    if isinstance(data, dict):
        data[last] = value
    elif isinstance(data, list) and isinstance(last, int) and last <= len(data):
        data[last : last + 1] = [value]
    else:
        raise ConfigError(
            f"--set {shortened(text)}: '{'.'.join(map(str, loc[:-1]))}' has no part '{shortened(str(last))}'"
        )
