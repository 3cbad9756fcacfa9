"""A paragraph for the methods section of a paper: what this run did, with which versions, and what to cite for it.

Every sentence follows from the record. The works are those of CITATION.cff (https://citation-file-format.github.io).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.report.words import channel_of, unit_of
from pipeline.system.words import counted, in_percent

_FILE = "CITATION.cff"
_FILLS = {
    "tension": ("splines in tension", ("10.1190/1.1442837",)),
    "harmonic": ("harmonic interpolation (a spline in tension without stiffness)", ("10.1190/1.1442837",)),
    "kriging": ("ordinary kriging with the image's own covariance", ("10.1002/9781119115151",)),
    "exemplar": ("copies of look-alike patches", ("10.1145/1531326.1531330", "10.1109/TIP.2004.833105")),
    "through": ("interpolation between the nearest slices", ()),
    "nearest": ("the nearest observed value", ()),
}
_BLENDING = "10.1145/3233304"
_CONFORMAL = "10.48550/arXiv.1905.03222"
_SOFTWARE = {
    "numpy": "10.1038/s41586-020-2649-2",
    "scipy": "10.1038/s41592-019-0686-2",
    "rasterio": "10.5281/zenodo.5884351",
    "nibabel": "10.5281/zenodo.591597",
    "pyamg": "10.21105/joss.05495",
    "torch": "10.48550/arXiv.1912.01703",
    "monai": "10.48550/arXiv.2211.02701",
}
_NAMES = {"numpy": "NumPy", "scipy": "SciPy", "rasterio": "rasterio (GDAL)", "nibabel": "NiBabel", "pyamg": "PyAMG",
          "torch": "PyTorch", "monai": "MONAI"}  # fmt: skip
_SHOWN = 12
"""Digits of a hash that name weights well enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """The paragraph, the works that it cites in the order in which they appear, and the same as BibTeX."""

    text: str
    works: tuple[str, ...]
    bibtex: str


def methods(record: Mapping[str, Any]) -> Methods:
    """Return the methods paragraph of a run, from its record."""
    cited: list[str] = []

    def cite(*dois: str) -> str:
        cited.extend(doi for doi in dois if doi not in cited)
        return " [" + ", ".join(str(cited.index(doi) + 1) for doi in dois) + "]" if dois else ""

    cite("")
    sentences = [
        _what(record),
        *(_fills(record, cite) + _guides(record) + _network(record, cite) if record["holes"]["pixels"] else []),
        *_test(record, cite),
        *_display(record, cite),
        _software(record, cite),
    ]
    works = [_work(doi, record) for doi in cited]
    return Methods(
        text=" ".join(sentences),
        works=tuple(_reference(work) for work in works),
        bibtex="\n\n".join(_bibtex(work) for work in works),
    )


def _what(record: Mapping[str, Any]) -> str:
    holes, space, version = record["holes"], record["space"], record["software"]["inpaint-pipeline"]
    region = space.get("region")
    ranges = ", ".join(f"{axis} {first} to {stop - 1}" for axis, (first, stop) in region.items()) if region else ""
    part = f"a part ({ranges}) of " if ranges else ""
    return (
        f"Of {part}the image {record['stem']} ({' x '.join(map(str, space['shape']))} {unit_of(record)}s, "
        f"{counted(space['channels'], channel_of(record))}), {holes['pixels']:,} {unit_of(record)}s "
        f"({100 * holes['fraction']:.2f} %) were restored with inpaint-pipeline {version} [1]; observed "
        f"{unit_of(record)}s were not changed."
    )


def _fills(record: Mapping[str, Any], cite: Any) -> list[str]:
    recipe = record["recipe"]
    by_label: dict[str, list[str]] = {}
    for key, name in (("fill", "wide holes"), ("thin_fill", "thin holes"), ("border_fill", "holes at the image edge")):
        by_label.setdefault(recipe[key], []).append(name)
    parts = []
    for label, families in by_label.items():
        words, dois = _FILLS.get(re.split(r"\W", label, maxsplit=1)[0], (f"the fill {label}", ()))
        where = "" if len(by_label) == 1 else f" in {' and '.join(families)}"
        parts.append(f"{words} ({label}){cite(*dois)}{where}")
    return [f"Holes were first filled by {', '.join(parts)}."]


def _guides(record: Mapping[str, Any]) -> list[str]:
    guides, by_source = record["references"], record["holes"]["by_source"]
    own = by_source.get("other channels", 0)
    if not guides and not own:
        return []
    leads = {
        f"{guide['role']} {k} ({guide['label']})": by_source.get(f"{guide['role']} {k}", 0)
        for k, guide in enumerate(guides)
    } | {
        "relations of several of them": by_source.get("several guides", 0),
        f"other {channel_of(record)}s of the image": own,
    }
    shares = [f"{name} in {_share(record, count)}" for name, count in leads.items() if count]
    given = [f"{len(guides)} co-registered image{'' if len(guides) == 1 else 's'} of the same place"] if guides else []
    given += [f"the image's other {channel_of(record)}s, where these were observed,"] if own else []
    what = f"they led: {', '.join(shares)} of the restored {unit_of(record)}s" if shares else "they led nowhere"
    said = " and ".join(given)
    return [
        f"{said[0].upper()}{said[1:]} could contribute by local regressions, each as far as hidden {unit_of(record)}s "
        f"showed that it helps; {what}."
    ]


