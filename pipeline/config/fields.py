"""Field types of the config: what a user may write for a size, a band list, a source, a mask entry.

Every type has its own check, so a wrong value gives one clear sentence instead of one a member of a union.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SerializeAsAny,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from pipeline.masks._layouts import LAYOUTS
from pipeline.masks.base import MaskOptions, mask_options
from pipeline.numerics.number import exact
from pipeline.registry import kinds, meant
from pipeline.system.objects import is_object
from pipeline.system.paths import is_address, shortened
from pipeline.system.redact import redacted
from pipeline.system.units import format_bytes, parse_bytes

_TEXT_OR_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_COUNT = {"type": "integer", "minimum": 1}
_AUTO = {"const": "auto"}
_MOST_SEED = 2**63 - 1
"""Generators of random numbers take 64 bits."""
_MOST_PATCH, _MOST_BLOCK, _MOST_COUNT = 2**16, 2**31 - 1, 2**16
"""A patch is held in memory many times over, a block may be an image; workers and batches are far fewer."""
_MOST_AXES = 3
_GRID = r"[1-9]\d{0,3}(\.\d+)?m"
_LEAST_BYTES = 2**20
"""Less memory or disk is a number that lacks its unit."""
_NO_FLOAT = 2**1023
"""Whole numbers as large are values of no pixel, and soon of no float."""


Counts = Literal["auto"] | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Within:
    """Marks `Counts` as 'auto', one whole number, or one an axis; all of them from `least` to `most`."""

    least: int
    most: int

    def check(self, value: object) -> Counts:
        """Return the numbers as a tuple, or 'auto'."""
        items = value if isinstance(value, list | tuple) else [value]
        if value == "auto":
            return "auto"
        if 1 <= len(items) <= _MOST_AXES and all(type(n) is int and self.least <= n <= self.most for n in items):
            return tuple(items)
        raise ValueError(
            f"must be 'auto', a whole number or one number an axis (up to {_MOST_AXES}), from {self.least} to "
            f"{self.most}, found {shown(value)}"
        )

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.check, serialization=core_schema.plain_serializer_function_ser_schema(_json)
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        one = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [_AUTO, one, {"type": "array", "items": one, "minItems": 1, "maxItems": _MOST_AXES}]}


def _auto_or_count(value: object) -> Literal["auto"] | int:
    if value == "auto" or (type(value) is int and 1 <= value <= _MOST_COUNT):
        return value
    raise ValueError(f"must be 'auto' or a whole number above 0, found {shown(value)} (at most {_MOST_COUNT})")


def _json(value: object) -> object:
    return [_json(item) for item in value] if isinstance(value, tuple) else value


def _bytes(value: object) -> int:
    if isinstance(value, str | int) and not isinstance(value, bool):
        if (size := parse_bytes(value)) < _LEAST_BYTES:
            raise ValueError(f"{shown(value)} means {size} bytes; write it with its unit, such as '4 GiB'")
        return size
    raise ValueError(f"must be a size such as '4 GiB', found {shown(value)}")


def _grid(value: object) -> str:
    text = value.replace(" ", "") if isinstance(value, str) else value
    if isinstance(text, str) and (text in ("auto", "each") or re.fullmatch(_GRID, text)):
        return text
    raise ValueError(f"must be 'auto', 'each' or the edge of a pixel such as '10m', found {shown(value)}")


def _nodata(value: object) -> Literal["auto"] | float | None:
    value = value.lower() if isinstance(value, str) else value
    if value == "auto":
        return "auto"
    if value is None or value == "none":
        return None
    if isinstance(value, float) or (type(value) is int and abs(value) < _NO_FLOAT):
        return exact(value)
    if value == "nan":
        return float("nan")
    raise ValueError(f"must be 'auto', 'none', 'nan' or a number, found {shown(value)}")


def _nodata_text(value: Literal["auto"] | float | None) -> str | int | float:
    if value is None:
        return "none"
    return "nan" if value != value else value  # noqa: PLR0124 - only NaN differs from itself


def _source(value: object) -> str | tuple[str | tuple[str, ...], ...]:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list | tuple) and value:
        return tuple(_source_item(item) for item in value)
    raise ValueError(f"must be a catalog name, a path, a glob or a list of them, found {shown(value)}")


def _source_item(item: object) -> str | tuple[str, ...]:
    if isinstance(item, str) and item:
        return item
    if isinstance(item, list | tuple) and item and all(isinstance(part, str) and part for part in item):
        return tuple(item)
    raise ValueError(f"a list of sources holds paths, or lists of paths (one file a band), found {shown(item)}")


def _mask_entry(value: object) -> object:
    if isinstance(value, MaskOptions):
        return value
    known = ", ".join(kinds("masks"))
    if isinstance(value, dict) and isinstance(kind := value.get("kind"), str):
        if kind in LAYOUTS and kind not in kinds("masks"):
            raise ValueError(f"'{kind}' is a layout of quality codes: write {{kind: qa_pixel, layout: {kind}, ...}}")
        return mask_options(value)
    named = value.get("path") if isinstance(value, dict) else value
    drawn = next((one for one in kinds("masks") if isinstance(value, dict) and one in value), "")
    if drawn and isinstance(value, dict):
        rest = {"path": value[drawn]} if isinstance(value[drawn], str) else {}
        text = ", ".join(f"{key}: {shortened(str(one))}" for key, one in {"kind": drawn, **rest}.items())
        raise ValueError(f"a mask is written {{kind: ..., ...}}: here {{{text}}}, found {shown(value)}")
    file = f"; a file that draws holes is {{kind: raster, path: {shortened(named)}}}" if isinstance(named, str) else ""
    raise ValueError(f"a mask is written {{kind: ..., ...}} (kinds: {known}), found {shown(value)}{file}")


def _masks(value: object) -> object:
    """Read one entry as a list of one."""
    if not isinstance(value, str | dict | list | tuple | MaskOptions):
        raise ValueError(f"must be a list of entries {{kind: ..., ...}} or auto, found {shown(value)}")
    return listed(value)


def _bands(value: object) -> object:
    items = value if isinstance(value, list | tuple) else ()
    if items and all((type(n) is int and n >= 1) or (isinstance(n, str) and n) for n in items):
        return value
    raise ValueError(f"must be a list of bands, by number from 1 or name, such as [4, B8A], found {shown(value)}")


def known_kind(*folders: str, extra: tuple[str, ...] = ()) -> Callable[[object], str]:
    """Return a check that a text is `extra` or the name of a part in one of the folders."""

    def check(value: object) -> str:
        known = sorted({*extra, *(kind for folder in folders for kind in kinds(folder))})
        if not isinstance(value, str) or value not in known:
            text = value if isinstance(value, str) else shown(value)
            hint = meant(text, *folders, extra=extra)
            raise ValueError(f"unknown kind '{shortened(text)}'{hint} (known: {', '.join(known)})")
        return value

    return check


def shown(value: object) -> str:
    """Return a wrong value as a message shows it: as Python writes it, not at any length."""
    return shortened(repr(value))


def not_empty(value: object) -> object:
    """Refuse an empty path, which would be read as the folder of the config."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; write the name of a file or folder, or leave the key out")
    return value


