"""From config and catalog to orders: one per image, with absolute paths, defaults filled in and a request hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config.catalog import SourceSpec, verify_sha256
from pipeline.config.schema import RunConfig, config_hash, resolved
from pipeline.errors import ConfigError
from pipeline.formats import open_any
from pipeline.formats.base import Source
from pipeline.image.open import open_source
from pipeline.masks.base import Mask, open_masks
from pipeline.models._choice import weights_of
from pipeline.plan.job import Job
from pipeline.plan.refs import GuideRef, SourceRef
from pipeline.registry import kinds
from pipeline.system.facts import input_facts

_BATCH = {"cpu": 1, "cuda": 8}
"""Patches a forward pass when the config says `auto`; on a CPU larger batches only cost memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image of a run.

    Attributes:
        stem: input file name without suffixes.
        folder: where the results go.
        workdir: where the run works; stays (small) for `verify`.
        job: what the survey needs.
        formats: `same`, `zarr` or both.
        request: hash of config and input bytes; a folder belongs to one request.
        config_sha256: hash of what in the config can change a value.
        inputs: facts of the input files for the record.
        masks: mask entries with facts of their files, for the record.
        config: resolved config.
        executor: as asked for.
        workers: as asked for.
        license: of the input, if known.
    """

    stem: str
    folder: Path
    workdir: Path
    job: Job
    formats: tuple[str, ...]
    request: str
    config_sha256: str
    inputs: tuple[dict[str, Any], ...]
    masks: tuple[dict[str, Any], ...]
    config: dict[str, Any]
    executor: str
    workers: int | str
    license: str = ""

    def n_file_channels(self) -> int:
        """Channels of the input file."""
        return open_source(self.job.source).n_channels


def orders(config: RunConfig, specs: Sequence[SourceSpec]) -> Iterator[Order]:
    """Yield one order per image; an image with a problem raises when its turn comes."""
    for spec in specs:
        yield order_of(config, spec)


def order_of(config: RunConfig, spec: SourceSpec) -> Order:
    """Translate config and catalog into the order for one image.

    Raises:
        SourceError: a file is missing, unreadable or has another hash than the catalog says.
        ConfigError: nothing says where the holes are.
    """
    for one in (spec, *spec.references, *spec.auxiliary):
        for path, expected in one.sha256.items():
            verify_sha256(path, expected)
    if not spec.mask and config.input.fill_nodata == "never":
        raise ConfigError(
            f"{spec.paths[0]}: nothing says which pixels to restore; add a `mask:` entry (`config new FILE` writes a "
            "commented start) or set input.fill_nodata"
        )
    folder = config.output.directory / spec.stem
    workdir = (config.compute.scratch / spec.stem if config.compute.scratch else folder) / ".work"
    job = _job(config, spec, workdir)
    inputs = input_facts([path for ref in (job.source, *(g.source for g in job.guides)) for path in ref.paths])
    masks = _mask_facts(spec)
    weights = weights_of(job.model_kind, job.model_weights, _opened(job.source))
    contents = {
        "inputs": [fact["sha256"] for fact in inputs],
        "masks": masks,
        "weights": input_facts([str(weights)])[0]["sha256"] if weights else None,
    }
    facts = {"config": config_hash(config), "formats": config.output.format, **contents}
    return Order(
        stem=spec.stem,
        folder=folder,
        workdir=workdir,
        job=replace(job, config=job.config | contents),
        formats=config.output.format,
        request=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        config_sha256=config_hash(config),
        inputs=tuple(inputs),
        masks=tuple(masks),
        config=resolved(config),
        executor=config.compute.executor,
        workers=config.compute.workers,
        license=spec.license,
    )


def _job(config: RunConfig, spec: SourceSpec, workdir: Path) -> Job:
    source = source_ref(spec, workdir / "staged")
    guides = tuple(
        guide_ref(g, role, workdir / "staged")
        for role, found in (("reference", spec.references), ("auxiliary", spec.auxiliary))
        for g in found
    )
    ndim = _opened(source).space.ndim
    model, compute, settings = config.model, config.compute, resolved(config)
    classical = model is not None and model.kind in kinds("fills") and model.kind not in kinds("models")
    # looking for a GPU means importing torch, which takes seconds that a classical fill does not need
    device = "cpu" if classical else _device(compute.device)
    batch = compute.batch_size if isinstance(compute.batch_size, int) else _BATCH[device]
    return Job(
        workdir=workdir,
        source=source,
        open_mask=partial(_open_mask, spec, config.input.fill_nodata),
        guides=guides,
        model_kind=model.kind if model else None,
        model_weights=model.weights if model else "auto",
        model_options=dict(model.options) if model else {},
        device=device,
        patch=_counts(config.patch.size, ndim),
        overlap=_counts(config.patch.overlap, ndim),
        block=_counts(compute.block, ndim),
        batch=batch,
        memory_bytes=compute.memory_per_worker,
        refuse_above=config.output.refuse_above,
        seed=config.seed,
        config={k: settings[k] for k in ("input", "mask", "model", "patch", "seed")},
    )


def _opened(source: SourceRef) -> Source:
    return open_any(source.paths, kind=source.kind, bands=source.bands, nodata=source.nodata)


def source_ref(spec: SourceSpec, staged: Path) -> SourceRef:
    """Return how to open the image of a spec anywhere."""
    source = open_any(spec.paths, kind=spec.kind, bands=spec.bands, nodata=spec.nodata)
    return SourceRef(
        kind=source.kind,
        paths=spec.paths,
        bands=tuple(spec.bands) if spec.bands else None,
        nodata=spec.nodata,
        staged=str(staged),
        resample=spec.resample,
    )


def guide_ref(spec: SourceSpec, role: str, staged: Path) -> GuideRef:
    """Return how to open a reference or auxiliary with its own masks; mask paths come back absolute."""
    masks = []
    for entry in spec.mask:
        facts = entry.model_dump(mode="json")
        if isinstance(facts.get("path"), str):
            facts["path"] = spec.resolve(facts["path"])
        masks.append(facts)
    label = spec.date or spec.name
    return GuideRef(source=source_ref(spec, staged), masks=tuple(masks), role=role, label=label)


def _open_mask(spec: SourceSpec, fill_nodata: Any, source: Source) -> Mask:
    return open_masks(spec.mask, source, spec.resolve, fill_nodata)


def _mask_facts(spec: SourceSpec) -> list[dict[str, Any]]:
    """Hashes of the mask files: a mask that changed is another request."""
    facts = []
    for one in (spec, *spec.references, *spec.auxiliary):
        for entry in one.mask:
            path = getattr(entry, "path", None)
            facts.append(
                {
                    "entry": entry.model_dump(mode="json"),
                    "files": input_facts([one.resolve(path)]) if path else [],
                }
            )
    return facts


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _counts(value: Any, ndim: int) -> tuple[int, ...] | None:
    if value == "auto":
        return None
    return tuple(value) * ndim if len(value) == 1 else tuple(value)
