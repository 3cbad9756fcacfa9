"""The page to read first: what `inpaint-pipeline run` does, from the config to the published files.

    config -> catalog -> open -> find holes -> survey -> PLAN -> blocks -> assemble -> verify -> record -> report

Each image of a batch goes through `restore`. Running again after any interruption continues: a complete plan is used
as it is, committed blocks are not computed again, and the result is the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.blocks import journal
from pipeline.blocks.events import Events
from pipeline.blocks.journal import Totals
from pipeline.blocks.store import create_store, usable
from pipeline.config.batch import SourceSpec
from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import RunConfig, load_config
from pipeline.errors import IntegrityError, Interrupted, OutputConflict, PipelineError, Unreachable
from pipeline.execute._choose import choose_executor, is_elsewhere
from pipeline.execute._workers import Workers
from pipeline.image.workspace import open_workspace
from pipeline.orders import Order, order_of, require_unchanged
from pipeline.output.assemble import Assembler, Written, assemble
from pipeline.output.computed import check_computed, finished_blocks
from pipeline.output.cube import Cube, cubes_of, make_cube
from pipeline.output.dataset import add_derivatives, derivative_layers, require_derivatives_free
from pipeline.output.delivery import delivered_before, make_and_deliver, send_summary
from pipeline.output.display import Display
from pipeline.output.folder import claimed, require_apart
from pipeline.output.publication import publish
from pipeline.output.rehearse import rehearse
from pipeline.output.results import of_record
from pipeline.output.verify import quick_check
from pipeline.plan.cost import Cost
from pipeline.plan.facts import load_survey, save_survey
from pipeline.plan.job import Job
from pipeline.plan.plan import Plan
from pipeline.provenance import bids
from pipeline.provenance.failure import LOG, forget_failure, note_failure
from pipeline.provenance.index import update_index
from pipeline.provenance.published import published_summary
from pipeline.provenance.record import build_record, tags
from pipeline.provenance.renderings import render
from pipeline.provenance.roofline import measured, roofline
from pipeline.provenance.summary import (
    entry_of,
    explained,
    failed_entry,
    failure_of_run,
    is_summary,
    require_summary_free,
    summary_of,
    write_summary,
)
from pipeline.report.build import write_report
from pipeline.survey.survey import Survey, survey
from pipeline.survey.unfinished import unfinished_survey
from pipeline.system.facts import inputs_hashed_once, output_facts, peak_rss_bytes
from pipeline.system.files import remove_made
from pipeline.system.meter import Uses, as_facts, metered
from pipeline.system.room import explain_full_disk
from pipeline.system.signals import Stop, stoppable
from pipeline.system.threads import each, threaded


def run(
    config_path: Path,
    overrides: Sequence[str] = (),
    *,
    overwrite: bool = False,
    events: Events | None = None,
    computed: bool = False,
) -> dict[str, Any]:
    """Restore every image of a config and return the summary that stands in `run.json`.

    Args:
        config_path: the config.
        overrides: `a.b=VALUE` for keys of the config.
        overwrite: results of another config or input may be replaced.
        events: hears of progress.
        computed: all blocks were computed before, by `shard`: only the files are made.

    Raises:
        PipelineError: nothing could be finished; for a batch of which a part failed, `BlockFailed` (exit code 5).
    """
    started = time.monotonic()
    events = events or Events()
    config = load_config(config_path, overrides)
    specs, cubes = images_and_cubes(config)
    entries: list[dict[str, Any]] = []
    failure: PipelineError | None = None
    with Stop() as stop, inputs_hashed_once():
        for number, spec in enumerate(specs, start=1):
            events.image(spec.stem, number=number, count=len(specs))
            entry, error = _restore_or_explain(config, spec, events, stop, overwrite=overwrite, computed=computed)
            entries.append(entry)
            failure = error or failure
            if error is not None and len(specs) > 1:
                # a single image's error is the command's own, said once
                events.failed(spec.stem, error)
            if stop.requested():
                break
        rows, trouble = _make_cubes(config, cubes, entries, events, stop, overwrite=overwrite)
        summary = published_summary(summary_of(config, entries, rows, started), config, specs)
        try:
            written = _write_overview(config, specs, summary, events)
        except OutputConflict as error:
            if failure is None or len(specs) > 1:
                raise
            # what failed before is what the run ends with
            events.notice(specs[0].stem, str(error))
            raise failure from failure.__cause__
        if stop.requested():
            raise Interrupted(f"stopped; run `inpaint-pipeline run {config_path}` again to continue")
    if config.address and not isinstance(failure, Unreachable):
        # what failed before is what the run ends with
        with suppress(PipelineError) if failure else nullcontext():
            send_summary(config.address, written, ours=is_summary)
    if ended := failure_of_run(failure, entries, config.folder) or trouble:
        raise ended
    return summary


def images_and_cubes(config: RunConfig) -> tuple[list[SourceSpec], list[Cube]]:
    """Return the images and the cubes of a config; raises what is refused before the first image is begun."""
    specs = resolve_sources(config)
    cubes = cubes_of(config, specs)
    require_summary_free(config.folder)
    require_apart(config.folder, specs)
    return specs, cubes


def _restore_or_explain(
    config: RunConfig, spec: SourceSpec, events: Events, stop: Stop, *, overwrite: bool, computed: bool
) -> tuple[dict[str, Any], PipelineError | None]:
    """Restore one image; return its entry in the summary, and what went wrong: the others of a batch go on."""
    order: Order | None = None
    try:
        with explain_full_disk(config.folder):
            with stoppable(stop.requested):
                order = order_of(config, spec)
                if computed and not delivered_before(order):
                    check_computed(order, events)
            record = restore(order, overwrite=overwrite, events=events, should_stop=stop.requested)
        with of_record(order.folder):
            entry = entry_of(order, record)
        forget_failure(config.folder, spec.stem)
        return entry, None
    except Exception as unexpected:
        error = stop.told(explained(unexpected, config.folder / f"{spec.stem}{LOG}"))
        note_failure(config, spec, order, error)
        return failed_entry(error, stem=spec.stem, directory=spec.stem), error
    finally:
        # the library of netCDF gives whoever opens a file anew what it has of the old one, as long as that is open
        open_workspace.cache_clear()


def _make_cubes(
    config: RunConfig,
    cubes: Sequence[Cube],
    entries: Sequence[Mapping[str, Any]],
    events: Events,
    stop: Stop,
    *,
    overwrite: bool,
) -> tuple[list[dict[str, Any]], PipelineError | None]:
    """Make the cubes of what is finished; returns their rows in the summary, and why one failed if one did."""
    done = [entry["stem"] for entry in entries if entry["state"] == "done"]
    rows: list[dict[str, Any]] = []
    failure: PipelineError | None = None
    for cube in () if stop.requested() else cubes:
        try:
            with explain_full_disk(config.folder), stoppable(stop.requested):
                rows.append(make_cube(cube, done, events, overwrite=overwrite))
        except Exception as unexpected:
            failure = explained(unexpected, config.folder / f"{cube.path.name}{LOG}")
            rows.append(failed_entry(failure, path=cube.path.name))
            events.failed(cube.path.name, failure)
    return rows, failure


def _write_overview(config: RunConfig, specs: Sequence[SourceSpec], summary: Mapping[str, Any], events: Events) -> Path:
    """Write the page of all images and the summary, whose path is returned."""
    written = write_summary(config.folder, summary)
    if not config.address:
        _, refused = update_index(config.folder, summary["sources"], several=len(specs) > 1)
        if refused:
            events.notice(specs[0].stem, refused)
    return written


def restore(order: Order, *, overwrite: bool, events: Events, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Restore one image: plan, blocks, files, report, record; all of it appears in one step. Returns the record."""
    with claimed(order, overwrite=overwrite) as finished:
        if order.address:
            with stoppable(should_stop):
                return make_and_deliver(
                    order,
                    lambda: finished or _compute_and_publish(order, events, should_stop),
                    events,
                    overwrite=overwrite,
                )
        if finished is not None:
            events.already_done(order.stem)
            _write_derivatives(order, finished)
            return finished
        return _compute_and_publish(order, events, should_stop)


