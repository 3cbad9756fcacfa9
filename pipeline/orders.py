"""From config and catalog to orders: one per image, with absolute paths, defaults filled in and a request hash."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config.batch import SourceSpec
from pipeline.config.bids import Derivation, bids_image
from pipeline.config.catalog import verify_sha256
from pipeline.config.compute import ComputeConfig
from pipeline.config.fetched import with_copies
from pipeline.config.fits import check_fits, require_possible_nodata
from pipeline.config.names import sibling_masks
from pipeline.config.opening import opened
from pipeline.config.region import region_facts
from pipeline.config.schema import RunConfig, config_hash, resolved
from pipeline.errors import ConfigError, OutputConflict, SourceError
from pipeline.formats import files_of
from pipeline.formats._view import box_of, whole_of
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks.base import Mask, open_masks
from pipeline.models._choice import ModelChoice
from pipeline.plan.job import Job
from pipeline.plan.refs import GuideRef, SourceRef
from pipeline.plan.workdir import WorkFolder, fetched_from
from pipeline.system.bounds import USABLE, cores, memory_bytes
from pipeline.system.facts import content_of, input_facts
from pipeline.system.files import remove_made
from pipeline.system.paths import is_address
from pipeline.system.redact import redacted
from pipeline.system.words import together

_BATCH = {"cpu": 1, "cuda": 8}
"""Patches prepared together when the config says `auto`; on a CPU more of them only cost memory."""
_MOST_THREADS = 8
"""Threads of a survey: it has no more windows than that to look at."""
_THREAD_BYTES = 512 * 2**20
"""Memory for each of them: the factors of a window that is nearly all hole take 90 MiB, the network more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image of a run."""

    stem: str
    """Input file name without suffixes."""
    folder: Path
    """Where the results go; where they are made first if they go to object storage."""
    job: Job
    """What the survey needs."""
    n_file_channels: int
    """Channels of the input file, those that are not restored among them."""
    formats: tuple[str, ...]
    """`same`, `zarr` or both."""
    request: str
    """Hash of config and input bytes; a folder belongs to one request."""
    config_sha256: str
    """Hash of what in the config can change a value."""
    inputs: tuple[dict[str, Any], ...]
    """Facts of the input files, for the record."""
    masks: tuple[dict[str, Any], ...]
    """Mask entries with facts of their files, for the record."""
    config: dict[str, Any]
    """Resolved config."""
    base: Path
    """Folder of the config, absolute."""
    executor: str
    """As asked for."""
    workers: int | str
    """As asked for."""
    cluster: dict[str, Any] = field(default_factory=dict)
    """What the config says of jobs or of a scheduler, for the executor."""
    address: str = ""
    """`output.directory` if it lies in object storage, else empty."""
    license: str = ""
    """Of the input, if known."""
    date: str | None = None
    """When the image was taken, as the config or the catalog says it."""
    bands: tuple[str, ...] = ()
    """Names of the bands of the file, empty if it has none."""
    bids: Derivation | None = None
    """The data set of derivatives that gets the results, too."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Every file and address that the run reads: inputs, masks, and what belongs to them without being named."""
        named = (*self.inputs, *(file for mask in self.masks for file in mask["files"]))
        return tuple(str(file["path"]) for fact in named for file in (fact, *fact.get("files", ())))

    @property
    def work(self) -> WorkFolder:
        """Where the run works."""
        return self.job.work

    @property
    def beside(self) -> WorkFolder:
        """The work folder beside the results, on their file system: `work`, unless that is in a scratch folder."""
        return WorkFolder.running(self.folder.parent, self.stem)