def local_folder(value: object) -> object:
    """Refuse an address, which would become a folder of that name on this machine."""
    if isinstance(value, str) and is_address(value):
        raise ValueError(
            f"'{redacted(value)}' is an address; working files are written to folders of this machine, results to one "
            "of those or to s3://bucket/name: name one"
        )
    return not_empty(value)


def _results(value: object) -> Path | str:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be the name of a folder or an address s3://bucket/name, found {shown(value)}")
    return value if is_object(value) else Path(str(local_folder(value)))


def no_doubles(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a list that names one thing twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"names one thing twice, found {list(values)}; keep one of each")
    return values


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


class OrAuto:
    """Lets the word `auto` stand in the place of a value."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)

        def unless_auto(value: object, usual: Callable[[object], object]) -> object:
            return value if value == "auto" else usual(value)

        return core_schema.no_info_wrap_validator_function(
            unless_auto,
            inner,
            serialization=core_schema.wrap_serializer_function_ser_schema(unless_auto, schema=inner),
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [_AUTO, handler(core)]}


DateText = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A date as written; a bare year is a number in YAML."""

MaskEntry = Annotated[SerializeAsAny[MaskOptions], BeforeValidator(_mask_entry)]
Masks = Annotated[tuple[MaskEntry, ...], BeforeValidator(_masks), OrAlone()]
Bands = Annotated[tuple[Annotated[int, Field(ge=1)] | str, ...], Field(min_length=1), BeforeValidator(_bands)]
GridText = Annotated[
    str, PlainValidator(_grid), WithJsonSchema({"anyOf": [{"enum": ["auto", "each"]}, {"pattern": f"^{_GRID}$"}]})
]
Seed = Annotated[int, Field(ge=0, le=_MOST_SEED)]
ResultsFolder = Annotated[
    Path | str,
    PlainValidator(_results),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "format": "path"}),
]
NamedFolder = Annotated[Path, BeforeValidator(local_folder)]
NamedText = Annotated[str, BeforeValidator(not_empty)]
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
PatchSizes = Annotated[Counts, Within(least=1, most=_MOST_PATCH)]
PatchOverlaps = Annotated[Counts, Within(least=0, most=_MOST_PATCH)]
BlockSizes = Annotated[Counts, Within(least=1, most=_MOST_BLOCK)]
AutoCount = Annotated[
    Literal["auto"] | int,
    PlainValidator(_auto_or_count),
    PlainSerializer(_json),
    WithJsonSchema({"anyOf": [_AUTO, _COUNT | {"maximum": _MOST_COUNT}]}),
]
ByteCount = Annotated[
    int,
    PlainValidator(_bytes),
    PlainSerializer(format_bytes),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["4 GiB"]}, _COUNT]}),
]


class Section(BaseModel):
    """A part of the config: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
