"""Options of a classical fill, checked against its own signature before any image is opened.

Names and defaults stand in the signature; so do the values that an option takes, as annotations that pydantic knows:
`t: Annotated[float, Field(ge=0, le=1)] = 0.5`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from pipeline.registry import load
from pipeline.system.paths import shortened
from pipeline.system.yaml_files import nearest


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Check that a fill takes options of these names and values.

    Raises:
        ValueError: it has no such option, or not with such a value; names what it takes.
    """
    fill = load("fills", kind).fill
    known = [name for name in inspect.signature(fill).parameters if name != "window"]
    hints = _hints(fill)
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"fill '{kind}' has no option '{shortened(name)}'{nearest(name, known)} (known: {', '.join(known)})"
            )
        problem = _problem(hints.get(name, Any), value)
        if problem:
            raise ValueError(f"fill '{kind}', option {name}: {problem}, found {shortened(repr(value))}")


def _hints(fill: Any) -> dict[str, Any]:
    try:
        return get_type_hints(fill, include_extras=True)
    except (NameError, TypeError):
        # a part from elsewhere may import types for the type checker only
        return {}


def _problem(hint: Any, value: object) -> str:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
    except PydanticUserError:
        return ""
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        message: str = error.errors(include_url=False)[0]["msg"]
        return message[0].lower() + message[1:]
    return ""
