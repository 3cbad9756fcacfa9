"""The report, the table and the record say one and the same, in words that suit the image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fills.base import FillSpec
from pipeline.numerics.situation import flat
from pipeline.provenance.account import account
from pipeline.report.judgement import UNVALUED, advised, judged
from pipeline.report.methods import _guides, _network, _test
from pipeline.report.pages import templates
from pipeline.report.words import by_channel, network_part, unit_of, verdict
from pipeline.restore.codes import source_name
from pipeline.restore.recipe import Recipe
from pipeline.selftest.verdict import FamilyScore, Row, sentences
from pipeline.system.words import in_percent, whole_percents


def _record(*, weight: float, share: float, leads: int = 0, kind: str = "raster") -> dict[str, Any]:
    return {
        "space": {"kind": kind, "channels": 4},
        "references": [],
        "model": {"name": "optical", "used": weight > 0},
        "recipe": {"network_weight": weight},
        "self_test": {"methods": [{"method": "network optical", "weight": share}], "coverage_90": 0.9},
        "holes": {"pixels": 3000, "fraction": 0.03, "by_source": {"classical": 3000 - leads, "network": leads}},
    }


def _recipe(weight: float) -> Recipe:
    limits = {"floor": (1.0,), "typical": (1.0,), "low": (0.0,), "high": (1.0,)}
    return Recipe(fill=FillSpec("tension", {"t": 0.5}), network=flat(weight), **limits)


def _row(share: float, *, chosen: bool) -> Row:
    score = FamilyScore(family="deep", pixels=900, gain_db=0.1, weight=share)
    return Row(
        method="network optical", psnr_db=30, gain_db=0.1, weight=share, seconds=1, chosen=chosen, families=(score,)
    )


@pytest.mark.parametrize(
    ("weight", "share", "table", "sentence", "part"),
    [
        (0.0, 0.0, "0 %", "network optical not used", "optical: not used"),
        (0.7, 0.002, "<1 %", "network optical at <1 % (+0.10 dB)", "optical: <1 % of what was tested, up to 70 %"),
        (0.7, 0.4, "40 %", "network optical at 40 % (+0.10 dB)", "optical: 40 % of what was tested, up to 70 %"),
        (0.7, 0.0, "0 %", "network optical only where nothing could be tested", "optical: 0 % of what was tested"),
    ],
)
def test_all_places_agree_on_the_network(weight: float, share: float, table: str, sentence: str, part: str) -> None:
    """Whatever its weight: the cell of the table, the sentence on a family of holes, and the line on what was done."""
    row = _row(share, chosen=weight > 0)
    assert in_percent(row.weight) == table
    (said,) = sentences(_recipe(weight), [_row(1.0, chosen=True)], [row])
    assert said.endswith(sentence)
    assert network_part(_record(weight=weight, share=share)).startswith(part)


def test_where_the_network_leads_is_said() -> None:
    """In how many pixels, or voxels, or in none."""
    assert network_part(_record(weight=0.7, share=0.4, leads=1200)).endswith("it leads in 1,200 pixels")
    assert network_part(_record(weight=0.7, share=0.4, kind="volume")).endswith("it leads in no voxel")
    assert network_part({"model": None}) == "none"


def test_volumes_have_voxels() -> None:
    """The first sentence of the page speaks of voxels in a volume."""
    record = _record(weight=0.0, share=0.0, kind="volume")
    assert unit_of(record) == "voxel"
    assert verdict(record).startswith("3,000 voxels (3.00 %) were restored; ")
    assert "; from: 100 % classical interpolation" in verdict(record)
    assert "pixel" not in verdict(record)


@pytest.mark.parametrize(
    ("kind", "own"), [("raster", "other bands of the image"), ("volume", "other time points of the image")]
)
def test_the_verdict_names_what_it_was_made_of(kind: str, own: str) -> None:
    """A reference by its name, the other channels as what they are in such an image."""
    record = _record(weight=0.0, share=0.0, kind=kind)
    record["references"] = [{"role": "reference", "label": "S2_20240627"}, {"role": "auxiliary", "label": "radar"}]
    record["holes"]["by_source"] = {"reference 0": 500, "auxiliary 1": 300, "other channels": 200}
    assert f"from: 50 % reference 0 (S2_20240627), 30 % auxiliary 1 (radar), 20 % {own}." in verdict(record)


@pytest.mark.parametrize(("weight", "said"), [(0.18, True), (0.6, False), (0.0, False)])
def test_a_reference_that_makes_little_of_the_values_it_is_named_for_is_told(weight: float, said: bool) -> None:
    """A smear is not taken for a copy of the clear date, of which 18 % are in it."""
    record = _record(weight=0.0, share=0.0)
    record["references"] = [{"role": "reference", "label": "clear"}, {"role": "reference", "label": "unused"}]
    record["holes"]["by_source"] = {"classical": 500, "reference 0": 500}
    rows = [{"method": f"reference {k} ({name})", "weight": weight} for k, name in enumerate(("clear", "unused"))]
    record["self_test"]["methods"] = rows
    told = "from: 50 % classical interpolation, 50 % reference 0 (clear) "
    told += "(blended, mostly of what the image itself tells: of values on hidden pixels "
    assert (f"{told}reference 0 (clear) made 18 %)." in verdict(record)) == said
    assert ("blended" in verdict(record)) == said


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=9).filter(any))
def test_shares_add_up(counts: list[int]) -> None:
    """Whole per cents of any counts add up to 100, no one is off by 1, and what is there is never 0 %."""
    shares = whole_percents(counts)
    numbers = [0 if share == "<1 %" else int(share.removesuffix(" %")) for share in shares]
    assert sum(numbers) == 100
    for count, share, number in zip(counts, shares, numbers, strict=True):
        assert abs(number - 100 * count / sum(counts)) < 1
        assert (share == "0 %") == (count == 0)


def test_an_auxiliary_is_no_reference() -> None:
    """Codes count references and auxiliaries on; names say which of them it is."""
    roles = ["reference", "auxiliary"]
    assert [source_name(code, roles) for code in (10, 11, 12)] == ["reference 0", "auxiliary 1", "other channels"]


def test_numbers_by_channel_name_those_that_were_tested() -> None:
    """A long series has few spoilt volumes; what a dozen of them say is enough for a page."""
    test = {"coverage_90_by_channel": [None, 0.91, 0.884], "predicted_rmse": [1.0, 2.0, 3.456]}
    names = ["a", "b", "c"]
    assert by_channel({"self_test": test}, names, "coverage_90_by_channel", "%.0f %%", 100) == "b 91 %, c 88 %"
    assert by_channel({"self_test": test}, names, "predicted_rmse", "%.3g") == "b 2, c 3.46"
    test = {"coverage_90_by_channel": [0.9] * 14}
    said = by_channel({"self_test": test}, [f"v{k}" for k in range(14)], "coverage_90_by_channel", "%.1f")
    assert said.startswith("v0 0.9, v1 0.9, ")
    assert said.endswith("v11 0.9 and 2 more, which are in record.json")
    nothing = {"coverage_90_by_channel": None, "predicted_rmse": [1.0]}
    assert by_channel({"self_test": nothing}, ["a"], "predicted_rmse", "%.3g") == ""


def test_methods_name_other_channels_and_a_network_that_led_nowhere() -> None:
    """What made the result is said, and no more than that."""
    record = _record(weight=1.0, share=0.0) | {"references": []}
    assert _guides(record) == []
    record["holes"]["by_source"] = {"other channels": 3000}
    record["model"] |= {"weights": "optical.safetensors", "sha256": 64 * "0"}
    (guides,), (network,) = _guides(record), _network(record, lambda *_: "")
    assert guides.startswith("The image's other bands, where these were observed, could contribute")
    assert guides.endswith("they led: other bands of the image in 100 % of the restored pixels.")
    assert network.endswith("with a weight of up to 100 %; it led in none of the restored pixels.")


@pytest.mark.parametrize(
    ("changes", "level", "reason"),
    [
        ({}, "sound", ""),
        ({"predicted_rmse": [10.9, 0.0]}, "sound", ""),
        ({"predicted_rmse": [20.0, 0.0]}, "look", "14 % of the range of the values, is large (11 % or more)"),
        (
            {"predicted_rmse": [40.0, 10.0]},
            "poor",
            "29 % of the range of the values, is very large: from about 22 % on",
        ),
        ({"coverage_90": 0.84}, "look", "held 84 %"),
        ({"coverage_90": 0.7, "predicted_rmse": [20.0, 0.0]}, "poor", "held 70 %"),
        ({"note": "few observed pixels"}, "look", "few observed"),
        ({"value_range": []}, "sound", ""),
        ({"rim": {"wider_px": 0}}, "sound", ""),
        ({"rim": {"wider_px": 2}}, "look", "wider by 2 px"),
    ],
)
def test_the_self_test_decides_the_colour(changes: dict[str, Any], level: str, reason: str) -> None:
    """Green only where nothing speaks against it: the error beside the image's range, the error bars, notes."""
    record = _record(weight=0.0, share=0.0)
    record["self_test"] |= {"predicted_rmse": [1.0, 2.0], "value_range": [100.0, 100.0], "note": ""} | changes
    found = judged(record)
    assert found.level == level
    assert reason in " ".join(found.reasons)
    assert bool(found.reasons) == (level != "sound")


