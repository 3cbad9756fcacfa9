"""The record in the words of others, written beside it: a STAC Item for rasters, a Process Run Crate for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.names import CRATE, ITEM
from pipeline.geometry.space import Space
from pipeline.provenance.crate import crate
from pipeline.provenance.stac import item
from pipeline.system.facts import output_facts
from pipeline.system.files import write_json


def render(record: dict[str, Any], space: Space, folder: Path) -> None:
    """Write the renderings of a record into its folder and list them in its outputs, in the place of earlier ones.

    Args:
        record: with all its other outputs.
        space: grid of the image.
        folder: where the outputs lie.

    Raises:
        OSError: the folder cannot be written.
    """
    record["outputs"] = [output for output in record["outputs"] if output["role"] not in ("stac", "crate")]

    def add(role: str, name: str, content: dict[str, Any]) -> None:
        write_json(folder / name, content)
        record["outputs"].append(output_facts(role, folder / name, folder))

    if (stac := item(record, space)) is not None:
        add("stac", ITEM, stac)
    # last, for it lists all others
    add("crate", CRATE, crate(record))
