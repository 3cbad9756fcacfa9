"""Several dates of one place: each is restored with the help of those nearest to it in time."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pipeline.config.batch import SourceSpec
from pipeline.config.source import on_levels_of
from pipeline.errors import ConfigError, PipelineError
from pipeline.formats import geotiff, nifti, open_any, zarr
from pipeline.system.objects import is_object

_IN_NAME = re.compile(
    r"(?<!\d)(?P<y>19[5-9]\d|20\d\d)(?:(?P<s>[-_.]?)(?P<m>0[1-9]|1[0-2])(?P=s)(?P<d>0[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?P<n>[0-3]\d\d)(?!\d))"
)
"""2024-06-12, 2024_06_12, 20240612, or year and day of the year: 2024164."""
_LANDSAT = re.compile(r"L[COTEM]\d\d{6}(?P<y>\d{4})(?P<n>\d{3})[A-Z]{3}\d\d")
"""Name of a scene before the collections: path, row, year and day of the year."""


def as_series(specs: Sequence[SourceSpec], most: int) -> list[SourceSpec]:
    """Return the images of a batch, each with others of them as references, nearest in time first.

    Times are those of metadata, catalog or file names; if an image has none, the images are taken to follow one another
    as they are listed. Images of a scene's other pixel sizes are no dates of one another. A volume with time points is
    a series of its own: each of them is restored with the others, as it is without `series`.

    Args:
        specs: the images; one with a problem helps nobody.
        most: references of each that are added to its own.

    Raises:
        ConfigError: there is only one date.
    """
    whole = [_has_time_points(spec, alone=len(specs) == 1) for spec in specs]
    if any(whole):
        dates = [spec for spec, own in zip(specs, whole, strict=True) if not own]
        helped = iter(as_series(dates, most) if dates else [])
        return [_with_itself(spec) if own else next(helped) for spec, own in zip(specs, whole, strict=True)]
    days = [moment_of(spec) for spec in specs]
    dated = None not in days
    if len({pixel_size(spec) for spec in specs}) == len(specs):
        raise ConfigError(
            f"input.series: only one image is there, {specs[0].stem}, and it is of one date; name the other dates in "
            "input.source, or leave it out"
        )
    times = [day.timestamp() if day is not None and dated else float(at) for at, day in enumerate(days)]
    return [_helped(specs, at, times, days if dated else None, most) for at in range(len(specs))]


def _has_time_points(spec: SourceSpec, *, alone: bool) -> bool:
    """Return True for a 4-D volume; what is wrong with one that cannot be opened is said when its turn comes."""
    if spec.problem or not all(path.lower().endswith((*nifti.SUFFIXES, *zarr.SUFFIXES)) for path in spec.paths):
        return False
    if any(is_object(path) for path in spec.paths):
        # it is not here yet; volumes that are listed are dates, one alone can only be its own series
        return alone
    try:
        source = open_any(spec.paths, kind=spec.kind, bands=spec.bands, nodata=spec.nodata)
    except PipelineError:
        return False
    source.close()
    return source.space.kind == "volume" and source.n_channels > 1


def _with_itself(spec: SourceSpec) -> SourceSpec:
    said = "series: its own time points are the series, each is restored with the others as they are"
    return dataclasses.replace(spec, notices=(*spec.notices, said))


def moment_of(spec: SourceSpec) -> datetime | None:
    """Return when an image was taken: as its metadata or the catalog say, else by the name of its file."""
    if spec.date:
        try:
            moment = datetime.fromisoformat(spec.date)
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    day = day_of_name(Path(spec.paths[0]).name)
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None


def day_of_name(name: str) -> date | None:
    """Return the first date in a file's name, None if there is none.

    >>> day_of_name("S2_20240612_T33.tif"), day_of_name("HLS.S30.T33UVP.2020196T101031"), day_of_name("scene_12.tif")
    (datetime.date(2024, 6, 12), datetime.date(2020, 7, 14), None)
    """
    for found in (*_LANDSAT.finditer(name), *_IN_NAME.finditer(name)):
        facts = found.groupdict()
        try:
            if facts["n"]:
                day = date(int(facts["y"]), 1, 1) + timedelta(days=int(facts["n"]) - 1)
                return day if day.year == int(facts["y"]) else None
            return date(int(facts["y"]), int(facts["m"]), int(facts["d"]))
        except ValueError:
            continue
    return None


def pixel_size(spec: SourceSpec) -> float | None:
    """Return the size of the pixels if the image is one of several of its scene: only the same are compared."""
    return spec.selection.metres if spec.selection and spec.selection.apart else None


def _helped(
    specs: Sequence[SourceSpec], at: int, times: Sequence[float], days: Sequence[datetime | None] | None, most: int
) -> SourceSpec:
    image = specs[at]
    others = [k for k, one in enumerate(specs) if k != at and not one.problem and pixel_size(one) == pixel_size(image)]
    # of two that are as near, the earlier one
    chosen = sorted(others, key=lambda k: (abs(times[k] - times[at]), times[k]))[:most]
    guides = tuple(on_levels_of(_as_guide(specs[k], days[k] if days else None), image, "reference") for k in chosen)
    names = ", ".join(guide.date[:10] if guide.date else guide.stem for guide in guides)
    order = "nearest in time" if days else "nearest in the list, as not every image says its date"
    said = f"series: {len(chosen)} of {len(others)} other dates are references, {order} first: {names}"
    return dataclasses.replace(
        image,
        references=(*image.references, *guides),
        date=image.date or (days[at].date().isoformat() if days and days[at] else None),  # type: ignore[union-attr]
        notices=(*image.notices, said),
    )


def _as_guide(spec: SourceSpec, day: datetime | None) -> SourceSpec:
    """Return an image as a reference of another: frames of one sensor differ from date to date, their grid does not."""
    raster = spec.kind == "geotiff" or spec.paths[0].lower().endswith(geotiff.SUFFIXES)
    shown = spec.date or (day.date().isoformat() if day else None)
    return dataclasses.replace(spec, references=(), auxiliary=(), date=shown, resample=raster)
