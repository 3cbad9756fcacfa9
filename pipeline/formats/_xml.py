"""Read the XML that agencies write beside their images."""

from __future__ import annotations

from xml.etree import ElementTree

from pipeline.errors import SourceError


def parsed_xml(where: str, text: bytes) -> dict[str, list[ElementTree.Element]]:
    """Return the elements of an XML file by name, namespaces left out.

    Raises:
        SourceError: it is no XML, or has a document type, which no agency writes.
    """
    if b"<!DOCTYPE" in text.upper():
        raise SourceError(f"{where}: XML with a document type, which no agency writes; fetch the product again")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise SourceError(f"{where}: no readable XML ({error}); fetch the product again") from None
    found: dict[str, list[ElementTree.Element]] = {}
    for element in root.iter():
        if isinstance(element.tag, str):
            found.setdefault(element.tag.rpartition("}")[2], []).append(element)
    return found
