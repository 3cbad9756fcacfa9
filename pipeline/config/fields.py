"""Field types of the config: what a user may write for a size, a band list, a source, a mask entry.

Every type has its own check, so a wrong value gives one clear sentence instead of one a member of a union.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SerializeAsAny,
    WithJsonSchema,
)
from pydantic_core import CoreSchema

from pipeline.masks.base import MaskOptions, mask_options
from pipeline.registry import kinds
from pipeline.system.units import format_bytes, parse_bytes
from pipeline.system.yaml_files import nearest

_TEXT_OR_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_COUNT = {"type": "integer", "minimum": 1}
_AUTO = {"const": "auto"}


def _auto_or_counts(value: object) -> Literal["auto"] | tuple[int, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if value == "auto":
        return "auto"
    if items and all(type(n) is int and n >= 0 for n in items):
        return tuple(items)
    raise ValueError(f"must be 'auto', a whole number or one number an axis, found {value!r}")


def _auto_or_count(value: object) -> Literal["auto"] | int:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"must be 'auto' or a whole number above 0, found {value!r}")


def _json(value: object) -> object:
    return [_json(item) for item in value] if isinstance(value, tuple) else value


def _bytes(value: object) -> int:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return parse_bytes(value)
    raise ValueError(f"must be a size such as '4 GiB', found {value!r}")


def _nodata(value: object) -> Literal["auto"] | float | None:
    if value == "auto":
        return "auto"
    if value is None or value == "none":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if value == "nan":
        return float("nan")
    raise ValueError(f"must be 'auto', 'none', 'nan' or a number, found {value!r}")


def _nodata_text(value: Literal["auto"] | float | None) -> str | float:
    if value is None:
        return "none"
    return "nan" if value != value else value  # noqa: PLR0124 - only NaN differs from itself


def _source(value: object) -> str | tuple[str | tuple[str, ...], ...]:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list | tuple) and value:
        return tuple(_source_item(item) for item in value)
    raise ValueError(f"must be a catalog name, a path, a glob or a list of them, found {value!r}")


def _source_item(item: object) -> str | tuple[str, ...]:
    if isinstance(item, str) and item:
        return item
    if isinstance(item, list | tuple) and item and all(isinstance(part, str) and part for part in item):
        return tuple(item)
    raise ValueError(f"a list of sources holds paths, or lists of paths (one file a band), found {item!r}")


def _mask_entry(value: object) -> object:
    if isinstance(value, MaskOptions):
        return value
    if isinstance(value, dict) and isinstance(value.get("kind"), str):
        return mask_options(value)
    known = ", ".join(kinds("masks"))
    raise ValueError(f"a mask is written {{kind: ..., ...}} (kinds: {known}), found {value!r}")


def known_kind(*folders: str, extra: tuple[str, ...] = ()) -> Callable[[str], str]:
    """Return a check that a text is `extra` or the name of a part in one of the folders."""

    def check(value: str) -> str:
        known = sorted({*extra, *(kind for folder in folders for kind in kinds(folder))})
        if value not in known:
            raise ValueError(f"unknown kind '{value}'{nearest(value, known)} (known: {', '.join(known)})")
        return value

    return check


def text_is_source(value: object) -> object:
    """Read a bare text as `{source: text}`, and `path` as another word for `source`."""
    if isinstance(value, str):
        return {"source": value}
    if isinstance(value, dict) and "path" in value:
        if "source" in value:
            raise ValueError("give 'path' or 'source', not both: they mean the same")
        return {("source" if key == "path" else key): item for key, item in value.items()}
    return value


def listed(value: object) -> object:
    """Read one text or mapping as a list of one."""
    return [value] if isinstance(value, str | dict) else value


class OrAlone:
    """Tells the JSON schema that one item may stand without its list."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        return {"anyOf": [schema["items"], schema]}


class OrText:
    """Tells the JSON schema that a bare text may stand for the mapping."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


DateText = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A date as written; a bare year is a number in YAML."""

MaskEntry = Annotated[SerializeAsAny[MaskOptions], BeforeValidator(_mask_entry)]
Masks = Annotated[tuple[MaskEntry, ...], BeforeValidator(listed), OrAlone()]
Bands = Annotated[tuple[int | str, ...], Field(min_length=1)]
Nodata = Annotated[
    Literal["auto"] | float | None,
    PlainValidator(_nodata),
    PlainSerializer(_nodata_text),
    WithJsonSchema({"anyOf": [{"enum": ["auto", "none", "nan", None]}, {"type": "number"}]}),
]
SourceText = Annotated[
    str | tuple[str | tuple[str, ...], ...],
    PlainValidator(_source),
    PlainSerializer(_json),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_OR_TEXTS, "minItems": 1}]}),
]
AutoCounts = Annotated[
    Literal["auto"] | tuple[int, ...],
    PlainValidator(_auto_or_counts),
    PlainSerializer(_json),
    WithJsonSchema({"anyOf": [_AUTO, _COUNT, {"type": "array", "items": _COUNT, "minItems": 1}]}),
]
AutoCount = Annotated[
    Literal["auto"] | int,
    PlainValidator(_auto_or_count),
    PlainSerializer(_json),
    WithJsonSchema({"anyOf": [_AUTO, _COUNT]}),
]
ByteCount = Annotated[
    int,
    PlainValidator(_bytes),
    PlainSerializer(format_bytes),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["4 GiB"]}, _COUNT]}),
]
