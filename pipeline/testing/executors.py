"""The contract of executors, see `pipeline.execute.base`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.blocks import journal
from pipeline.blocks.block import BlockResult
from pipeline.blocks.store import create_store
from pipeline.execute.base import ATTEMPTS, Failures, Work
from pipeline.image.workspace import open_workspace
from pipeline.masks.base import FILL, KEEP
from pipeline.models._choice import ModelChoice
from pipeline.plan.facts import save_survey
from pipeline.plan.job import Job
from pipeline.plan.plan import Plan, load_plan
from pipeline.plan.refs import SourceRef
from pipeline.plan.workdir import WorkFolder
from pipeline.registry import load
from pipeline.survey.survey import survey
from pipeline.testing import faulty
from pipeline.testing.images import ArrayMask

_EXTENT, _PATCH, _BLOCK = 40, 16, 8
_STOP = 12
"""Finished blocks after which the run is asked to stop; it has 25."""
_BAD, _SHAKY = 7, 3
"""Block that fails on every attempt, and block that fails on the first only."""
_MANY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbed:
    """What came of a run in which one block never works, one works at the second attempt, and a stop is asked for."""

    failures: Failures
    """As the executor returned them."""
    told: tuple[BlockResult, ...]
    """What `on_done` was called with."""
    committed: Mapping[int, dict[str, Any]]
    """The journal after the run."""
    attempts: dict[int, int]
    """Faults that were met, by block."""
    n_blocks: int
    """Blocks of the plan."""
    resumed: dict[str, bytes]
    """Files of the block store after `serial` did the rest."""
    calm: dict[str, bytes]
    """Files of the block store after `serial` did everything, undisturbed."""
    windows: list[int]
    """Squares of 0 to 6, as the executor's crew made them before the blocks; empty if it has none."""


