"""What a run is said to have taken, and what it could not have done without."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from pipeline.blocks.journal import Totals
from pipeline.fills.base import FillSpec, Window
from pipeline.plan.plan import BlockRow
from pipeline.provenance.roofline import measured, roofline, roofline_text
from pipeline.run import run
from pipeline.system.meter import PROCESSOR, Use, add, as_facts, counted, lap, metered
from pipeline.system.threads import each, threaded
from tests.helpers import run_config, smooth, write_image
from tests.unit.test_block_values import _plan


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that goes on by what is added to it."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_laps_inside_each_other_are_told_apart(clock):
    """The outer lap has its own time only; an inner lap of the same name counts no amount a second time."""
    with metered() as uses, lap("write") as outer:
        outer.amount = 10
        clock[0] += 1
        with lap("read") as done:
            done.amount = 4
            clock[0] += 2
            with lap("read") as again:
                again.amount = 4
                clock[0] += 3
    assert (uses["write"].seconds, uses["write"].amount) == (1, 10)
    assert (uses["read"].seconds, uses["read"].amount) == (5, 4)


def test_the_fastest_lap_is_kept(clock):
    """Rates are those of the best and of all laps; one that fails counts, too."""
    with metered() as uses:
        for seconds in (4, 2):
            with lap("network") as done:
                done.amount = 2
                clock[0] += seconds
        with pytest.raises(ValueError, match="broken"), lap("network"):
            _fail(clock)
    assert (uses["network"].best, uses["network"].mean) == (1, 7 / 4)


def _fail(clock):
    clock[0] += 1
    raise ValueError("broken")


def test_threads_have_laps_of_their_own():
    """What threads of the survey do at the same time is added up, none inside another's lap."""
    with metered() as uses, threaded(2), lap("outer"):
        together = threading.Barrier(2, timeout=300)

        def work(amount: float) -> None:
            with lap("read") as done:
                together.wait()
                done.amount = amount
                together.wait()

        each(work, [3.0, 4.0])
    assert uses["read"].amount == 7
    assert set(uses) == {"outer", "read", PROCESSOR}