def order_of(config: RunConfig, spec: SourceSpec) -> Order:
    """Translate config and catalog into the order for one image.

    Raises:
        SourceError: a file is missing, unreadable or has another hash than the catalog says.
        Unreachable: the server of an image in object storage does not answer.
        PipelineError: what was found to be wrong with the image's references.
        ConfigError: nothing says where the holes are, or a reference is the image itself.
    """
    if spec.problem:
        raise spec.problem
    work = WorkFolder.running(config.compute.scratch or config.folder, spec.stem)
    spec = with_copies(spec, work.fetched)
    _require_hashes(spec)
    folder = config.folder / spec.stem
    source = opened(spec, config)
    _require_holes(config, spec)
    check_fits(config, source)
    job = _job(config, spec, source, work)
    named = [path for ref in (job.source, *(g.source for g in job.guides)) for path in ref.paths]
    inputs = _file_facts(named) + input_facts(_metadata_files(spec))
    _require_others(spec, dict(zip(named, (fact["sha256"] for fact in inputs), strict=False)))
    masks = _mask_facts(spec)
    weights = job.model.weights_files(source)
    contents = {
        "inputs": [content_of(fact) for fact in inputs],
        "masks": [one | {"files": [content_of(file) for file in one["files"]]} for one in masks],
        "weights": [fact["sha256"] for fact in input_facts([str(path) for path in weights])],
    }
    return Order(
        stem=spec.stem,
        folder=folder,
        job=replace(job, config=job.config | contents),
        n_file_channels=source.n_channels,
        formats=config.output.format,
        request=_request(config, contents),
        config_sha256=config_hash(config),
        inputs=tuple(inputs),
        masks=tuple(masks),
        config=resolved(config),
        base=config.path.parent if config.path else Path.cwd(),
        executor=config.compute.executor,
        workers=config.compute.workers,
        cluster=cluster_settings(config),
        address=config.address,
        license=spec.license,
        date=spec.date,
        bands=source.channel_names,
        bids=_derivation(config, spec, [*inputs, *(file for mask in masks for file in mask["files"])]),
    )


def require_unchanged(order: Order) -> None:
    """Check that what a run has read is still what it was when the run began; costs a look at each file.

    A result would be of two states of the file otherwise. What was computed is given up: some of it may be of either.

    Raises:
        OutputConflict: the folder that the run works in is gone.
        SourceError: a file of this machine has other bytes; names it.
    """
    if not order.work.plan.exists():
        raise OutputConflict(
            f"{order.work.path}: was moved or removed while the run went on; nothing was published. Move it back, or "
            "run again from the start"
        )
    named = (*order.inputs, *(file for mask in order.masks for file in mask["files"]))
    for fact in (file for one in named for file in (one, *one.get("files", ()))):
        if fact["sha256"] is None or is_address(fact["path"]):
            continue
        (now,) = input_facts([fact["path"]])
        # one that is gone was read before, or could not be read
        if now["sha256"] not in (None, fact["sha256"]):
            remove_made(order.work.plan)
            raise SourceError(
                f"{fact['path']}: was changed while the run went on, so the result would be of two states of it; "
                "nothing was published. Run again with --overwrite when nothing writes to it any more"
            )