def _share(record: Mapping[str, Any], count: int) -> str:
    """Return a number of restored pixels as a share of all."""
    return in_percent(count / max(1, sum(record["holes"]["by_source"].values())))


def _network(record: Mapping[str, Any], cite: Any) -> list[str]:
    model = record["model"]
    if not model:
        return []
    weights = f"weights {model['weights'] or model['name']}, sha256 {str(model['sha256'])[:_SHOWN]}"
    if not model["used"]:
        return [f"A convolutional autoencoder ({model['name']}, {weights}) was tested and not used."]
    software = cite(_SOFTWARE["torch"], _SOFTWARE["monai"])
    most, led = in_percent(record["recipe"]["network_weight"]), record["holes"]["by_source"].get("network", 0)
    return [
        f"A convolutional autoencoder ({model['name']}, {weights}){software} could contribute, with a weight of up to "
        f"{most}; it led in {_share(record, led) if led else 'none'} of the restored {unit_of(record)}s."
    ]


def _test(record: Mapping[str, Any], cite: Any) -> list[str]:
    test = record["self_test"]
    if not test or not test["hidden_pixels"]:
        return []
    held = test["coverage_90"]
    said = "" if held is None else f"; on windows left out of it, the 90 % interval held {100 * held:.1f} % of them"
    stored = "" if test["calibration"] == "fitted" else ", too few here, so that stored factors were used"
    if not stored and not record["recipe"]["calibration"]["referenced"]["pixels"]:
        stored = " (stored factors where another date leads, as most of the image is hidden)"
    return [
        f"Methods and their weights were chosen on {test['hidden_pixels']:,} observed values of the same image, hidden "
        f"in {test['placements']} windows in the shape of its own holes. Standard errors were scaled so that "
        f"1.645 of them hold 90 % of the errors of hidden values{stored}{cite(_CONFORMAL)}{said}."
    ]


def _display(record: Mapping[str, Any], cite: Any) -> list[str]:
    # a record of an older version has no such field
    if not record.get("display"):
        return []
    return [
        "In a second file, for looking at only and not used for any measurement, the holes were given detail of "
        f"observed patches of the same image, blended so that its variance is kept{cite(_BLENDING)}."
    ]


def _software(record: Mapping[str, Any], cite: Any) -> str:
    versions = record["software"]
    volume, used = record["space"]["kind"] == "volume", bool(record["model"] and record["model"]["used"])
    wanted = [
        "numpy",
        "scipy",
        *(["nibabel", "pyamg"] if volume else ["rasterio"]),
        *(["torch", "monai"] if used else []),
    ]
    parts = [f"{_NAMES[name]} {versions[name]}{cite(_SOFTWARE[name])}" for name in wanted if name in versions]
    return f"Software: Python {versions['python']}, {', '.join(parts)}."


@cache
def _citation() -> dict[str, Any]:
    """Return CITATION.cff: beside the package in a checkout, in it where it was installed."""
    package = Path(__file__).parents[1]
    path = next(p for p in (package / _FILE, package.parent / _FILE) if p.exists())
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return found


def _work(doi: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a work of CITATION.cff; the one without a DOI is the program itself, in the version of the run."""
    if not doi:
        return {**_citation(), "version": record["software"]["inpaint-pipeline"]}
    return next(work for work in _citation()["references"] if work["doi"] == doi)


def _people(work: Mapping[str, Any]) -> list[str]:
    return [
        f"{a['family-names']}, {a['given-names']}" if "family-names" in a else str(a["name"]) for a in work["authors"]
    ]


def _reference(work: Mapping[str, Any]) -> str:
    """Return a work as a line of a list of references."""
    people = "; ".join("et al." if name == "others" else name for name in _people(work))
    lead = f"{people} ({work['year']})." if "year" in work else people.rstrip(".") + "."
    version = f", version {work['version']}" if "version" in work else ""
    where = work.get("journal") or work.get("collection-title")
    place = f" {where}" + (f" {work['volume']}" if "volume" in work else "") if where else ""
    doi = f" https://doi.org/{work['doi']}" if "doi" in work else ""
    return f"{lead} {work['title']}{version}.{place}{doi}"


def _bibtex(work: Mapping[str, Any]) -> str:
    kinds = {"article": "article", "book": "book", "conference-paper": "inproceedings"}
    people: Sequence[str] = [name if "," in name or name == "others" else f"{{{name}}}" for name in _people(work)]
    fields = {
        "author": " and ".join(people),
        "title": f"{{{work['title']}}}",
        "year": work.get("year"),
        "journal": work.get("journal"),
        "booktitle": work.get("collection-title"),
        "volume": work.get("volume"),
        "number": work.get("issue"),
        "pages": "--".join(work[key] for key in ("start", "end") if key in work) or None,
        "version": work.get("version"),
        "doi": work.get("doi"),
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value is not None]
    return f"@{kinds.get(work['type'], 'misc')}{{{_key(work)},\n" + ",\n".join(lines) + "\n}"


def _key(work: Mapping[str, Any]) -> str:
    name = _people(work)[0].split(",")[0] if "year" in work else str(work["title"]).split(":")[0]
    return re.sub(r"\W", "", name.lower().replace("é", "e")) + str(work.get("year", ""))
