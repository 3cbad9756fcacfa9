"""Build the record of a restored image from plan, survey and journal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pipeline import __version__
from pipeline.blocks.journal import Totals
from pipeline.config.names import RECORD
from pipeline.config.region import region_facts
from pipeline.geometry.box import Box
from pipeline.models.base import reduced_notice
from pipeline.orders import Order
from pipeline.plan.plan import Plan
from pipeline.provenance.account import account
from pipeline.provenance.published import published_record
from pipeline.references.joint import guides_of
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED, source_name
from pipeline.system.facts import hardware, peak_rss_bytes, software

RECORD_VERSION = 1
DISCLAIMER = (
    "Restored pixels are estimates for analysis, not observations. This software is not a medical device and its "
    "results must not be used for diagnosis."
)


def tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the short provenance tags written into rasters (default domain); the record is the truth."""
    model = record.get("model") or {}
    return {
        "PROCESSING_SOFTWARE": "inpaint-pipeline",
        "PROCESSING_VERSION": __version__,
        "INPAINT_MODEL": str(model.get("name", "classical")),
        "INPAINT_MODEL_SHA256": str(model.get("sha256", "")),
        "INPAINT_CONFIG_SHA256": str(record.get("config_sha256", "")),
        "INPAINT_SOURCE_SHA256": str(record["inputs"][0]["sha256"] or ""),
        "INPAINT_FILLED_FRACTION": f"{record['holes']['fraction']:.6f}",
        "INPAINT_RECORD": RECORD,
    }


def build_record(order: Order, plan: Plan, facts: Mapping[str, Any], totals: Totals) -> dict[str, Any]:
    """Return the record, its paths as `output.paths` says; outputs and the seconds of the last stages come later.

    Args:
        order: the image.
        plan: its plan.
        facts: of the survey.
        totals: what its blocks say together.
    """
    seconds, gpu_full = dict(facts["seconds"]), _gpu_full(totals)
    for stage in ("read", "compute", "write"):
        seconds[f"blocks_{stage}"] = totals.seconds.get(stage, 0.0)
    record = {
        "record_version": RECORD_VERSION,
        "created": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "stem": order.stem,
        "disclaimer": DISCLAIMER,
        "request": order.request,
        "plan": {"key": plan.key, "digest": plan.digest, "block": plan.block, "blocks": len(plan.blocks)},
        "inputs": list(order.inputs),
        "masks": list(order.masks),
        "license": order.license,
        "date": order.date,
        "space": _space(plan) | {"bands": order.bands},
        "holes": _holes(plan, facts, totals),
        "doubt": facts.get("doubt"),
        # what errors are told relative to: from the 1st to the 99th percentile of the observed values of each channel
        "self_test": facts["self_test"]
        and facts["self_test"] | {"value_range": plan.spread, "computed_by": facts.get("windows_by")},
        "recipe": _recipe(plan),
        "patches": {
            "total": math.prod(plan.lattice.counts),
            "touching_holes": facts["patches_touching_holes"],
            "forwards": totals.patches,
        },
        "seconds": seconds,
        "peak_rss_bytes": max(peak_rss_bytes(), totals.peak_rss_bytes),
        "software": software(),
        "hardware": hardware() | {"precision": sorted(set(plan.recipe.network_precision))},
        "model": _model(plan, facts, gpu_full),
        "references": [{"role": g.role, "label": g.label, "paths": g.source.paths} for g in plan.guides],
        "config": order.config,
        "config_sha256": order.config_sha256,
        "notices": [*facts["notices"], *([reduced_notice(gpu_full["channels_a_pass"])] if gpu_full else [])],
        # what is known of the display product once it is there
        "display": None,
        "outputs": [],
    }
    return published_record(record, order)


def _space(plan: Plan) -> dict[str, Any]:
    return {
        "kind": plan.space.kind,
        "shape": plan.space.shape,
        "spacing": plan.space.spacing,
        "units": plan.space.units,
        "channels": len(plan.channels),
        "dtype": plan.dtype,
        "region": region_facts(Box(*plan.source.region)) if plan.source.region else None,
    }


def _holes(plan: Plan, facts: Mapping[str, Any], totals: Totals) -> dict[str, Any]:
    by_source: dict[str, int] = {}
    for code, count in totals.by_source.items():
        if code not in (OBSERVED, NEVER_TOUCHED):
            name = source_name(code, [guide.role for guide in plan.guides])
            by_source[name] = by_source.get(name, 0) + count
    holes = facts["states"]["holes"]
    total = math.prod(plan.space.shape) * plan.n_state
    return {
        "pixels": holes,
        "fraction": holes / total if total else 0.0,
        "planes": plan.n_state,
        "never_touched": facts["states"]["never"],
        "doubted": plan.doubted,
        "hazy": plan.hazy,
        "by_source": dict(sorted(by_source.items())),
        **account(plan, facts["states"], by_source),
    }


def _recipe(plan: Plan) -> dict[str, Any]:
    recipe = plan.recipe
    thin, deep, border = (spec.label for spec in recipe.fills)
    return {
        "fill": deep,
        "thin_fill": thin,
        "border_fill": border,
        "reference_weights": recipe.reference_weights,
        "network_weight": recipe.network_weight,
        "network": asdict(recipe.network),
        "network_referenced": asdict(recipe.network_referenced) if recipe.network_referenced else None,
        "network_limit": recipe.network_limit,
        "network_views": recipe.network_views,
        "network_precision": recipe.network_precision,
        "references": [
            {"guides": guides, **asdict(reliance)}
            for guides, reliance in zip(guides_of(recipe.relations), recipe.references, strict=True)
        ],
        "error_power": recipe.error_power,
        "calibration": {"single": asdict(recipe.single), "referenced": asdict(recipe.referenced)},
        "coarse_cell_px": plan.guess_factor,
    }


def _model(plan: Plan, facts: Mapping[str, Any], gpu_full: dict[str, int] | None) -> dict[str, Any] | None:
    if plan.model is None:
        return None
    return {
        "name": facts.get("model_name") or plan.model.kind,
        "kind": plan.model.kind,
        "weights": plan.model.weights.rsplit("/", 1)[-1] if plan.model.weights else None,
        "sha256": plan.model.sha256,
        "used": plan.recipe.network_weight > 0,
        "device": plan.model.device,
        "gpu_full": gpu_full,
    }


def _gpu_full(totals: Totals) -> dict[str, int] | None:
    """Return for how many blocks the network took fewer channels a pass because the GPU was full, and how few."""
    if not totals.reduced:
        return None
    return {"blocks": sum(totals.reduced.values()), "channels_a_pass": min(totals.reduced)}
