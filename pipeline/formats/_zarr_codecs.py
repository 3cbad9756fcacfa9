"""Codecs of zarr arrays that no installed package brings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from zarr.registry import get_codec_class

from pipeline.errors import SourceError
from pipeline.formats._files import untrusted

_HEADER = "zarr.json"


@contextmanager
def reading_metadata(path: str) -> Iterator[None]:
    """Turn whatever zarr raises over the metadata of a store into an error that names what is wrong.

    Raises:
        SourceError: a codec is not known here (names it and its array), or the metadata are damaged.
    """
    try:
        with untrusted(path, "unreadable zarr metadata", "copy the store again"):
            yield
    except SourceError as error:
        unknown = _unknown_codec(Path(path))
        if unknown is None:
            raise
        array, codec = unknown
        raise SourceError(
            f"{array}: its values are encoded with {codec!r}, which no installed package can decode; install the one "
            "that brings this codec for zarr v3 (who wrote the store knows it), or write the array again with zstd or "
            "gzip"
        ) from error


def _unknown_codec(store: Path) -> tuple[Path, str] | None:
    """Return the first array of a store with a codec that zarr does not know, and the name of the codec."""
    for header in chain([store / _HEADER], sorted(store.rglob(f"*/{_HEADER}"))):
        try:
            names = list(_codecs(json.loads(header.read_bytes())))
        except (OSError, ValueError, RecursionError):
            continue
        for name in names:
            try:
                get_codec_class(name)
            except KeyError:
                return header.parent, name
    return None


def _codecs(metadata: Any) -> Iterator[str]:
    """Yield the names of the codecs of an array, those within shards and of their index included."""
    settings = metadata if isinstance(metadata, dict) else {}
    for codec in chain(*(many for key in ("codecs", "index_codecs") if isinstance(many := settings.get(key), list))):
        named = codec if isinstance(codec, dict) else {"name": codec}
        if isinstance(named.get("name"), str):
            yield named["name"]
        yield from _codecs(named.get("configuration"))
