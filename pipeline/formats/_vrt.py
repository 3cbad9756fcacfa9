"""What a VRT (a small XML file that GDAL reads as a raster) refers to, and which kinds of it are let in.

A VRT may present any file as pixels, reach any URL and carry program code. GDAL takes names of elements in any
case, and an attribute for a child element of its name; so does this reader.
Format: https://gdal.org/en/stable/drivers/raster/vrt.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from pipeline.errors import SourceError

LARGEST = 64 * 2**20
"""Bytes of a VRT."""
_CLASSES = {
    "vrtdataset",
    "vrtwarpeddataset",
    "vrtpansharpeneddataset",
    "vrtrasterband",
    "vrtsourcedrasterband",
    "vrtderivedrasterband",
    "vrtwarpedrasterband",
    "vrtpansharpenedrasterband",
}
_KEYS = {"x_dataset", "y_dataset", "overview_file"}
_FILES = {"sourcefilename", "sourcedataset", "dempath", *_KEYS}
_WORDS = {"mdi", "description", "category", "f"}
"""Free text, in which an address says nothing about what is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A file that a VRT names."""

    name: str
    """As it stands there."""
    relative: bool
    """It is to be found from the folder of the VRT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a VRT names."""

    files: tuple[Reference, ...]
    """In their order there."""
    addresses: tuple[str, ...]
    """Values that are URLs or GDAL's virtual paths, free text left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    name: str
    """Of the element or attribute, lower case; the key of a metadata item that names a file."""
    tag: str
    """Of the element, lower case."""
    text: str
    node: ElementTree.Element


def contents(path: str, text: bytes) -> Contents:
    """Return what the VRT `text` names.

    Raises:
        SourceError: no XML or no VRT, too large, or a kind that is not let in: raw bands, program code.
    """
    values = tuple(_values(_root(path, text)))
    for value in values:
        _require_allowed(path, value)
    files = (Reference(name=v.text, relative=_is_relative(v.node)) for v in values if v.name in _FILES)
    spoken = (v.text for v in values if v.tag not in _WORDS)
    return Contents(
        files=tuple(files),
        addresses=tuple(value for value in spoken if "://" in value or value.startswith("/vsi")),
    )


def is_address(name: str) -> bool:
    """Return True if GDAL would look for `name` anywhere but in the local file system."""
    return "://" in name or name.startswith(("/vsi", "<", "{")) or ":" in name.partition("/")[0]


def _root(path: str, text: bytes) -> ElementTree.Element:
    if len(text) > LARGEST:
        raise SourceError(f"{path}: a VRT of {len(text)} bytes; at most {LARGEST} are read, build it in parts")
    if b"<!DOCTYPE" in text.upper():
        raise SourceError(f"{path}: a VRT with a document type, which GDAL never writes; build it anew (gdalbuildvrt)")
    # with comments kept, the text of an element ends where GDAL ends it
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True, insert_pis=True))
    try:
        root = ElementTree.fromstring(text, parser=parser)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise SourceError(f"{path}: not a readable VRT: {error}; build it anew (gdalbuildvrt)") from error
    if _plain(root) != "vrtdataset":
        raise SourceError(f"{path}: this is XML ({_plain(root)}), not a VRT; give the image itself")
    return root


def _plain(element: ElementTree.Element) -> str:
    # comments have a function in place of a name
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _values(root: ElementTree.Element) -> Iterator[_Value]:
    """Yield every element and attribute; of metadata only the items, as the rest of it is anybody's XML."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        tag = _plain(node)
        key = node.get("key", "").lower() if tag == "mdi" else ""
        yield _Value(name=key if key in _KEYS else tag, tag=tag, text=(node.text or "").strip(), node=node)
        for name, text in node.attrib.items():
            yield _Value(name=name.lower(), tag=tag, text=text.strip(), node=node)
        children = [child for child in node if tag != "metadata" or _plain(child) == "mdi"]
        waiting += reversed(children)


def _require_allowed(path: str, value: _Value) -> None:
    advice = "convert it with gdal_translate to a GeoTIFF if you trust it"
    if value.name == "subclass" and value.text.lower() not in _CLASSES:
        raise SourceError(
            f"{path}: a VRT with {value.text}, which could read any file as pixels; {advice}"
            if value.text.lower() == "vrtrawrasterband"
            else f"{path}: a VRT with {value.text!r}, which is not supported; {advice}"
        )
    if value.name == "pixelfunctioncode" or (value.name == "pixelfunctionlanguage" and value.text.lower() != "c"):
        raise SourceError(f"{path}: a VRT with program code ({value.name} {value.text[:20]!r}); {advice}")


def _is_relative(node: ElementTree.Element) -> bool:
    said = [text for name, text in node.attrib.items() if name.lower() == "relativetovrt"]
    said += [child.text or "" for child in node if _plain(child) == "relativetovrt"]
    return any(text.strip() not in {"", "0"} for text in said)