def _request(config: RunConfig, contents: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of all that the published files depend on."""
    output = config.output
    written = {"formats": output.format, "paths": output.paths, "display": output.display}
    facts = {"config": config_hash(config), **written, **contents}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _derivation(config: RunConfig, spec: SourceSpec, reads: Sequence[Mapping[str, Any]]) -> Derivation | None:
    """Return where the results go as derivatives of a data set, if the config asks for it.

    Raises:
        ConfigError: the image is none of a BIDS data set, or no NIfTI is to be written.
        SourceError: one of its sidecars is damaged.
    """
    output = config.output
    if output.bids is None:
        return None
    if config.input.region is not None:
        raise ConfigError(f"{config.where('output.bids')}: derivatives are whole images; leave out input.region")
    if "same" not in output.format:
        raise ConfigError(f"{config.where('output.bids')}: derivatives are NIfTI; add `same` to output.format")
    try:
        image = bids_image(spec.paths[0])
    except ConfigError as error:
        raise ConfigError(f"{config.where('output.bids')}: {error}; leave output.bids out for it") from None
    named = tuple(str(fact["path"]) for fact in reads)
    return Derivation(target=output.bids, image=image, metadata=image.metadata(), reads=named)


def _metadata_files(spec: SourceSpec) -> tuple[str, ...]:
    """Return the files that say what the bands of delivered scenes are: another offset is another request."""
    scenes = (one.selection.product for one in (spec, *spec.references, *spec.auxiliary) if one.selection)
    return tuple(dict.fromkeys(file for product in scenes for file in product.files))


def _require_hashes(spec: SourceSpec) -> None:
    for one in (spec, *spec.references, *spec.auxiliary):
        for path, expected in one.sha256.items():
            verify_sha256(path, expected)


def _require_others(spec: SourceSpec, hashes: Mapping[str, str | None]) -> None:
    """Check that no reference or auxiliary is the image itself, whose holes would be filled with what hides them.

    Args:
        spec: the image. Bands of it that are not restored, and an image with a mask of its own, are guides like others.
        hashes: of files; None for those behind addresses.

    Raises:
        ConfigError: one is, also as a link or a copy.
    """
    own = {hashes.get(path) for path in spec.paths} - {None}
    for role, guides in (("reference", spec.references), ("auxiliary", spec.auxiliary)):
        for guide in guides:
            apart = spec.bands and guide.bands and not set(spec.bands) & set(guide.bands)
            same = next((path for path in guide.paths if hashes.get(path) in own), None)
            # nobody said that a mask found beside it hides all that is to be restored here
            named = guide.mask and guide.mask != sibling_masks(guide.paths[0])
            if same and not named and not apart:
                raise ConfigError(
                    f"{role} {redacted(same)} is the image itself, and nothing says what is hidden in it: holes would "
                    "be filled with what hides them; leave it out, or name its `mask:`"
                )


def _require_holes(config: RunConfig, spec: SourceSpec) -> None:
    if not spec.mask and config.input.fill_nodata in ("drawn", "never"):
        beside = sibling_masks(spec.paths[0])
        if beside:
            named = ", ".join(Path(path).name for entry in beside for path in entry.reads())
            raise ConfigError(
                f"{spec.paths[0]}: nothing says which pixels to restore; {named} lies beside it: `mask: auto` takes it"
            )
        raise ConfigError(
            f"{spec.paths[0]}: nothing says which pixels to restore; add a `mask:` entry (`config new FILE` writes a "
            "commented start), such as {kind: nodata, max_gap: null} for all pixels without a value (nodata, NaN)"
        )


def _job(config: RunConfig, spec: SourceSpec, source: Source, work: WorkFolder) -> Job:
    guides = tuple(
        _guide_ref(one, role, work.staged, config)
        for role, found in (("reference", spec.references), ("auxiliary", spec.auxiliary))
        for one in found
    )
    ndim, compute, settings = source.space.ndim, config.compute, resolved(config)
    model = _model(config)
    batch = compute.batch_size if isinstance(compute.batch_size, int) else _BATCH[model.device]
    return Job(
        work=work,
        source=_source_ref(spec, source, work.staged),
        open_mask=partial(_open_mask, spec, config.input.fill_nodata),
        guides=guides,
        model=model,
        patch=_counts(config.patch.size, ndim),
        overlap=_counts(config.patch.overlap, ndim),
        block=_counts(compute.block, ndim),
        batch=batch,
        memory_bytes=_worker_bytes(compute),
        threads=_threads(compute),
        refuse_above=config.output.refuse_above,
        display=config.output.display,
        fill_doubted=config.input.fill_doubted,
        seed=config.seed,
        notices=(*_region_notices(source), *_source_notices(spec)),
        config={k: settings[k] for k in ("input", "mask", "model", "patch", "seed")},
    )


def _region_notices(source: Source) -> tuple[str, ...]:
    part = box_of(source)
    if part is None:
        return ()
    taken, whole = (
        ", ".join(f"{axis} {ends}" for axis, ends in region_facts(box).items())
        for box in (part, Box.whole(whole_of(source).space.shape))
    )
    return (f"{source.paths[0]}: only {taken} of {whole} is restored and written (input.region)",)


def _source_notices(spec: SourceSpec) -> list[str]:
    """Return what was found on the way from the config to the files of an image, and which references have no mask."""
    bare = [
        f"reference {redacted(one.paths[0])}: it has no mask; all that it shows, clouds and artefacts too, counts as "
        "seen; `mask:` on its entry says what is hidden in it, `mask: []` that nothing is"
        for one in spec.references
        if not (one.mask or one.clear)
    ]
    return [*(note for one in (spec, *spec.references, *spec.auxiliary) for note in one.notices), *together(bare)]


def _threads(compute: ComputeConfig) -> int:
    """Return how many threads the survey has: as many as there are workers on this machine, or cores for them.

    Each needs its share of the memory of one worker.
    """
    if compute.executor == "serial":
        return 1
    wanted = compute.workers if compute.executor == "local" and isinstance(compute.workers, int) else _MOST_THREADS
    return min(wanted, _MOST_THREADS, cores(), max(1, _worker_bytes(compute) // _THREAD_BYTES))


def _worker_bytes(compute: ComputeConfig) -> int:
    """Return the memory that a worker may take: on this machine never more than there is."""
    elsewhere = compute.executor not in ("auto", "serial", "local")
    most = sys.maxsize if elsewhere else int(USABLE * memory_bytes())
    return min(compute.memory_per_worker, most)


def cluster_settings(config: RunConfig) -> dict[str, Any]:
    """Return what the config says of the jobs or the scheduler that its executor uses."""
    compute = config.compute
    section = {"slurm": compute.slurm, "jobqueue": compute.jobqueue}.get(compute.executor)
    # attributes, not a dump: what is kept out of records is needed here
    settings = {name: getattr(section, name) for name in type(section).model_fields} if section else {}
    return settings | {"scheduler": compute.scheduler} if compute.executor == "cluster" else settings


def _model(config: RunConfig) -> ModelChoice:
    given, device = config.model, config.compute.device
    choice = ModelChoice()
    if given is not None:
        choice = ModelChoice(kind=given.kind, weights=given.weights, options=dict(given.options))
    # looking for a GPU means importing torch, which takes seconds that a classical fill does not need
    return replace(choice, device="cpu" if choice.fill else _device(device))


def _source_ref(spec: SourceSpec, source: Source, staged: Path) -> SourceRef:
    """Return how to open the image of a spec anywhere; `source` is that image, or the part that is restored."""
    part = box_of(source)
    return SourceRef(
        kind=source.kind,
        paths=spec.paths,
        bands=tuple(spec.bands) if spec.bands else None,
        nodata=spec.nodata,
        staged=str(staged),
        resample=spec.resample,
        repeat=spec.repeats,
        region=(part.start, part.stop) if part else None,
    )


def _guide_ref(spec: SourceSpec, role: str, staged: Path, config: RunConfig | None = None) -> GuideRef:
    """Return how to open a reference or auxiliary with its own masks; mask paths come back absolute.

    Raises:
        ConfigError: it has no such band; names the key, and its line in `config`.
        SourceError: it cannot be read; says that it is a reference or auxiliary, as the image itself may be sound.
    """
    masks = tuple(entry.resolved(spec.resolve).model_dump(mode="json") for entry in spec.mask)
    label = spec.date or spec.name
    try:
        source = opened(spec, config, role)
    except SourceError as error:
        raise SourceError(f"{role} {error}, or leave it out") from error
    # NaN stands for `none` here
    if spec.nodata is not None and not math.isnan(spec.nodata):
        require_possible_nodata(spec.nodata, source, f"nodata of the {role}")
    return GuideRef(source=_source_ref(spec, source, staged), masks=masks, role=role, label=label, shift=spec.shift)


def _open_mask(spec: SourceSpec, fill_nodata: Any, source: Source) -> Mask:
    return open_masks(spec.mask, source, spec.resolve, fill_nodata)


def _mask_facts(spec: SourceSpec) -> list[dict[str, Any]]:
    """Hashes of the files that masks read: a mask that changed is another request."""
    facts = []
    for one in (spec, *spec.references, *spec.auxiliary):
        for entry in one.mask:
            files = _file_facts(entry.resolved(one.resolve).reads())
            facts.append({"entry": entry.model_dump(mode="json"), "files": files})
    return facts


def _file_facts(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Return the facts of files and what belongs to them; a copy is named by the address that it is a copy of."""

    def named(fact: dict[str, Any]) -> dict[str, Any]:
        files = {"files": [named(file) for file in fact["files"]]} if "files" in fact else {}
        return fact | files | {"path": fetched_from(fact["path"]) or fact["path"]}

    return [named(fact) for fact in input_facts(paths, files_of)]


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _counts(value: Any, ndim: int) -> tuple[int, ...] | None:
    if value == "auto":
        return None
    return tuple(value) * ndim if len(value) == 1 else tuple(value)
