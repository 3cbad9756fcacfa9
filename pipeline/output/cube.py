"""The restored dates of a series become one zarr with a time axis, beside the folders of the dates.

A cube is made of published results only, date by date, in a folder of its own; it is read back, sealed with a hash of
all that it holds, and takes its name in one step. One that was there stays until then. It is replaced only if its seal
holds, so that nothing that somebody added to it is lost, and only by one that does not lack a date that it has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.blocks.events import Events
from pipeline.config.batch import SourceSpec
from pipeline.config.names import RECORD
from pipeline.config.opening import opened
from pipeline.config.products.base import metres_text
from pipeline.config.schema import RunConfig
from pipeline.config.series import moment_of, pixel_size
from pipeline.errors import ConfigError, OutputConflict, PipelineError
from pipeline.formats import open_any
from pipeline.formats._zarr_cube import CubeDate, attributes_of, is_intact, unlike, write_cube
from pipeline.formats.base import Role, Source
from pipeline.output.assemble import DOUBT_NAMES
from pipeline.output.cube_target import AddressTarget, FolderTarget, Target
from pipeline.output.results import ROLES, read_record, record_of
from pipeline.output.verify import Check
from pipeline.plan.memory import ASSEMBLY_BYTES
from pipeline.plan.workdir import WorkFolder
from pipeline.restore.codes import REFERENCE, SEVERAL, names_of
from pipeline.system.files import remove_made
from pipeline.system.objects import is_object
from pipeline.system.room import what_to_do
from pipeline.system.words import listed

_KEY = "output.cube"
_LAYERS = tuple(role for role in ROLES if role != "display")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cube:
    """What is to become one cube.

    Attributes:
        path: where it will lie, or would on this machine if it goes to an address.
        dates: the images, in the order of time.
        moments: when each was taken.
        address: of all results; empty if they stay on this machine.
    """

    path: Path
    dates: tuple[SourceSpec, ...]
    moments: tuple[datetime, ...]
    address: str = ""

    @property
    def work(self) -> Path:
        """Where it is made."""
        return WorkFolder.running(self.path.parent, self.path.name).path

    @property
    def target(self) -> Target:
        """Where it lies."""
        if self.address:
            return AddressTarget(self.address, self.path.name, self.work)
        return FolderTarget(self.path, self.work)


def cubes_of(config: RunConfig, specs: Sequence[SourceSpec]) -> list[Cube]:
    """Return the cubes that a config asks for, one for each size of pixels, after a look at the headers of all dates.

    Images that cannot be opened are left to fail in their turn, and those in object storage are not here yet.

    Raises:
        ConfigError: a date is not known or is there twice, or dates differ in what a cube has once; names them.
        OutputConflict: something else has the name of a cube.
    """
    if not config.output.cube:
        return []
    where = config.where(_KEY)
    cubes = []
    for size in dict.fromkeys(pixel_size(spec) for spec in specs):
        alike = [spec for spec in specs if pixel_size(spec) == size]
        headers = {spec.stem: source for spec in alike if (source := _header(spec, config))}
        _require_rasters(headers, where)
        dates = _in_time(alike, where)
        name = f"cube_{metres_text(size)}.zarr" if size else "cube.zarr"
        cube = Cube(
            path=config.folder / name,
            dates=tuple(s for _, s in dates),
            moments=tuple(m for m, _ in dates),
            address=config.address,
        )
        _require_alike([(spec.stem, headers[spec.stem]) for spec in cube.dates if spec.stem in headers], where)
        _require_one_convention(cube.dates, where)
        if not cube.address:
            cube.target.attributes()
        cubes.append(cube)
    return cubes


def _in_time(specs: Sequence[SourceSpec], where: str) -> list[tuple[datetime, SourceSpec]]:
    moments = [(moment_of(spec), spec) for spec in specs]
    if bare := [spec.stem for moment, spec in moments if moment is None and not spec.problem]:
        raise ConfigError(
            f"{where}: a cube has a time axis, and nothing says when these were taken: {listed(bare)}; write the day "
            "into the names of the files (20240612), or give the images names and a date in a catalog"
        )
    found = sorted(((m, spec) for m, spec in moments if m is not None), key=lambda one: one[0])
    for (moment, spec), (following, other) in pairwise(found):
        if int(moment.timestamp()) == int(following.timestamp()):
            raise ConfigError(
                f"{where}: {spec.stem} and {other.stem} are of the same time, {moment:%Y-%m-%d %H:%M:%S}, and a time "
                "axis has each once; leave one of them out of input.source"
            )
    return found


def _header(spec: SourceSpec, config: RunConfig) -> Source | None:
    if spec.problem or any(is_object(path) for path in spec.paths):
        return None
    with suppress(PipelineError):
        source = opened(spec, config)
        source.close()
        return source
    return None


def _require_rasters(images: Mapping[str, Source], where: str) -> None:
    if volumes := [stem for stem, source in images.items() if source.space.kind != "raster"]:
        raise ConfigError(
            f"{where}: a cube is made of rasters, and these are volumes: {listed(volumes)}; the result of a 4-D NIfTI "
            f"is 4-D without it, so leave out {_KEY} (3-D time points make a 4-D NIfTI with `fslmerge -t` or nibabel)"
        )


def _require_alike(dates: Sequence[tuple[str, Source]], where: str) -> None:
    if not dates:
        return
    first, image = dates[0]
    if found := [f"{stem}: {difference}" for stem, other in dates[1:] if (difference := unlike(image, other))]:
        raise ConfigError(
            f"{where}: {len(found)} of {len(dates)} dates differ from {first} and cannot be in one cube with it: "
            f"{listed(found, '; ')}. Leave them out of input.source, bring them onto one grid, or leave out {_KEY}"
        )


def _require_one_convention(specs: Sequence[SourceSpec], where: str) -> None:
    known = [(spec.stem, spec.levels) for spec in specs if spec.levels]
    if not known:
        return
    first, levels = known[0]
    others = [(stem, one) for stem, one in known if (one.offsets, one.scale) != (levels.offsets, levels.scale)]
    if found := [f"{stem}: {other.describe()}" for stem, other in others]:
        raise ConfigError(
            f"{where}: the numbers of {len(found)} of {len(specs)} dates mean something else than those of {first} "
            f"({levels.describe()}), and in one cube nothing would say so: {listed(found, '; ')}. Take products of one "
            f"processing baseline (all dates were processed again), or leave out {_KEY}"
        )


def make_cube(cube: Cube, done: Sequence[str], events: Events, *, overwrite: bool) -> dict[str, Any]:
    """Make a cube of the dates that are finished, unless it is there already.

    Args:
        cube: what it is made of.
        done: stems of the images that are finished.
        events: hears of progress.
        overwrite: one that was changed since it was written may be replaced.

    Returns:
        For the summary: `path`, `dates`, `missing` (stems), and `state`: `done`, `kept` (what was there has dates that
        are missing now), or `none` (no date is finished).

    Raises:
        OutputConflict: what has its name is not ours, or was changed; or it cannot be written.
        ConfigError: dates differ.
        Interrupted: a stop was requested; what was there is still there.
    """
    held = [(moment, spec) for moment, spec in zip(cube.moments, cube.dates, strict=True) if spec.stem in done]
    missing = [spec.stem for spec in cube.dates if spec.stem not in done]
    row = {"path": cube.path.name, "dates": len(held), "missing": missing}
    if not held:
        return row | {"state": "none"}
    target = cube.target
    try:
        with target.held():
            state = _write(cube, target, held, missing, events, overwrite=overwrite)
    except PipelineError:
        raise
    except OSError as error:
        todo = what_to_do(cube.path, error, "run again")
        raise OutputConflict(f"{target.name}: cannot be written ({error.strerror or error}); {todo}") from error
    finally:
        for folder in (cube.work, cube.work.parent):
            with suppress(OSError):
                folder.rmdir()
    if missing:
        said = "stays as it was, as it has" if state == "kept" else "lacks"
        events.notice(
            cube.path.name, f"{said} dates that are not finished: {listed(missing)}; run again to complete it"
        )
    return row | {"state": state}


def _write(
    cube: Cube,
    target: Target,
    held: Sequence[tuple[datetime, SourceSpec]],
    missing: Sequence[str],
    events: Events,
    *,
    overwrite: bool,
) -> str:
    building = cube.work / "building.zarr"
    remove_made(building)
    records = {spec.stem: record_of(target.results(spec.stem)) for _, spec in held}
    attributes = _attributes([(moment, records[spec.stem]) for moment, spec in held], missing)
    there = target.attributes()
    if there is not None:
        if set(there.get("dates", ())) & set(missing):
            return "kept"
        _require_intact(target, overwrite=overwrite)
        if not overwrite and all(there.get(key) == value for key, value in attributes.items()):
            events.already_done(cube.path.name)
            return "done"
    events.image(cube.path.name, number=1, count=1)
    events.stage(cube.path.name, "cube")
    dates = [_date(moment, spec, records[spec.stem], target) for moment, spec in held]
    # headers of what was in object storage are seen here first
    images = {spec.stem: date.layers["restored"] for (_, spec), date in zip(held, dates, strict=True)}
    _require_rasters(images, _KEY)
    _require_alike(list(images.items()), _KEY)
    write_cube(building, dates, attributes, ASSEMBLY_BYTES)
    if there is not None:
        # it may have been changed in the meantime
        _require_intact(target, overwrite=overwrite)
    target.put(building)
    return "done"


def _attributes(dates: Sequence[tuple[datetime, Mapping[str, Any]]], missing: Sequence[str]) -> dict[str, Any]:
    """Return what a cube says of itself: two of the same results say the same."""
    records = [record for _, record in dates]
    licenses = {record.get("license") or "" for record in records}
    return {
        "title": f"{len(records)} restored dates",
        "history": f"restored and put together by inpaint-pipeline {__version__}",
        "comment": records[0].get("disclaimer", ""),
        **({"missing_dates": list(missing)} if missing else {}),
        **({"license": licenses.pop()} if len(licenses) == 1 and "" not in licenses else {}),
        "dates": [record["stem"] for record in records],
        "records": [f"{record['stem']}/{RECORD}" for record in records],
        "times": [moment.isoformat() for moment, _ in dates],
        "results_sha256": [_content(record) for record in records],
    }


def _content(record: Mapping[str, Any]) -> str:
    layers = [[output["role"], output["sha256"]] for output in record["outputs"] if output["role"] in ROLES]
    return hashlib.sha256(json.dumps([record["stem"], _guides(record), layers]).encode()).hexdigest()


def _guides(record: Mapping[str, Any]) -> list[str]:
    return [str(guide.get("label", "")) for guide in record.get("references", ())]


def _date(moment: datetime, spec: SourceSpec, record: Mapping[str, Any], target: Target) -> CubeDate:
    layers: dict[Role, Any] = {o["role"]: o for o in reversed(record["outputs"]) if o["role"] in _LAYERS}
    target.bring(spec.stem, layers.values())
    folder = target.results(spec.stem)
    roles = [guide["role"] for guide in record["references"]]
    codes = names_of(roles)
    # codes that this date cannot have
    if record["holes"]["planes"] == 1:
        del codes[REFERENCE + len(roles)]
    if len(roles) < 2:
        del codes[SEVERAL]
    return CubeDate(
        moment=moment,
        layers={
            role: open_any(str(folder / layer["path"]), nodata=spec.nodata if role == "restored" else None)
            for role, layer in layers.items()
        },
        guides=tuple(_guides(record)),
        codes={"source": codes, "doubt": DOUBT_NAMES},
    )


def _require_intact(target: Target, *, overwrite: bool) -> None:
    if not overwrite and not target.intact():
        raise OutputConflict(
            f"{target.name} is not what was written (somebody has changed it, or added to it); move it away, or use "
            "--overwrite to replace it"
        )


def check_cubes(directory: Path) -> dict[str, list[Check]]:
    """Return for each cube in an output folder whether it is as it was written, of the results that lie beside it."""
    found = {}
    for path in sorted(directory.glob("cube*.zarr")):
        if (attributes := attributes_of(path)) is not None:
            held, detail = is_intact(path), f"{len(attributes['dates'])} dates, sealed"
            if not held:
                detail = "was changed since it was written"
            elif older := _older(path, attributes):
                held, detail = False, f"other results than it was made of are there now: {listed(older)}; run again"
            found[path.name] = [Check(name="files", held=held, detail=detail)]
    return found


def _older(path: Path, attributes: Mapping[str, Any]) -> list[str]:
    """Return the dates of a cube that have other results now; those that were taken away cannot be compared."""
    return [
        stem
        for stem, content in zip(attributes["dates"], attributes["results_sha256"], strict=True)
        if (record := read_record(path.parent / stem)) is not None and _content(record) != content
    ]
