"""Results with several draws of hidden pixels: what is averaged, what scatters, and whether the first was lucky."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.quality import draws, quick
from benchmarks.quality.cases import DRAWN_FAMILIES, Case, all_cases
from benchmarks.quality.document import Report, write_document
from benchmarks.quality.runner import OURS, Settings, measure
from benchmarks.quality.scenes import Image, Scene
from pipeline.selftest.evaluation import holes


def row(family: str, place: str, *worse: float) -> dict:
    """Return the row of a case with one hole component a loss, in dB against its only fill."""
    errors = [0.01 * 10 ** (0.1 * loss) for loss in worse]
    ours, fill = ({"mse": [float(np.mean(v))], "components": [[e] for e in v], "tiles": []} for v in (errors, [0.01]))
    fill["components"] *= len(worse)
    more = {"scene": place, "sensor": "", "trained": "no", "unseen": False, "coverage": 0.9, "changed": 0, "key": "k"}
    measured = {"seam": 1.0, "gradient": 1.0, "predicted": [], "cpu_seconds": 1.0, "seconds": 1.0}
    case = {"case": f"{family} / {place} / 0", "family": family, "place": place, "range": [1.0]}
    return case | more | measured | {"methods": {OURS: ours, "tension t=0.5": fill}}


FIRST = [row("cloud", "x", -1.0), row("cloud", "y", -1.0), row("stripes", "x", -3.0), row("stripes", "y", 1.0)]
SECOND = [row("cloud", "x", 0.5), row("cloud", "y", -0.1)]
THIRD = [row("cloud", "x", -0.5), row("cloud", "y", 0.1)]


def test_each_draw_has_a_seed_and_a_folder_of_its_own(tmp_path):
    """The first is the plain state with the default seed, as without draws."""
    settings = Settings(out=tmp_path, state="now", reuse=True)
    some = draws.settings_of(settings, 3)
    assert some[0] == settings
    assert [(one.state, one.seed) for one in some] == [("now", 0), ("now-draw2", 1), ("now-draw3", 2)]


def test_only_families_of_the_list_are_drawn_again():
    """Every family of the list has cases, and nothing else is restored again."""
    cases = all_cases()
    again = draws.drawn(cases)
    assert {case.family for case in again} == set(DRAWN_FAMILIES)
    assert 0 < len(again) < len(cases) / 2


def test_the_table_is_a_mean_over_draws():
    """Value, interval and what is left without a place are means; what was drawn once stays to the last bit."""
    once = {line.title: line for line in draws.mean_table(FIRST, [])}
    mean = {line.title: line for line in draws.mean_table(FIRST, [SECOND, THIRD])}
    assert mean["stripes"] == once["stripes"]
    assert mean["... cloud"].value == pytest.approx((1.0 - 0.2 + 0.2) / 3)
    assert mean["... cloud"].left_out == pytest.approx({"x": (1.0 + 0.1 - 0.1) / 3, "y": (1.0 - 0.5 + 0.5) / 3})
    assert mean["... cloud"].note.startswith("mean of 3 draws; in the first: against tension")
    assert (mean["... cloud"].places, mean["... cloud"].cases) == (2, 2)
    (worse,) = (line for title, line in mean.items() if title.startswith("hole components"))
    assert worse.value == pytest.approx(100 * 2 / 6)


def test_a_case_that_failed_once_counts_as_in_the_first_draw():
    """And one that failed in the first is in no table."""
    failed = {"case": "cloud / x / 0", "family": "cloud", "error": "no"}
    lines = {line.title: line for line in draws.mean_table(FIRST, [[failed, SECOND[1]]])}
    assert lines["... cloud"].value == pytest.approx((1.0 + (1.0 + 0.1) / 2) / 2)
    lines = {line.title: line for line in draws.mean_table([failed, *FIRST[1:]], [SECOND])}
    assert lines["... cloud"].value == pytest.approx((1.0 + 0.1) / 2)


def test_one_changed_pixel_in_any_draw_is_too_many():
    """A mean does not hide it."""
    lines = draws.mean_table(FIRST, [SECOND, [THIRD[0] | {"changed": 1}]])
    assert [line.holds for line in lines if line.title == "observed pixels changed"] == [False]


def test_scatter_and_luck_of_the_first_draw():
    """Gains of 1, -0.5 and 0.5 dB, and of 1, 0.1 and -0.1: by hand."""
    cloud, worse = draws.scatters(FIRST, [SECOND, THIRD])
    assert (cloud.title, worse.unit) == ("cloud", "%")
    assert cloud.by_draw == pytest.approx([1.0, -0.2, 0.2])
    assert cloud.of_a_case == pytest.approx(
        math.sqrt((np.var([1, -0.5, 0.5], ddof=1) + np.var([1, 0.1, -0.1], ddof=1)) / 2)
    )
    assert cloud.luck == pytest.approx((1.0, 0.0), abs=1e-9)
    assert worse.by_draw == pytest.approx([0.0, 50.0, 50.0])
    assert worse.luck == pytest.approx((-50.0, 0.0), abs=1e-9)
    assert "| +0.333 dB | +1.000 dB | -0.200 .. +1.000 dB |" in draws.markdown([cloud])


def test_holes_count_one_by_one():
    """A case with three holes counts three times one with a single hole; a lucky first draw is told with its error."""
    first = [row("cloud", "x", -1.0, -1.0, -1.0), row("cloud", "y", 1.0)]
    second = [row("cloud", "x", -1.0, 1.0, 1.0), row("cloud", "y", 1.0)]
    worse = draws.scatters(first, [second])[-1]
    assert worse.by_draw == pytest.approx([25.0, 75.0])
    luck, error = worse.luck
    assert luck == pytest.approx(-50.0)
    # sums of what the cases differ by, 3 * (-66.7 + 50) and 1 * (0 + 50), over four holes
    assert error == pytest.approx(math.sqrt(2 * (50.0**2 + 50.0**2)) / 4)
    assert math.isnan(draws.scatters([first[1]], [[second[1]]])[0].luck[1])


def test_without_other_draws_nothing_scatters():
    """One draw says nothing of others."""
    assert draws.scatters(FIRST, []) == []
    assert draws.scatters(FIRST[2:], [[]]) == []


def test_what_each_draw_gave_is_kept(tmp_path):
    """By case; later quick runs compare with the first as before."""
    path = tmp_path / "full.json"
    quick.store(FIRST, path, [SECOND, [THIRD[0], {"case": "cloud / y / 0", "error": "no"}]])
    kept = quick.stored(path)
    assert kept["cloud / x / 0"].db == pytest.approx(21.0)
    assert kept["cloud / x / 0"].draws == pytest.approx((19.5, 20.5))
    assert kept["cloud / y / 0"].draws == pytest.approx((20.1,))
    assert kept["stripes / x / 0"].draws == ()


@pytest.mark.slow
def test_draws_from_run_to_page(tmp_path):
    """The real command with another seed hides other pixels; results are kept apart and stand on the page."""
    values = (128 + 40 * np.random.default_rng(3).normal(size=(1, 96, 96)).cumsum(1)).clip(0, 999).astype(np.uint16)
    nothing = np.zeros(values.shape[1:], dtype=bool)
    image = Image(values=values, hidden=nothing, counted=~nothing, spacing=(1.0, 1.0))
    scene = Scene(name="made", place="nowhere", sensor="", load=lambda: image, files=())
    case = Case(family="cloud", scene=scene, number=0, draw=lambda r, i: holes.cloud(r, i.values.shape[1:], 0.2))
    some = draws.settings_of(Settings(out=tmp_path / "out", state="test", reuse=True), 2)
    first, second = (measure(case, one) for one in some)
    assert "error" not in first | second
    assert first["predicted"] != second["predicted"]
    assert first["methods"]["nearest"] == second["methods"]["nearest"]
    assert [measure(case, one)["predicted"] for one in some] == [first["predicted"], second["predicted"]]
    page = tmp_path / "docs" / "quality.md"
    page.parent.mkdir()
    report = Report(rows=[first], draws=[[second]], cases={case.name: case}, settings=some[0], complete=False)
    write_document(report, page)
    assert "restored with 2 seeds" in page.read_text()
    assert "1 cases, 2 with those of all draws, none failed." in page.read_text()
    assert "\n| cloud | 1 | " in page.read_text()