def _compute_and_publish(order: Order, events: Events, should_stop: Callable[[], bool]) -> dict[str, Any]:
    if order.bids is not None:
        require_derivatives_free(order.bids)
    clock = {"start": time.perf_counter()}
    with Workers(order, events, should_stop) as workers:
        with stoppable(should_stop):
            plan, facts = plan_of(order, events, workers)
        clock["survey"] = time.perf_counter()
        totals = compute(order, plan, events, workers, should_stop)
    # whoever was given up for lost writes nothing from here on
    clock["blocks"] = time.perf_counter()
    with threaded(order.job.threads):
        return _finish(order, plan, facts, totals, clock, events)


def _finish(
    order: Order, plan: Plan, facts: dict[str, Any], totals: Totals, clock: dict[str, float], events: Events
) -> dict[str, Any]:
    """Make and publish files, report and record of the finished blocks; returns the record."""
    record = build_record(order, plan, facts, totals)
    events.stage(order.stem, "files")
    written, display, uses = _write_files(order, plan, record)
    if display:
        _add_display(order, record, display, events)
    clock["assemble"] = time.perf_counter()
    _add_times(record, clock)
    spent = measured(facts, totals, uses, record["seconds"])
    record["roofline"] = roofline(plan, record["patches"], spent).facts()
    _add_outputs(record, plan, written, order.beside.ready, clock["start"])
    publish(order, record)
    _write_derivatives(order, record)
    return record


