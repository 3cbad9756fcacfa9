"""Times of netCDF and of zarr written by xarray: so many units since a moment, in a calendar.

CF conventions, section 4.4: https://cfconventions.org/cf-conventions/cf-conventions.html#time-coordinate
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MILLISECONDS = {
    **dict.fromkeys(("day", "d"), 86_400_000),
    **dict.fromkeys(("hour", "hr", "h"), 3_600_000),
    **dict.fromkeys(("minute", "min"), 60_000),
    **dict.fromkeys(("second", "sec", "s"), 1000),
    **dict.fromkeys(("millisecond", "msec", "ms"), 1),
    "microsecond": 1e-3,
    "nanosecond": 1e-6,
}
"""Units of one length, as UDUNITS spells them; months and years have none."""
_MOMENT = re.compile(
    r"(?P<y>\d{1,4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})"
    r"(?:[T ]+(?P<H>\d{1,2}):(?P<M>\d{1,2})(?::(?P<S>\d{1,2})(?:\.\d*)?)?)?"
    r" *(?:Z|UTC|GMT|(?P<sign>[+-])(?P<zh>\d{1,2})(?::?(?P<zm>\d{2}))?)?"
)
_REFORM = datetime(1582, 10, 15, tzinfo=UTC)
"""First day on which CF's standard calendar and the one of numpy name the same day alike."""


def moments(values: NDArray[Any], units: str, calendar: str) -> NDArray[np.datetime64] | None:
    """Return times in UTC to the millisecond, None where they cannot be told.

    Not told are calendars other than the civil one (`noleap`, `360_day`), whose days have no dates in it, units
    without a fixed length, times before the calendar's reform, and values that are no times.

    Args:
        values: numbers, of any shape.
        units: such as `hours since 2024-06-12 10:00 +02:00`.
        calendar: name in CF; empty for its standard one.

    >>> moments(np.array([0, 36]), "hours since 1990-1-1", "").astype(str).tolist()
    ['1990-01-01T00:00:00.000', '1990-01-02T12:00:00.000']
    """
    unit, since, start = (units.split(maxsplit=2) + [""] * 3)[:3]
    step = _MILLISECONDS.get(unit.lower()) or _MILLISECONDS.get(unit.lower().removesuffix("s"))
    first = _moment(start)
    civil = calendar.lower() in ("", "standard", "gregorian", "proleptic_gregorian")
    if since.lower() != "since" or step is None or first is None or not civil or values.dtype.kind not in "iuf":
        return None
    passed = values.astype(np.float64) * step
    ends = (first + timedelta(milliseconds=float(at)) for at in (passed.min(), passed.max()))
    try:
        told = all(calendar.lower() == "proleptic_gregorian" or at >= _REFORM for at in (first, *ends))
    except (OverflowError, ValueError):
        return None
    return np.datetime64(first.replace(tzinfo=None), "ms") + np.rint(passed).astype("m8[ms]") if told else None


def _moment(text: str) -> datetime | None:
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[part] or 0) for part in "ymdHMS")
    apart = timedelta(hours=int(found["zh"] or 0), minutes=int(found["zm"] or 0))
    zone = timezone(-apart if found["sign"] == "-" else apart)
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC)
    except (OverflowError, ValueError):
        return None
