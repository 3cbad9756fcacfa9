"""The record as BIDS derivatives: the sidecars of the files and the description of their data set (BIDS 1.11)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.config.bids import PROGRAM, Derivation
from pipeline.config.names import RECORD, REPORT, SUMMARY
from pipeline.orders import Order
from pipeline.restore.codes import names_of

BIDS_VERSION = "1.11.1"
_OF_ITS_MAKING = {"Description", "GeneratedBy", "RawSources", "SourceDatasets", "Sources", "Inpainting"}
"""Metadata of the input that say how that was made; all others (timing, scanner, task) stay true of the result."""
_WITHOUT_SUFFIX = ("uncertainty", "source", "doubt")
"""Layers for which BIDS has no suffix."""


def sidecars(
    order: Order, record: Mapping[str, Any], expected_error: float | None, mean_restored: float | None
) -> dict[str, dict[str, Any]]:
    """Return the content of the sidecar of each layer, by role.

    Args:
        order: the image, with its place in the data set.
        record: its record.
        expected_error: root mean square of the standard errors of restored voxels, in physical units.
        mean_restored: mean of the restored values, in physical units.
    """
    place = _place(order)
    sources, _ = place.sources()
    image = sources[0]
    # of the grid nothing was changed
    shared = {"Sources": sources, "SpatialReference": place.metadata.get("SpatialReference", image)}
    kept = {key: value for key, value in place.metadata.items() if key not in _OF_ITS_MAKING}
    units = {"Units": place.metadata["Units"]} if "Units" in place.metadata else {}
    restored = {
        **kept,
        "Description": _said(record),
        **shared,
        # a raw image is as the scanner gave it, if nobody says otherwise
        "SkullStripped": place.metadata.get("SkullStripped", False),
        "Inpainting": _facts(order, record, expected_error, mean_restored),
    }
    return {
        "restored": restored,
        "mask": {"Description": "1 where a voxel was restored, 0 where its value is that of the source image"}
        | shared
        | {"Type": "ROI"},
        "uncertainty": {
            "Description": "One standard error of each restored voxel in the units of the image, calibrated on hidden "
            "observed voxels: about 90 % of the true values lie within 1.645 times it. 0 where observed, NaN where "
            "never touched",
            **units,
            **shared,
        },
        "source": {
            "Description": "Where each value came from",
            "Levels": {str(code): name for code, name in names_of([r["role"] for r in record["references"]]).items()},
            **shared,
        },
        "doubt": {
            "Description": "1 where an observed voxel is kept as it is, but was not used as it looks disturbed",
            **shared,
        },
    }


def _place(order: Order) -> Derivation:
    if order.bids is None:
        raise ValueError(f"{order.stem} has no place in a data set")
    return order.bids


def _said(record: Mapping[str, Any]) -> str:
    holes = record["holes"]
    return (
        f"{holes['filled']:,} voxels ({100 * holes['fraction']:.3g} %) are estimates of {PROGRAM} {__version__}"
        f"; all others are those of the source image, bit for bit. {record['disclaimer']}"
    )


def _facts(
    order: Order, record: Mapping[str, Any], expected_error: float | None, mean_restored: float | None
) -> dict[str, Any]:
    place, holes = _place(order), record["holes"]
    roles = {output["role"] for output in record["outputs"]} & set(_WITHOUT_SUFFIX)
    beside = {role.capitalize(): place.own_uri(place.folder / place.name(role)) for role in ("mask", *sorted(roles))}
    test = record["self_test"] or {}
    return {
        "Account": holes["account"],
        "FilledVoxels": holes["filled"],
        "LeftVoxels": sum(holes["left"].values()),
        "FilledFraction": holes["fraction"],
        "BySource": holes["by_source"],
        "ExpectedError": expected_error,
        "MeanRestored": mean_restored,
        "Coverage90": test.get("coverage_90"),
        "Model": (record["model"] or {}).get("name", "classical"),
        "Request": record["request"],
        **beside,
        "Record": place.own_uri(order.folder / RECORD),
        "Report": place.own_uri(order.folder / REPORT),
    }


def dataset_description(order: Order) -> dict[str, Any]:
    """Return the content of `dataset_description.json` of the data set that the image goes to."""
    place = _place(order)
    raw = place.image.dataset
    _, links = place.sources()
    doi = raw.description.get("DatasetDOI")
    source = {"URL": os.path.relpath(raw.root, place.target), **({"DOI": doi} if doi else {})}
    return {
        "Name": f"{raw.description.get('Name') or raw.root.name}, restored",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": PROGRAM, "Version": __version__}],
        "SourceDatasets": [source],
        "DatasetLinks": links,
    }


def ignored(order: Order) -> list[str]:
    """Return the lines of `.bidsignore`: layers without a suffix in BIDS, and results that lie within the data set."""
    place = _place(order)
    lines = [f"*_{role}.*" for role in _WITHOUT_SUFFIX]
    results = order.folder.parent
    if results == place.target:
        return [*lines, order.stem, SUMMARY]
    if results.is_relative_to(place.target):
        # without a slash at its end: with one the validator takes the files, but not the folder itself
        lines.append(Path(results.relative_to(place.target)).parts[0])
    return lines
