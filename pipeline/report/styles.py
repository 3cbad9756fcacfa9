"""How layers look in QGIS: a style file (`.qml`) beside each raster, which QGIS takes by itself.

Only what decides about colours is written; QGIS fills in the rest. Format: `rasterrenderer` of QGIS 3
(https://docs.qgis.org/latest/en/docs/user_manual/appendices/qgis_file_formats.html).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from pipeline.plan.layers import known_codes
from pipeline.plan.plan import Plan
from pipeline.report.drawing import DOUBT_COLOUR, HAZE_COLOUR, RAMP
from pipeline.restore.codes import NEVER_TOUCHED, OBSERVED, source_colour, source_name
from pipeline.system.facts import file_facts
from pipeline.system.files import write_text
from pipeline.system.words import number

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_RGB = ("red", "green", "blue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shades:
    """How the restored image and its uncertainty are shown.

    Attributes:
        bands: of the restored image as red, green and blue, or one as grey; counted from 1.
        ranges: values of each that are shown darkest and brightest, physical units.
        sigma_band: of the uncertainty.
        sigma_top: uncertainty that is shown brightest, physical units.
    """

    bands: Sequence[int]
    ranges: Sequence[tuple[float, float]]
    sigma_band: int
    sigma_top: float


def write_styles(plan: Plan, record: Mapping[str, Any], folder: Path, shades: Shades | None) -> list[Path]:
    """Write a style beside each GeoTIFF of a record and return the files; with `shades` None only of the codes.

    One that the user has changed since stays.
    """
    roles = [guide.role for guide in plan.guides]
    names = [(code, source_name(code, roles), source_colour(code)) for code in known_codes(plan)]
    renderers = {
        "source": _classes([(*entry, 0 if entry[0] in (OBSERVED, NEVER_TOUCHED) else 255) for entry in names]),
        "doubt": _classes(
            [
                (0, "not doubted", (0, 0, 0), 0),
                (1, "observed, but not used", DOUBT_COLOUR, 255),
                (2, "observed, used without the haze or shadow over it", HAZE_COLOUR, 255),
            ]
        ),
    }
    if shades is not None:
        renderers |= {"restored": _bands(shades), "display": _bands(shades), "uncertainty": _heat(shades)}
    known = {output["path"]: output["sha256"] for output in record["outputs"] if output["role"] == "style"}
    written = []
    for output in record["outputs"]:
        path = (folder / output["path"]).with_suffix(".qml")
        if output["role"] not in renderers or not output["path"].endswith(".tif"):
            continue
        # one that is not as it was written is the user's
        if not path.exists() or file_facts(path)["sha256"] == known.get(path.name):
            write_text(path, _document(renderers[output["role"]]))
            written.append(path)
    return written


def _document(renderer: ET.Element) -> str:
    root = ET.Element("qgis", version="3.28", styleCategories="Symbology")
    ET.SubElement(root, "pipe").append(renderer)
    ET.SubElement(root, "blendMode").text = "0"
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def _renderer(kind: str, **more: str) -> ET.Element:
    return ET.Element("rasterrenderer", {"type": kind, "opacity": "1", "alphaBand": "-1", **more})


def _classes(classes: Sequence[tuple[int, str, Sequence[int], int]]) -> ET.Element:
    """Return what shows codes: value, name, colour, and opacity of 0 to 255 of each."""
    renderer = _renderer("paletted", band="1")
    palette = ET.SubElement(renderer, "colorPalette")
    for code, name, colour, alpha in classes:
        ET.SubElement(
            palette, "paletteEntry", value=str(code), label=name.replace("_", " "), color=_hex(colour), alpha=str(alpha)
        )
    return renderer


def _bands(shades: Shades) -> ET.Element:
    if len(shades.bands) == len(_RGB):
        bands = {f"{name}Band": str(band) for name, band in zip(_RGB, shades.bands, strict=True)}
        renderer = _renderer("multibandcolor", **bands)
        names = [f"{name}ContrastEnhancement" for name in _RGB]
    else:
        renderer = _renderer("singlebandgray", grayBand=str(shades.bands[0]), gradient="BlackToWhite")
        names = ["contrastEnhancement"]
    for name, (low, high) in zip(names, shades.ranges, strict=True):
        stretch = ET.SubElement(renderer, name)
        ET.SubElement(stretch, "minValue").text = f"{low:.9g}"
        ET.SubElement(stretch, "maxValue").text = f"{high:.9g}"
        ET.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"
    return renderer


def _heat(shades: Shades) -> ET.Element:
    top = f"{shades.sigma_top:.9g}"
    renderer = _renderer(
        "singlebandpseudocolor", band=str(shades.sigma_band), classificationMin="0", classificationMax=top
    )
    shader = ET.SubElement(
        ET.SubElement(renderer, "rastershader"),
        "colorrampshader",
        {"colorRampType": "INTERPOLATED", "minimumValue": "0", "maximumValue": top, "clip": "0"},
    )
    # 0 was observed: nothing to see
    ET.SubElement(shader, "item", value="0", label="observed", color=_hex(RAMP[0]), alpha="0")
    for k, colour in enumerate(RAMP):
        share = k / (len(RAMP) - 1)
        value, said = max(share, 1e-6) * shades.sigma_top, share * shades.sigma_top
        ET.SubElement(shader, "item", value=f"{value:.9g}", label=number(said), color=_hex(colour), alpha="255")
    return renderer


def _hex(colour: Sequence[float]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(c) for c in colour))