def test_what_was_not_tested_or_not_filled_is_amber() -> None:
    """Holes without a self-test, and pixels that were asked for and left."""
    record = _record(weight=0.0, share=0.0)
    assert judged(record | {"self_test": None}).reasons == ("nothing was hidden to test it",)
    left = record["holes"] | {"left": {"refused": 3}, "account": "2,997 of 3,000 pixels were filled"}
    assert judged(record | {"holes": left}).level == "look"
    nothing = {"pixels": 0, "account": "no pixels to restore were found"}
    assert judged({"holes": nothing, "self_test": None}).level == "sound"


@pytest.mark.parametrize(("unvalued", "level"), [(30, "sound"), (31, "look")])
def test_a_mask_that_reaches_over_the_edge_is_no_reason_to_look(unvalued: int, level: str) -> None:
    """A buffered cloud beside a swath's edge marks some pixels without a value; more of them were perhaps wanted."""
    record = _record(weight=0.0, share=0.0)
    record["holes"] |= {"asked": 3000, "left": {UNVALUED: unvalued}, "account": "some of 3,000 pixels were filled"}
    assert judged(record).level == level
    record["holes"]["left"] |= {"refused as too uncertain": 1}
    assert judged(record).level == "look"


def test_what_helps_is_said_where_something_would() -> None:
    """A contaminated rim always; other images and a limit where errors are large, unless they are there."""
    record = _record(weight=0.0, share=0.0, kind="volume") | {"config": {"output": {"refuse_above": None}}}
    record["self_test"] |= {"predicted_rmse": [1.0], "value_range": [100.0]}
    assert advised(record) == ()
    record["self_test"]["rim"] = {"advice": "consider widening the mask by 2 px (`buffer`)"}
    assert advised(record) == ("consider widening the mask by 2 px (`buffer`)",)
    record["self_test"] |= {"predicted_rmse": [20.0], "rim": None}
    assert [words.split("`")[1] for words in advised(record)] == ["input.auxiliary", "output.refuse_above: 0.1"]
    record["space"]["kind"] = "raster"
    assert "another date of the same place, in `input.references`" in advised(record)[0]
    record |= {"references": [{"role": "reference"}], "config": {"output": {"refuse_above": 0.3}}}
    assert advised(record) == ()


