"""Evaluate the images of a config: what every method would make of holes whose truth is known, as files and a table."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from pipeline import __version__
from pipeline.commands.layout import aligned
from pipeline.commands.temporary import temporary_job
from pipeline.config.catalog import resolve_sources
from pipeline.config.schema import load_config
from pipeline.errors import BlockFailed, ConfigError, IntegrityError, Interrupted, OutputConflict, PipelineError
from pipeline.evidence.mark import with_doubt
from pipeline.image.scene import Clock, open_scene
from pipeline.orders import Order, order_of
from pipeline.plan.job import Job
from pipeline.provenance.published import published_texts
from pipeline.report.bands import rgb_channels
from pipeline.report.evaluation import evaluation_page, score_text
from pipeline.selftest.evaluation.families import TITLES
from pipeline.selftest.evaluation.rounds import Example, rounds
from pipeline.selftest.evaluation.table import SCORES
from pipeline.selftest.evaluation.words import sentence
from pipeline.survey.survey import find_model
from pipeline.system.files import finite, read_json, remove_made, replace_folder, sync_tree, write_json, write_text
from pipeline.system.room import what_to_do
from pipeline.system.signals import Stop, stoppable
from pipeline.system.threads import threaded
from pipeline.system.words import counted
from pipeline.system.yaml_files import nearest

PAGE, TABLE, FACTS = "evaluate.html", "evaluate.csv", "evaluate.json"
"""The files of an evaluation."""

Tell = Callable[[str, str], None]
"""Hears the image and what is done to it now."""


def evaluate_table(
    config_path: Path,
    overrides: Sequence[str],
    families: Sequence[str] = (),
    *,
    overwrite: bool = False,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Evaluate every image of a config; its files lie in `<output.directory>/<stem>_evaluation`.

    Args:
        config_path: the config.
        overrides: `a.b=VALUE` for keys of the config.
        families: of holes; all without any.
        overwrite: an evaluation of another config or input may be replaced.
        tell: hears of progress.

    Returns:
        `evaluation`, a row for each image, family and method; `images`, what holds for each image; `directory`, the
        output folder.

    Raises:
        PipelineError: nothing could be evaluated; for a batch of which a part failed, `BlockFailed` (exit code 5).
    """
    tell = tell or (lambda _stem, _text: None)
    config = load_config(config_path, overrides)
    _require_known(families)
    specs = resolve_sources(config)
    images: list[dict[str, Any]] = []
    failures: dict[str, PipelineError] = {}
    with Stop() as stop:
        for spec in specs:
            try:
                with stoppable(stop.requested):
                    images.append(_evaluated(order_of(config, spec), families, tell, overwrite=overwrite))
            except PipelineError as error:
                if len(specs) == 1 or isinstance(error, Interrupted):
                    raise
                failures[spec.stem] = error
                tell(spec.stem, f"failed: {error}")
    if failures:
        why = "; ".join(f"{stem}: {error}" for stem, error in failures.items())
        raise BlockFailed(f"{len(failures)} of {len(specs)} images could not be evaluated ({why}); the others are done")
    rows = [{"image": one["image"], **row} for one in images for row in one["rows"]]
    said = [{k: v for k, v in one.items() if k != "rows"} for one in images]
    return {"evaluation": rows, "images": said, "directory": str(config.folder)}


def _require_known(families: Sequence[str]) -> None:
    """Refuse a family that no image has, before anything is opened; one of the other dimension is told by the image."""
    known = list(dict.fromkeys(name for titles in TITLES.values() for name in titles))
    for name in families:
        if name not in known:
            raise ConfigError(f"no family of holes '{name}'{nearest(name, known)} (known: {', '.join(known)})")


def tell_on_stderr(*, quiet: bool) -> Tell:
    """Return what says on stderr how far an evaluation is; nothing if it is to be quiet."""

    def tell(stem: str, text: str) -> None:
        if not quiet:
            sys.stderr.write(f"{stem}: {text}\n")

    return tell


def _evaluated(order: Order, families: Sequence[str], tell: Tell, *, overwrite: bool) -> dict[str, Any]:
    """Return the facts of an image: those that lie there of the same request, else new ones."""
    folder = order.folder.with_name(f"{order.stem}_evaluation")
    request = hashlib.sha256(json.dumps([order.request, sorted(families), __version__]).encode()).hexdigest()
    known = _previous(folder, request, overwrite=overwrite)
    if known is not None:
        tell(order.stem, f"was evaluated before, see {folder / PAGE}")
        return known
    _require_writable(folder)
    with temporary_job(order) as job:
        facts, examples = _scored(order, job, families, tell)
    # as read back from the file
    facts = dict(finite({"request": request, **facts}))
    _publish(folder, facts, examples)
    return facts