def test_nothing_is_counted_where_nobody_measures():
    """Laps outside leave nothing behind, and a fill that is measured counts its hole pixels."""
    counted("device", 3.0)
    hole = np.zeros((2, 20, 20), bool)
    hole[0, 5:9, 5:9] = True
    window = Window(values=np.ones((2, 20, 20), np.float32), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    spec = FillSpec("nearest")
    spec(window)
    with metered() as uses:
        spec(window)
    assert set(uses) == {f"fill {spec.label}", PROCESSOR}
    assert uses[f"fill {spec.label}"].amount == 16


def _found(**blocks: Use):
    facts = {"seconds": {"masks": 4.0}, "work": {"read": [2.0, 800.0, 0.001], "fill nearest": [3.0, 10.0, 0.1]}}
    totals = Totals(patches=8, seconds={"read": 1.0, "compute": 30.0, "write": 1.0}, work=blocks)
    return measured(facts, totals, {"encode": Use(2.0), "write": Use(3.0)}, {"blocks": 16.0, "assemble": 6.0})


def test_least_is_what_is_done_once_at_the_rates_of_the_run():
    """Reading, fills, network and writing each at their rate, and never more than what they took."""
    plan = _plan()
    label = plan.recipe.fill.label
    plan_pixels = int(np.prod(plan.space.shape))
    nbytes = plan_pixels * (len(plan.channels) * np.dtype(plan.dtype).itemsize + plan.n_state)
    found = _found(**{
        f"fill {label}": Use(8.0, 400.0, 0.01), "network": Use(20.0, 100.0, 0.1), "device": Use(13.0, 0, 0),
    })  # fmt: skip
    rows = (BlockRow(index=(0, 0), holes=100, patches=8),)
    result = roofline(replace(plan, blocks=rows), {"touching_holes": 4, "forwards": 8}, found)
    work = result.work
    assert work["read"].least_s == min(2.0, nbytes * 2.0 / 800)
    assert (work["fill"].least_s, work["fill"].took_s) == (pytest.approx(100 * 8 / 400), 11.0)
    assert (work["network"].least_s, work["network"].took_s) == (pytest.approx(100 * 0.5 * 0.1), 20.0)
    assert (work["write"].least_s, work["write"].took_s) == (2.0, 5.0)
    assert result.took_s == pytest.approx(4 + 32 + 6)
    assert result.gpu_busy == pytest.approx(13 / 26)
    assert "the GPU worked 50 % of the time" in roofline_text(result.facts())


def test_a_survey_of_an_older_version_says_less():
    """Without what was counted there is still what it took."""
    found = measured({"seconds": {"masks": 4.0}}, Totals(), {}, {"blocks": 0.0, "assemble": 1.0})
    result = roofline(_plan(), {"touching_holes": 0, "forwards": 0}, found)
    assert (result.least_s, result.took_s, result.gpu_busy) == (0, 5, None)
    assert "GPU" not in roofline_text(result.facts())


def test_waiting_is_told_where_it_is_long():
    """Processor time of survey, blocks and assembly is added up; what is missing is told from a third on."""
    seconds = {"blocks": 30.0, "assemble": 5.0}

    def said(survey: float | None, blocks: float) -> str:
        work = {} if survey is None else {PROCESSOR: [survey, 0, 0]}
        totals = Totals(patches=8, seconds={"compute": 30.0}, work={PROCESSOR: Use(blocks)})
        found = measured({"seconds": {"masks": 4.0}, "work": work}, totals, {PROCESSOR: Use(4.0)}, seconds)
        result = roofline(_plan(), {"touching_holes": 4, "forwards": 8}, found)
        assert result.processor_s == (None if survey is None else survey + blocks + 4)
        return roofline_text(result.facts())

    assert said(3.0, 8.0).endswith("24.0 s of the work was waiting, for slow files or for a processor that others used")
    assert "waiting" not in said(3.0, 28.0)
    assert "waiting" not in said(None, 8.0)


def test_processor_time_is_counted_whatever_is_metered():
    """Whoever measures gets the processor seconds of its own time, those of meters inside included."""
    with metered() as uses:
        with metered() as inner:
            sum(range(300_000))
        sum(range(300_000))
    assert 0 < inner[PROCESSOR].seconds < uses[PROCESSOR].seconds


def test_uses_come_back_from_json():
    """What a block writes into the journal is what is added up."""
    with metered() as uses, lap("read") as done:
        done.amount = 3
    totals = Totals()
    add(totals.work, json.loads(json.dumps(as_facts(uses))))
    assert totals.work == uses


def test_a_run_tells_its_roofline(tmp_path):
    """It stands in record, run.json, report and journal, adds up, and no kind of work takes less than the least."""
    values = smooth((1, 60, 70))
    hole = np.zeros((1, 60, 70), np.uint8)
    hole[0, 20:30, 20:33] = 1
    image, mask = write_image(tmp_path / "image.tif", values), write_image(tmp_path / "mask.tif", hole)
    summary = run(run_config(tmp_path, image, mask))
    record = json.loads((tmp_path / "out/image/record.json").read_text())
    facts = record["roofline"]
    assert summary["sources"][0]["roofline"] == facts
    assert set(facts["work"]) == {"read", "fill", "network", "write", "rest"}
    assert all(0 <= share["least_s"] <= share["took_s"] for share in facts["work"].values())
    assert facts["work"]["read"]["took_s"] > 0
    assert facts["work"]["fill"]["least_s"] > 0
    assert facts["work"]["write"]["least_s"] > 0
    assert facts["gpu_busy"] is None
    assert facts["took_s"] <= record["seconds"]["total"]
    assert "could not be avoided" in (tmp_path / "out" / "image" / "report.html").read_text()
