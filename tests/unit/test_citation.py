"""CITATION.cff: what others cite, and where the report takes its references from."""

from __future__ import annotations

import re
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import __version__
from pipeline.report import methods

_FILE = Path(__file__).parents[2] / "CITATION.cff"
_KINDS = {"article", "book", "conference-paper", "software"}
_KEYS = {
    "type", "title", "authors", "year", "doi", "journal", "collection-title", "volume", "issue", "start", "end",
}  # fmt: skip


def test_the_file_is_what_the_format_asks_for():
    """Keys and kinds of Citation File Format 1.2.0, and the version of the program."""
    found = YAML(typ="safe", pure=True).load(_FILE.read_text())
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= set(found)
    assert found["version"] == __version__
    for work in found["references"]:
        assert set(work) <= _KEYS
        assert {"type", "title", "authors", "doi"} <= set(work)
        assert work["type"] in _KINDS
        assert re.fullmatch(r"10\.\d{4,9}/\S+", work["doi"])
        assert all(set(author) in ({"family-names", "given-names"}, {"name"}) for author in work["authors"])


def test_all_that_a_run_may_cite_is_there():
    """Every DOI that a methods paragraph can name has its work, and every work may be named."""
    named = {doi for _, dois in methods._FILLS.values() for doi in dois}
    named |= {methods._CONFORMAL, methods._BLENDING, *methods._SOFTWARE.values()}
    found = YAML(typ="safe", pure=True).load(_FILE.read_text())
    assert named == {work["doi"] for work in found["references"]}