def _write_files(order: Order, plan: Plan, record: Mapping[str, Any]) -> tuple[list[Written], Display | None, Uses]:
    """Write and check the files of all layers; also returns the display product and what was counted."""
    with metered() as uses:
        assembler = Assembler(plan)
        display = Display(assembler) if order.job.display else None
        shown = display.image if display else None
        written = assemble(assembler, order.stem, order.formats, tags(record), order.beside.ready, display=shown)
        require_unchanged(order)
        quick_check(plan, assembler.source, written)
    return written, display, uses


def _add_display(order: Order, record: dict[str, Any], display: Display, events: Events) -> None:
    """Add to the record what was measured while the display product was written."""
    record["display"] = display.facts()
    for notice in display.notices():
        events.notice(order.stem, notice)
        record["notices"].append(notice)


def _write_derivatives(order: Order, record: Mapping[str, Any]) -> None:
    """Put published results into the data set of derivatives that the config names."""
    if order.bids is None:
        return
    with derivative_layers(order, record) as made:
        told = bids.sidecars(order, record, made.expected_error, made.mean_restored)
        add_derivatives(order.bids, made.files, told, bids.dataset_description(order), bids.ignored(order))


def plan_of(order: Order, events: Events, workers: Workers) -> tuple[Plan, dict[str, Any]]:
    """Return the plan and the survey's facts: those of an interrupted run if they are all there, else new ones."""
    work = order.work
    try:
        plan, facts = unfinished_survey(order.job)
        _require_blocks_of(plan)
    except IntegrityError as error:
        if work.plan.exists() or work.blocks.exists():
            events.notice(order.stem, f"{error}; the survey is made again")
    else:
        events.stage(order.stem, "continue")
        return plan, facts
    # without a plan nothing is committed, and what another survey found is not this one's
    for stale in (work.plan, work.blocks, work.seams, work.samples, work.haze, work.beyond, work.parcels):
        remove_made(stale)
    events.stage(order.stem, "survey")
    told = partial(_announce_cost, order, events)
    with metered() as uses:
        found = rehearsed_survey(order, order.job, partial(survey, told=told, hire=workers.of_windows))
    save_survey(found.plan, found.facts() | {"work": as_facts(uses), "windows_by": workers.account()})
    if found.cost is not None:
        told(found.plan, found.cost)
    for notice in found.notices:
        events.notice(order.stem, notice)
    # what is reported now and after a restart must be the same object
    return load_survey(work)


