"""Which stored values CF's attributes say never were observations, beside the one fill value that an image has.

`missing_value` may name several, `valid_min`, `valid_max` and `valid_range` bound the others, all in stored numbers.
CF 1.11, 2.5.1: https://cfconventions.org/Data/cf-conventions/cf-conventions-1.11/cf-conventions.html#missing-data
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.formats._image import unobserved
from pipeline.numerics.number import exact

_BASE64 = 12
"""Letters of a double as xarray writes it into JSON."""
_BOUNDS = {"valid_min": 1, "valid_max": 1, "valid_range": 2}
"""Attributes that bound what is valid, with how many numbers each has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Stored values that never were observations.

    Attributes:
        missing: values that mean nothing was observed.
        low: smallest valid value; None if there is none.
        high: largest valid value; None if there is none.
    """

    missing: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None

    def __bool__(self) -> bool:
        """Return True if any value is ruled out."""
        return bool(self.missing) or self.low is not None or self.high is not None

    def violated(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return True where stored `values` are ruled out; same shape."""
        result = np.zeros(values.shape, dtype=np.bool_)
        for value in self.missing:
            result |= unobserved(values, value)
        if self.low is not None:
            result |= values < _as_stored(self.low, values.dtype)
        if self.high is not None:
            result |= values > _as_stored(self.high, values.dtype)
        return result

    def said(self, path: str) -> str:
        """Return what the user should know of it."""
        parts = [f"{value:.17g}" for value in self.missing]
        parts += [f"below {self.low:.17g}"] if self.low is not None else []
        parts += [f"above {self.high:.17g}"] if self.high is not None else []
        return (
            f"{path}: values {' or '.join(parts)} count as never observed, as its attributes say (missing_value, "
            "valid_range); `input.nodata: none` takes them for observed"
        )


ANYTHING = Validity()
"""Nothing is ruled out."""


def validity_of(path: str, attributes: Mapping[str, Any], dtype: np.dtype[Any], nodata: float | None) -> Validity:
    """Return which values of an array are ruled out by its attributes, beside `nodata`.

    Args:
        path: the image, for messages.
        attributes: those of the array, by name; lists may be JSON or GDAL's text `{0,100}`.
        dtype: of the values as they are read; of unsigned ones, negative numbers are those of the signed type.
        nodata: the value that is known to mean nothing.

    Raises:
        SourceError: an attribute is not the numbers that it should be.
    """
    found = {
        key: numbers(path, key, attributes[key], dtype) for key in (*_BOUNDS, "missing_value") if key in attributes
    }
    for key, count in _BOUNDS.items():
        if key in found and len(found[key]) != count:
            raise _wrong(path, key, attributes[key])
    low, high = found.get("valid_range", (None, None))
    return Validity(
        missing=tuple(v for v in found.get("missing_value", ()) if v != nodata and np.isfinite(v)),
        low=found.get("valid_min", (low,))[0],
        high=found.get("valid_max", (high,))[0],
    )


def number_of(
    path: str, attributes: Mapping[str, Any], key: str, usual: float, dtype: np.dtype[Any] | None = None
) -> float:
    """Return the one number of an attribute, `usual` if it is not there; `dtype` as in `numbers`.

    Raises:
        SourceError: it is no number.
    """
    if key not in attributes:
        return usual
    found = numbers(path, key, attributes[key], dtype)
    if len(found) != 1:
        raise _wrong(path, key, attributes[key])
    return found[0]


def numbers(path: str, key: str, value: Any, dtype: np.dtype[Any] | None = None) -> tuple[float, ...]:
    """Return the numbers of an attribute, one or several; of unsigned `dtype` negative ones are those without a sign.

    Raises:
        SourceError: they are none.
    """
    parts = re.split(r"[\s,]+", value.strip("{} ")) if isinstance(value, str) else value
    try:
        read = tuple(_number(part) for part in (parts if isinstance(parts, (list, tuple)) else [parts]))
    except (TypeError, ValueError, struct.error):
        raise _wrong(path, key, value) from None
    wrapped = 2 ** (8 * dtype.itemsize) if dtype is not None and dtype.kind == "u" else 0
    return tuple(v + wrapped if v < 0 else v for v in read)


def _number(part: Any) -> float:
    if isinstance(part, bool):
        raise TypeError
    if isinstance(part, str) and len(part) == _BASE64 and part.endswith("="):
        return float(struct.unpack("<d", base64.standard_b64decode(part))[0])
    try:
        return exact(int(part) if isinstance(part, str) else part)
    except ValueError:
        return float(part)


def _as_stored(bound: float, dtype: np.dtype[Any]) -> Any:
    """Return a bound as values of `dtype` hold it: one of double precision would rule out the largest valid value."""
    return np.asarray(bound).astype(dtype) if np.issubdtype(dtype, np.floating) else bound


def _wrong(path: str, key: str, value: Any) -> SourceError:
    return SourceError(
        f"{path}: its attribute {key} must be {'two numbers' if key == 'valid_range' else 'one number'}, found "
        f"{value!r}; correct it, or say `nodata` in the config"
    )