def _scored(order: Order, job: Job, wanted: Sequence[str], tell: Tell) -> tuple[dict[str, Any], dict[str, Example]]:
    """Return what an evaluation finds, and an example of each family."""
    if job.model.traits.sees_stored:
        raise ConfigError(
            f"model {job.model.kind} sees what the file stores in holes, so nothing can be hidden from it"
        )
    head = {"image": order.stem, "version": __version__, "config_sha256": order.config_sha256, "seed": job.seed}
    with threadpool_limits(limits=1), threaded(job.threads):
        scene, notices = open_scene(job, Clock())
        head["notices"] = published_texts(notices, order, order.folder)
        if scene.states.holes == 0:
            note = "no holes, so there is nothing to restore and no hole shape to test with"
            return {**head, "sentence": note, "families": [], "rows": []}, {}
        model, _ = find_model(scene)
        scene, _ = with_doubt(scene)
        names = [scene.source.channel_names[c] for c in scene.image.channels]
        shown = rgb_channels(names) if scene.ndim == 2 else [0]
        done = rounds(scene, model, wanted, shown, lambda text: tell(order.stem, text))
    facts = head | {
        "sentence": sentence(done),
        "range": [float(v) for v in scene.values.spread],
        "channels": names,
        "families": [
            {
                "family": one.family,
                "title": one.title,
                "windows": one.windows,
                "holes": one.holes,
                "pixels": one.pixels,
                "best_fill": one.best_fill,
                "decisions": list(one.decisions),
            }
            for one in done
        ],
        "rows": [row for one in done for row in one.facts()],
    }
    return facts, {one.family: one.example for one in done if one.example is not None}


def _previous(folder: Path, request: str, *, overwrite: bool) -> dict[str, Any] | None:
    """Return the facts of an earlier evaluation of the same request; refuse what may not be replaced.

    Raises:
        OutputConflict: names what is in the way.
    """
    old = folder.with_name(f".{folder.name}.old")
    if old.is_dir() and not folder.exists():
        # an evaluation that was ended while it took the place of this one
        old.rename(folder)
    if not folder.exists():
        return None
    held = {p.name for p in folder.iterdir()} if folder.is_dir() else {folder.name}
    facts = None
    with suppress(IntegrityError):
        facts = read_json(folder / FACTS) if folder.is_dir() else None
    # what only has the names of an evaluation's files is somebody's own
    if others := sorted(held - {PAGE, TABLE, FACTS} or (held if "request" not in (facts or {}) else set())):
        raise OutputConflict(f"{folder} holds {others[0]}, which no evaluation wrote; move it away")
    whole = facts is not None and facts.get("request") == request and all((folder / n).exists() for n in (PAGE, TABLE))
    if whole and not overwrite:
        return facts
    if not overwrite:
        raise OutputConflict(
            f"{folder} holds an evaluation of another config, input or choice of families; use --overwrite to replace "
            "it, or another output.directory"
        )
    return None


def _require_writable(folder: Path) -> None:
    """Check before the work that its files can be written; leaves nothing.

    Raises:
        OutputConflict: they cannot.
    """
    there = next(place for place in folder.parents if place.exists())
    with _conflicts(folder), tempfile.TemporaryDirectory(dir=there, prefix=f".{folder.name}-") as draft:
        write_text(Path(draft) / FACTS, "{}")


@contextmanager
def _conflicts(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise OutputConflict(
            f"{folder}: cannot write the evaluation ({error.strerror or error}); "
            + what_to_do(folder, error, "choose another output.directory")
        ) from error


def _publish(folder: Path, facts: Mapping[str, Any], examples: Mapping[str, Example]) -> None:
    """Write the files and let them appear in one step."""
    with _conflicts(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as draft:
            ready = Path(draft) / "new"
            ready.mkdir()
            write_text(ready / PAGE, evaluation_page(facts, examples, SCORES))
            write_text(ready / TABLE, _csv(facts["rows"]))
            write_json(ready / FACTS, facts)
            old = folder.with_name(f".{folder.name}.old")
            remove_made(old)
            sync_tree(ready)
            replace_folder(folder, ready, old)
            remove_made(old)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV: numbers in full, nothing where a score is not known, lists with blanks."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()})
    return text.getvalue()


def evaluation_text(facts: Mapping[str, Any]) -> str:
    """Return a table for each image and family, where the page lies, and in words which method to use."""
    parts: list[str] = []
    for image in facts["images"]:
        stem = image["image"]
        rows = [row for row in facts["evaluation"] if row["image"] == stem]
        for one in image["families"]:
            some = [row for row in rows if row["family"] == one["family"]]
            if not some:
                parts.append(f"{stem}: {one['title']}: too little is observed to hide any")
                continue
            what = f"{counted(one['holes'], 'hole')}, {counted(one['pixels'], 'hidden value')}"
            parts += [f"{stem}: {one['title']}: {what} in {counted(one['windows'], 'window')}", _methods(some)]
            parts += [f"{stem}: a run would use in {text}" for text in one["decisions"]]
            parts.append("")
    for image in facts["images"]:
        page = Path(facts["directory"]) / f"{image['image']}_evaluation" / PAGE
        parts.append(f"{image['image']}: all intervals and pictures: {page}")
        parts.append(f"{image['image']}: {image['sentence']}")
    return "\n".join(parts)


def _methods(rows: Sequence[Mapping[str, Any]]) -> str:
    shown = [name for name in SCORES if any(row[name] is not None for row in rows)]
    table = [
        [row["method"] + (" <- use" if row["chosen"] else ""), *(_as_text(name, row) for name in shown)] for row in rows
    ]
    return aligned(["method", *(SCORES[name] for name in shown)], table)


def _as_text(name: str, row: Mapping[str, Any]) -> str:
    """Return a score, those in decibel with their intervals; the page has all of them."""
    value, ends = score_text(row, name)
    return f"{value} ({ends})" if ends and name.endswith("_db") else value