def test_templates_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of the next image takes what was compiled for the first one, and has filters of its own."""
    facts = {"rows": [], "pictures": {}, "counts": [("sound", "<sound>", 1)], "generator": "x"}
    first = templates()
    first.filters["length"] = lambda _: 7
    assert "<h1>7 images</h1>" in first.get_template("group.html.j2").render(facts)
    monkeypatch.setattr("jinja2.Environment.compile", lambda *_, **__: pytest.fail("compiled again"))
    page = templates().get_template("group.html.j2").render(facts)
    assert "<h1>0 images</h1>" in page
    assert "1 &lt;sound&gt;" in page


@pytest.mark.parametrize(
    ("ndim", "filled", "said"),
    [(2, 1, "the one pixel to restore was filled"), (3, 1200, "all 1,200 voxels to restore were filled")],
)
def test_one_pixel_is_not_all_of_them(ndim, filled, said):
    """The sentence is one that somebody would write."""
    plan = SimpleNamespace(ndim=ndim, n_state=1)
    assert account(plan, {}, {"classical": filled})["account"] == said


@pytest.mark.parametrize(
    ("calibration", "referenced", "said"),
    [("fitted", 500, False), ("fitted", 0, True), ("stored", 0, False)],
)
def test_methods_say_where_bars_of_references_are_not_fitted(calibration, referenced, said):
    """With all factors stored one sentence is enough; with all fitted none is."""
    test = {"hidden_pixels": 900, "placements": 6, "coverage_90": None, "calibration": calibration}
    record = {"self_test": test, "recipe": {"calibration": {"referenced": {"pixels": referenced}}}}
    (sentence,) = _test(record, lambda _: "")
    assert ("where another date leads" in sentence) == said
    assert ("too few here" in sentence) == (calibration == "stored")
