"""Files of an unfinished run that were edited so that they fit their own hash: nothing of theirs gets into a result."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from pipeline.blocks import journal
from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.system.files import seal_of, sealed
from tests.helpers import blobs, command, result_hash, run_config, smooth, write_image
from tests.processes import blocks_held

SHAPE = (64, 72)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory, nursery):
    """A config, the hash of its results, and a copy of the output folder of a run that was killed in its blocks."""
    folder = tmp_path_factory.mktemp("edited")
    image = write_image(folder / "image.tif", smooth((2, *SHAPE)))
    mask = write_image(folder / "mask.tif", blobs(SHAPE, n=40, radius=2)[None])
    config = run_config(folder, image, mask, compute={"block": 16})
    process = nursery.start("run", config, errors=folder / "err", hold=blocks_held("serial", 4))
    assert process.wait_for(lambda: process.held), process.err
    os.killpg(process.pid, signal.SIGKILL)
    process.end()
    shutil.copytree(folder / "out", folder / "killed")
    assert command("run", config, "--quiet").code == 0
    return config, result_hash(folder / "out" / "image"), folder / "killed"


@pytest.fixture
def work(unfinished):
    """The work folder of the run that was killed, as it was left."""
    config, _, killed = unfinished
    out = config.parent / "out"
    shutil.rmtree(out)
    shutil.copytree(killed, out)
    return WorkFolder(out / ".work" / "image")


def _edit(path: Path, edit) -> None:
    facts = json.loads(path.read_text())
    edit(facts)
    path.write_text(json.dumps(sealed(facts)))


def _fit(work: WorkFolder, *, journal_too: bool) -> None:
    """Make plan and survey name one another again, and the lines of the journal the plan."""
    digest = load_plan(work).digest
    _edit(work.survey, lambda facts: facts.update(plan_digest=digest))
    seal = seal_of(json.loads(work.survey.read_text()))
    _edit(work.plan, lambda plan: plan.update(survey_facts_sha256=seal))
    if journal_too:
        for path in work.journal.glob("*.jsonl"):
            lines = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
            for line in lines:
                del line["crc32"]
            told = [journal.sealed(json.dumps(line | {"plan": digest}, sort_keys=True).encode()) for line in lines]
            path.write_bytes(b"\n".join(told) + b"\n")


def _goes_on(unfinished, what: str) -> None:
    """Say what it notices, and finish with the bytes of a run that nobody has disturbed."""
    config, expected, _ = unfinished
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert f"{what}; the survey is made again" in " ".join(outcome.err.split()), outcome.err
    assert result_hash(config.parent / "out" / "image") == expected
    assert command("verify", config.parent / "out").code == 0


PLANS = [
    lambda plan: plan["recipe"].update(floor=[1e3] * 2),
    lambda plan: plan["recipe"].update(high=[value / 2 for value in plan["recipe"]["high"]]),
    lambda plan: plan["recipe"].update(fill={"kind": "nearest", "options": {}}),
    lambda plan: plan["blocks"].pop(),
    lambda plan: plan.update(refuse_above=0.01),
]


@pytest.mark.parametrize("edit", PLANS)
def test_an_edited_plan_is_not_gone_on_with(unfinished, work, edit):
    """The survey names the plan that it was written with."""
    _edit(work.plan, edit)
    _goes_on(unfinished, "plan.json: is not the plan that survey.json was written with")


@pytest.mark.parametrize(
    "edit",
    [
        lambda facts: facts.pop("states"),
        lambda facts: facts.pop("self_test"),
        lambda facts: facts["states"].update(holes=1),
        lambda facts: facts["arrays_sha256"].clear(),
    ],
)
def test_an_edited_survey_is_not_gone_on_with(unfinished, work, edit):
    """The plan names the survey that it was written with."""
    _edit(work.survey, edit)
    _goes_on(unfinished, "survey.json: is not the survey that plan.json was written with")


@pytest.mark.parametrize("edit", [PLANS[0], PLANS[2]])
def test_a_plan_and_a_survey_that_were_edited_together(unfinished, work, edit):
    """Finished blocks name the plan that they were computed by."""
    _edit(work.plan, edit)
    _fit(work, journal_too=False)
    _goes_on(unfinished, "plan.json: is not the plan that blocks were computed by")


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda plan: plan["blocks"].pop(), "such blocks"),
        (lambda plan: plan["blocks"].__setitem__(0, plan["blocks"][1]), "such blocks"),
        (lambda plan: plan["recipe"]["network"]["deep"].update(values=[7.0] * 7), "such recipe.network"),
        (lambda plan: plan["recipe"].update(low=plan["recipe"]["high"], high=plan["recipe"]["low"]), "such recipe.low"),
        (lambda plan: plan["recipe"]["single"]["factors"]["thin"].update(values=[float("nan")] * 7), "such recipe.cal"),
        (lambda plan: plan.update(centre=[float("inf")] * 2), "such centre"),
        (lambda plan: plan.update(spread=[1.0]), "such lists of channels"),
        (lambda plan: plan.update(refuse_above=0.01), "its refuse_above is another"),
        (lambda plan: plan.update(nodata=[5, 5]), "its nodata is another"),
        (lambda plan: plan["space"].update(affine=[2.0, 0.0, 0.0, 0.0, 2.0, 0.0]), "its space is another"),
        (lambda plan: plan["lattice"].update(overlap=[4, 4]), "its lattice is another"),
        (lambda plan: plan["config"].update(seed=5), "its config is another"),
    ],
)
def test_all_that_names_the_plan_was_edited_with_it(unfinished, work, edit, what):
    """What follows from config and files is made again and compared, the rest has bounds."""
    _edit(work.plan, edit)
    _fit(work, journal_too=True)
    config, expected, _ = unfinished
    outcome = command("run", config)
    assert outcome.code == 0, outcome.err
    assert what in " ".join(outcome.err.split()), outcome.err
    assert result_hash(config.parent / "out" / "image") == expected


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda facts: facts.pop("states"), "states"),
        (lambda facts: facts.pop("self_test"), "self_test"),
        (lambda facts: facts["self_test"].pop("methods"), "self_test.methods"),
        (lambda facts: facts["self_test"].update(coverage_90=1.5), "self_test.coverage_90"),
        (lambda facts: facts["self_test"]["rim"].pop("advice"), "self_test.rim.advice"),
        (lambda facts: facts.update(notices=5), "notices"),
        (lambda facts: facts.update(work={"fill": [1]}), "work.fill.1"),
        (lambda facts: facts["states"].update(holes=1), "blocks"),
    ],
)
def test_a_survey_without_what_the_record_needs(unfinished, work, edit, what):
    """It ended as a bug of the program, with exit 1."""
    _edit(work.survey, edit)
    _fit(work, journal_too=True)
    _goes_on(unfinished, f"(no survey writes such {what})")


def test_a_share_does_not_go_on_with_an_edited_plan(unfinished, work):
    """It makes the survey again, as `run` does; the results are the same."""
    config, expected, _ = unfinished
    _edit(work.plan, PLANS[0])
    outcome = command("shard", "1/1", config)
    assert outcome.code == 0, outcome.err
    assert "the survey is made again" in outcome.err
    assert command("assemble", config).code == 0
    assert result_hash(config.parent / "out" / "image") == expected
