"""The record as a Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5), a profile of RO-Crate 1.1.

The folder of results becomes a package that says of itself what was made from what, by which software, when. Terms map
to W3C PROV one to one: `object` is what was used, `result` what was generated, `instrument` the software agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.names import CRATE, RECORD

_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_SPEC = "https://w3id.org/ro/crate/1.1"
_CONTEXTS = [f"{_SPEC}/context", "https://w3id.org/ro/terms/workflow-run/context"]
_PROGRAM, _ACTION = "#inpaint-pipeline", "#restoration"
_MEDIA = {
    "tif": "image/tiff",
    "gz": "application/gzip",
    "nii": "application/x-nifti",
    "html": "text/html",
    "json": "application/json",
    "webp": "image/webp",
    "qml": "application/xml",
    "xml": "application/xml",
}


def crate(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata file of the crate, with the outputs that the record has so far."""
    masks = [file for mask in record["masks"] for file in mask["files"]]
    inputs = [_input(file["path"], file.get("sha256")) for file in (*record["inputs"], *masks)]
    outputs = [_output(entry, record) for entry in record["outputs"]]
    parts = [*outputs, {"@id": RECORD, "@type": "File", "encodingFormat": _MEDIA["json"]}]
    return {
        "@context": _CONTEXTS,
        "@graph": [
            {
                "@id": CRATE,
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": _SPEC},
            },
            _root(record, parts),
            {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
            *_unique([_program(record), *_libraries(record), _action(record, inputs, outputs), *inputs, *parts]),
        ],
    }


def _root(record: Mapping[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{record['stem']}, restored",
        "description": record["disclaimer"],
        "datePublished": record["created"],
        "conformsTo": {"@id": _PROFILE},
        "hasPart": [{"@id": part["@id"]} for part in parts],
        "mentions": {"@id": _ACTION},
    }
    return root | ({"license": record["license"]} if record["license"] else {})


def _program(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@id": _PROGRAM,
        "@type": "SoftwareApplication",
        "name": "inpaint-pipeline",
        "softwareVersion": record["software"]["inpaint-pipeline"],
        "softwareRequirements": [{"@id": library["@id"]} for library in _libraries(record)],
    }


def _libraries(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"@id": f"#{name}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in record["software"].items()
        if name != "inpaint-pipeline"
    ]


def _action(record: Mapping[str, Any], inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "@id": _ACTION,
        "@type": "CreateAction",
        "name": f"restoration of {record['stem']}",
        "instrument": {"@id": _PROGRAM},
        "object": [{"@id": entry["@id"]} for entry in inputs],
        "result": [{"@id": entry["@id"]} for entry in outputs],
        "endTime": record["created"],
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }


def _input(path: str, sha256: str | None) -> dict[str, Any]:
    # an input lies outside of the folder: it is named, not part of the package
    remote = "://" in path
    address = path if remote else f"#{path}"
    entry = {"@id": address, "@type": "File" if remote else "CreativeWork", "name": path.rsplit("/", 1)[-1]}
    return entry | ({"sha256": sha256} if sha256 else {})


def _output(entry: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    path, suffix = entry["path"], entry["path"].rpartition(".")[2]
    described = {"description": record["display"]["purpose"]} if entry["role"] == "display" else {}
    if suffix == "zarr":
        return {"@id": f"{path}/", "@type": "Dataset", "name": entry["role"], **described}
    media = {"encodingFormat": _MEDIA[suffix]} if suffix in _MEDIA else {}
    facts = {"name": entry["role"], "contentSize": str(entry["bytes"]), "sha256": entry["sha256"]}
    return {"@id": path, "@type": "File", **facts, **described, **media}


def _unique(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each entity once: a file may be image and mask."""
    return list({entry["@id"]: entry for entry in reversed(entries)}.values())[::-1]
