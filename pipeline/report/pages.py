"""The templates of all pages, compiled once a process: each image of a batch has a page."""

from __future__ import annotations

from jinja2 import BytecodeCache, Environment, PackageLoader
from jinja2.bccache import Bucket


class _Compiled(BytecodeCache):
    """Compiled templates in memory; those of a file that was changed are not used."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


def templates() -> Environment:
    """Return the templates with filters and globals of their own; whatever is filled in is escaped."""
    # names of files and dtypes ("<u2") stand in pages
    return Environment(
        loader=PackageLoader("pipeline.report"), autoescape=True, trim_blocks=True, bytecode_cache=_COMPILED
    )