def _require_blocks_of(plan: Plan) -> None:
    """Check that finished blocks are of this plan.

    Raises:
        IntegrityError: they are of another one, as after somebody has edited it.
    """
    begun = journal.begun_with(plan.work.journal) if plan.work.blocks.exists() else None
    if begun not in (None, plan.digest):
        raise IntegrityError(f"{plan.work.plan}: is not the plan that blocks were computed by")


def _announce_cost(order: Order, events: Events, plan: Plan, cost: Cost) -> None:
    _, workers = choose_executor(order, plan, max(1, len(plan.blocks)))
    events.expected(order.stem, cost, workers)


def rehearsed_survey(order: Order, job: Job, look: Callable[[Job], Survey]) -> Survey:
    """Return what a look at the image says (`survey` or `outline`), after it is clear that the results can be written.

    Raises:
        SourceError: a format cannot hold what the header says; and whatever the look raises.
    """
    notices = rehearse(job.source, order.formats, job.work.path)
    found = look(job)
    return replace(found, notices=(*notices, *found.notices))


def compute(order: Order, plan: Plan, events: Events, workers: Workers, should_stop: Callable[[], bool]) -> Totals:
    """Process every block that the journal does not have; returns what all say together.

    Raises:
        Interrupted: a stop was requested; what is committed stays.
        BlockFailed: some blocks failed on every attempt; the rest is committed.
    """
    # an earlier run in this process may have had the same plan and other files
    open_workspace.cache_clear()
    work = order.work
    if not usable(plan, order.n_file_channels):
        # nothing that the journal speaks of is left
        if journal.numbers(work.journal, plan.digest):
            events.notice(order.stem, "the finished blocks were gone or damaged on disk; all are computed again")
        journal.forget(work.journal)
        create_store(plan, order.n_file_channels)
    every = set(range(len(plan.blocks)))
    known = journal.numbers(work.journal, plan.digest, len(every))
    events.blocks(order.stem, done=len(known), total=len(plan.blocks))
    workers.execute(plan, every - known)
    elsewhere = is_elsewhere(order.executor)
    with stoppable(should_stop), threaded(order.job.threads):
        done, harmed = finished_blocks(order, plan, events, elsewhere=elsewhere)
    if harmed:
        events.notice(order.stem, f"{len(harmed)} finished blocks were damaged on disk and are computed again")
        workers.execute(plan, harmed)
        with stoppable(should_stop), threaded(order.job.threads):
            done, harmed = finished_blocks(order, plan, events, elsewhere=elsewhere)
    if harmed:
        where = "check the disk, and that all machines see the same files there" if elsewhere else "check the disk"
        raise IntegrityError(f"{work.blocks}: blocks {harmed[:3]} do not stay as they were written; {where}")
    remove_made(work.seams)
    return done.totals()


def _add_times(record: dict[str, Any], clock: Mapping[str, float]) -> None:
    """Add to the record how long the stages took."""
    stages = record["seconds"]
    stages["survey_total"] = clock["survey"] - clock["start"]
    stages["blocks"] = clock["blocks"] - clock["survey"]
    stages["assemble"] = clock["assemble"] - clock["blocks"]


def _add_outputs(record: dict[str, Any], plan: Plan, written: Sequence[Written], ready: Path, started: float) -> None:
    """Add to the record what is known once the files are there, and write the report beside them."""
    # a hash lets go of Python's lock
    record["outputs"] = each(lambda w: output_facts(w.role, w.path, ready), written)
    # a reference system that TIFF cannot hold stands beside every layer, names of codes only beside layers of codes
    beside = "sidecar" if any(w.beside for w in written if w.role == "restored") else "categories"
    record["outputs"] += [output_facts(beside, path, ready) for w in written for path in w.beside]
    record["peak_rss_bytes"] = max(peak_rss_bytes(), record["peak_rss_bytes"])
    reporting = time.perf_counter()
    shown = write_report(plan, record, ready)
    record["seconds"]["report"] = time.perf_counter() - reporting
    record["seconds"]["total"] = time.perf_counter() - started
    record["outputs"] += [output_facts(role, path, ready) for role, path in shown]
    render(record, plan.space, ready)