class ExecutorContract:
    """An executor decides where blocks run and nothing else: bytes, retries, stops and reports are those of `serial`.

    It must start blocks in the order that it is given. One run serves all tests, as starting workers may take long.

    ::

        class TestQueue(ExecutorContract):
            kind = "queue"
            at_once = 8
    """

    kind: str
    """The executor, as the config names it."""
    at_once: int = 4
    """Most blocks that are under way at the same time with two workers, those that wait at a worker included."""
    _runs: ClassVar[dict[str, Disturbed]] = {}

    def cluster(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Give what the config says of the cluster (`Work.cluster`), started if need be."""
        return nullcontext({})

    def run(self, tmp_path_factory: Any) -> Disturbed:
        """Return what came of the run; it is done once a kind."""
        if self.kind not in self._runs:
            folder: Path = tmp_path_factory.mktemp(self.kind)
            with faulty.installed(folder / "site"), self.cluster() as cluster:
                self._runs[self.kind] = disturbed_run(self.kind, folder, cluster)
        return self._runs[self.kind]

    def test_a_failing_block_is_tried_again_and_reported(self, tmp_path_factory: Any) -> None:
        """What fails on every attempt is in the failures with its reason, and nothing else is; the run goes on."""
        found = self.run(tmp_path_factory)
        assert set(found.failures) == {_BAD}
        assert "planted fault" in found.failures[_BAD]
        assert found.attempts[_BAD] >= ATTEMPTS
        assert _BAD not in found.committed

    def test_a_block_may_work_at_the_second_attempt(self, tmp_path_factory: Any) -> None:
        """It counts as done like any other."""
        found = self.run(tmp_path_factory)
        assert found.attempts[_SHAKY] == 1
        assert _SHAKY in found.committed

    def test_every_committed_block_is_told_once(self, tmp_path_factory: Any) -> None:
        """`on_done` hears of what stands in the journal, of nothing else, and of nothing twice."""
        found = self.run(tmp_path_factory)
        assert sorted(result.block for result in found.told) == sorted(found.committed)
        for result in found.told:
            assert result.patches == found.committed[result.block]["patches"]

    def test_a_stop_starts_nothing_new(self, tmp_path_factory: Any) -> None:
        """What is under way is finished and committed; the rest of the blocks is left."""
        found = self.run(tmp_path_factory)
        assert _STOP + self.at_once <= found.n_blocks - 2, "the plan is too small for so many blocks at once"
        assert _STOP <= len(found.committed) < _STOP + self.at_once

    def test_a_crew_gives_results_in_order(self, tmp_path_factory: Any) -> None:
        """Workers that come for the self-test compute its windows, and then blocks as any others."""
        found = self.run(tmp_path_factory)
        assert found.windows == ([k * k for k in range(7)] if hasattr(load("execute", self.kind), "opened") else [])

    def test_bytes_are_those_of_serial(self, tmp_path_factory: Any) -> None:
        """Another executor can go on, and in the end all files of the store are those of an undisturbed run."""
        found = self.run(tmp_path_factory)
        assert found.resumed.keys() == found.calm.keys()
        assert [name for name, data in found.calm.items() if found.resumed[name] != data] == []


def disturbed_run(kind: str, folder: Path, cluster: Mapping[str, Any]) -> Disturbed:
    """Let an executor do a small plan with faults, stop it, and let `serial` do the rest."""
    plan = small_plan(folder / "disturbed")
    shutil.copytree(plan.workdir, folder / "calm")
    image, bad, shaky = plan.source.paths[0], plan.block_box(_BAD), plan.block_box(_SHAKY)
    _execute("serial", load_plan(WorkFolder(folder / "calm")), [])
    faulty.plant(image, bad, _MANY)
    faulty.plant(image, shaky, 1)
    told: list[BlockResult] = []
    windows: list[int] = []
    # the blocks that go wrong come first, so that they are through before the stop
    failures = _execute(kind, plan, told, first=(_BAD, _SHAKY), stop=_STOP, cluster=cluster, windows=windows)
    committed = journal.committed(plan.work.journal, plan.digest)
    attempts = {_BAD: _MANY - faulty.faults(image, bad), _SHAKY: 1 - faulty.faults(image, shaky)}
    faulty.plant(image, bad, 0)
    _execute("serial", plan, [])
    return Disturbed(
        failures=failures,
        told=tuple(told),
        committed=committed,
        attempts=attempts,
        n_blocks=len(plan.blocks),
        resumed=_files(folder / "disturbed"),
        calm=_files(folder / "calm"),
        windows=windows,
    )


def small_plan(workdir: Path) -> Plan:
    """Survey an image of 40 x 40 pixels with holes in each of its 25 blocks, and return its plan, ready to run."""
    workdir.mkdir(parents=True)
    rng = np.random.default_rng(5)
    slope = np.add.outer(np.arange(_EXTENT), 2 * np.arange(_EXTENT))
    image = workdir.parent / "image.npy"
    np.save(image, (500 + slope + rng.normal(0, 5, (2, _EXTENT, _EXTENT))).astype(np.uint16))
    states = np.where(rng.random((1, _EXTENT, _EXTENT)) < 0.15, FILL, KEEP).astype(np.uint8)
    job = Job(
        work=WorkFolder(workdir),
        source=SourceRef(kind=faulty.KIND, paths=(str(image),)),
        open_mask=lambda _: ArrayMask(states=states),
        model=ModelChoice(kind="tension"),
        patch=(_PATCH, _PATCH),
        overlap=(_PATCH // 4, _PATCH // 4),
        block=(_BLOCK, _BLOCK),
    )
    found = survey(job)
    save_survey(found.plan, found.facts())
    create_store(found.plan, 2)
    return found.plan


def _execute(
    kind: str,
    plan: Plan,
    told: list[BlockResult],
    first: tuple[int, ...] = (),
    stop: int = 0,
    cluster: Mapping[str, Any] | None = None,
    windows: list[int] | None = None,
) -> Failures:
    """Run the blocks that are left, some of them first, until `stop` of them are done (0 = all)."""
    open_workspace.cache_clear()
    done = journal.committed(plan.work.journal, plan.digest)
    rest = [b for b in range(len(plan.blocks)) if b not in done and b not in first]
    work = Work(
        workdir=plan.workdir,
        digest=plan.digest,
        blocks=(*first, *rest),
        workers=2,
        memory_bytes=2**30,
        cluster=cluster or {},
    )
    module = load("execute", kind)

    def enough() -> bool:
        return 0 < stop <= len(told)

    failures: Failures
    if not hasattr(module, "opened"):
        failures = module.execute(work, told.append, enough)
        return failures
    with module.opened(replace(work, digest="", blocks=()), enough) as crew:
        if windows is not None:
            windows += crew.each(_squared, list(range(7)))
        failures = crew.execute(work, told.append, enough)
    return failures


def _squared(number: int) -> int:
    return number * number


def _files(workdir: Path) -> dict[str, bytes]:
    root = WorkFolder(workdir).blocks
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
