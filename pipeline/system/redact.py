"""Addresses without what opens them: `user:password@` and everything after `?` (signatures, tokens) of every URL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "***"
"""Stands where something was left out."""

_USER = re.compile(r"(?<=://)[^\s/?#]*@")
_QUERY = re.compile(r"((?:\w://|/vsi)[^\s?]*\?)\S*?(?=[:;,.)\]}'\"<>]*(?:\s|$))")
"""A query ends at the next space, before the punctuation of the sentence that it stands in: rather too much goes than
too little. GDAL has virtual paths with a query, too."""


def redacted(text: str) -> str:
    """Return a text in which no URL has a user, a password or a query any more; anything else stays.

    >>> redacted("https://me:secret@host/a.tif?sig=secret: cannot be read")
    'https://***@host/a.tif?***: cannot be read'
    """
    if "://" not in text and "/vsi" not in text:
        return text
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def redacted_facts(value: Any) -> Any:
    """Return JSON values with every text in them redacted."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: redacted_facts(item) for key, item in value.items()}
    return [redacted_facts(item) for item in value] if isinstance(value, list | tuple) else value


def is_redacted(text: str) -> bool:
    """Return True if something was left out of an address, so that it opens nothing."""
    return f"://{HIDDEN}@" in text or text.endswith(f"?{HIDDEN}")


def hidden_in(value: Any, at: tuple[str | int, ...] = ()) -> list[list[Any]]:
    """Return where in JSON values redacting changes a text, and that text: pairs of a list of keys and a string."""
    if isinstance(value, str):
        return [[list(at), value]] if redacted(value) != value else []
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    return [found for key, item in items for found in hidden_in(item, (*at, key))]


def put_back(facts: Any, hidden: Iterable[list[Any]]) -> None:
    """Put texts that `hidden_in` found back into JSON values that were redacted."""
    for (*outer, last), text in hidden:
        inner = facts
        for key in outer:
            inner = inner[key]
        inner[last] = text
