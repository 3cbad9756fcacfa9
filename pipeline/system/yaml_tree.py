"""YAML text as plain values with their lines, in bounded time and memory whatever the text is.

Only the values of the core schema are known: no tag makes an object. Aliases are copied, so what a file may hold is
counted after they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from pipeline.errors import ConfigError
from pipeline.system.paths import shortened

MOST_NODES, DEEPEST = 10_000, 32
"""Values and keys of a file, and levels of nesting; far above what any config or catalog needs."""
_MOST_BITS = 1024
"""Of a whole number: more have no float and, soon, no decimal digits."""
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_COLLECTIONS = {f"{_TAG}map", f"{_TAG}seq"}
_TEXTS = {f"{_TAG}str", f"{_TAG}timestamp"}
"""YAML 1.2 knows no dates: an unquoted 2024-06-01 is text."""

Loc = tuple[str | int, ...]


@dataclass(kw_only=True)
class Tree:
    """The values of a text."""

    data: Any
    """Of plain types: dict, list, str, int, float, bool, None."""
    lines: dict[Loc, int]
    """Line, from 1, of every key and list item by its path."""


def parse(text: str, where: str) -> Tree:
    """Return the values of one YAML 1.2 document.

    Args:
        text: the document.
        where: what messages call it.

    Raises:
        ConfigError: bad syntax, a duplicate key, an unknown tag, or more than `MOST_NODES` or `DEEPEST`; names the
            line.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _BoundedComposer
    walk = _Walk(where=where, yaml=yaml)
    try:
        root = yaml.compose(text)
        return Tree(data=None if root is None else walk.value(root, ()), lines=walk.lines)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = error.problem or error.context
        remedy = "; write spaces in the place of tabs" if r"\t" in str(problem) else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {problem}{remedy}") from None
    except YAMLError as error:
        position = getattr(error, "position", None)
        line = "" if position is None else f":{text.count(chr(10), 0, position) + 1}"
        raise ConfigError(f"{where}{line}: not valid YAML: {str(error).splitlines()[0]}") from None


class _BoundedComposer(Composer):  # type: ignore[misc]
    """Gives up while it reads, not after it."""

    def __init__(self, loader: Any) -> None:
        super().__init__(loader=loader)
        self.warn_double_anchors = False
        self.nodes = self.levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        self.levels += 1
        problem = _excess(self.nodes, self.levels)
        if problem:
            raise MarkedYAMLError(problem=problem, problem_mark=self.parser.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


@dataclass(kw_only=True)
class _Walk:
    """From nodes, in which an alias is the node it stands for, to values."""

    where: str
    yaml: YAML
    lines: dict[Loc, int] = field(default_factory=dict)
    count: int = 0

    def value(self, node: Node, loc: Loc) -> Any:
        self.count += 1
        problem = _excess(self.count, len(loc))
        if problem:
            raise self._error(node, f"{problem}, aliases counted as what they stand for")
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if node.tag not in _COLLECTIONS:
            raise self._tag_error(node)
        return self._mapping(node, loc) if isinstance(node, MappingNode) else self._list(node, loc)

    def _list(self, node: Node, loc: Loc) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.lines[(*loc, index)] = item.start_mark.line + 1
            items.append(self.value(item, (*loc, index)))
        return items

    def _mapping(self, node: MappingNode, loc: Loc) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, item in node.value:
            if key_node.tag == _MERGE:
                for part in self._merged(item, loc):
                    merged = part | merged
                continue
            key = self._key(key_node)
            if key in found:
                raise self._error(key_node, f'found duplicate key "{shortened(str(key))}"; keep one of them')
            self.lines[(*loc, key)] = key_node.start_mark.line + 1
            found[key] = self.value(item, (*loc, key))
        return {key: item for key, item in merged.items() if key not in found} | found

    def _merged(self, item: Node, loc: Loc) -> Iterator[dict[Any, Any]]:
        for part in [item] if isinstance(item, MappingNode) else item.value:
            if not isinstance(part, MappingNode):
                raise self._error(item, "'<<' takes a mapping, or a list of mappings")
            # one level deeper, so that a mapping merged into itself ends
            yield self.value(part, (*loc, "<<"))

    def _key(self, node: Node) -> Any:
        self.count += 1
        if not isinstance(node, ScalarNode):
            raise self._error(node, "a key must be plain text")
        return self._scalar(node)

    def _scalar(self, node: ScalarNode) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if node.tag in _TEXTS:
            return self._text(node)
        if kind == "null":
            return None
        if node.tag == kind or kind not in ("bool", "int", "float"):
            raise self._tag_error(node)
        try:
            value = getattr(self.yaml.constructor, f"construct_yaml_{kind}")(node)
        except (ArithmeticError, LookupError, ValueError) as error:
            raise self._error(node, f"{node.value[:50]!r} cannot be read as {kind}: {error}") from None
        if kind == "int" and value.bit_length() > _MOST_BITS:
            raise self._error(node, f"{node.value[:50]!r}... is too large a number")
        return value

    def _text(self, node: ScalarNode) -> Any:
        try:
            # JSON writes a character beyond 16 bits as two escapes, and every JSON is YAML
            return node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self._error(node, f"{shortened(ascii(node.value))} holds half a character") from None

    def _tag_error(self, node: Node) -> ConfigError:
        tag = shortened(str(node.tag).replace(_TAG, "!!"))
        return self._error(node, f"the tag {tag!r} is not known; write the plain value")

    def _error(self, node: Node, problem: str) -> ConfigError:
        return ConfigError(f"{self.where}:{node.start_mark.line + 1}: {problem}")


def _excess(nodes: int, depth: int) -> str:
    if depth > DEEPEST:
        return f"nested more than {DEEPEST} levels deep"
    return f"more than {MOST_NODES} values" if nodes > MOST_NODES else ""
