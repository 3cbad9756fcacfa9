"""Files of other machines are seen late, as on network file systems: waited for within a bound, then a clear error."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import OutputConflict
from pipeline.system import late
from pipeline.system.lock import joined
from pipeline.testing import late as testing_late
from pipeline.testing.late import shown_late
from tests.cluster.scheduler import running
from tests.faults.test_kill import _calm, _config
from tests.helpers import command, result_hash

LATE_S = 3.0
NEVER_S = 1e6


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The hash of a run that nobody disturbs."""
    return _calm(tmp_path_factory.mktemp("calm"))


@pytest.fixture
def first_look_is_early(monkeypatch):
    """What is new to this process is hidden until it waits for the first time, however slow it is to look."""
    began, waited = time.time(), []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(seconds)

    now = SimpleNamespace(time=lambda: time.time() if waited else began)
    monkeypatch.setattr(testing_late, "time", now)
    monkeypatch.setattr(late, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))


def _on_others(folder: Path, seconds: float, longest: float) -> list[str]:
    """Return options of dask workers that see files of others below a folder late."""
    preload = folder / "seen_late.py"
    preload.write_text(
        "from pipeline.system import late\n"
        "from pipeline.testing.late import hide\n"
        f"late.LONGEST_S = {longest}\n"
        f"hide({str(folder / 'out')!r}, {seconds})\n"
    )
    return ["--preload", str(preload)]


def _run_on(address: str, config: Path):
    return command("run", config, "--set", "compute.executor=cluster", "--set", f"compute.scheduler={address}")


def test_files_of_others_are_hidden_for_some_time(tmp_path):
    """By name, in listings and when opened; own ones, and those outside the folder, are not."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    write = "import sys, pathlib; [pathlib.Path(p).write_text('x') for p in sys.argv[1:]]"
    paths = [str(inside / "theirs"), str(outside / "theirs")]
    with shown_late(str(inside), NEVER_S):
        subprocess.run([sys.executable, "-c", write, *paths], check=True)
        (inside / "own").write_text("x")
        assert [path.name for path in inside.iterdir()] == ["own"]
        assert [path.name for path in inside.glob("*")] == ["own"]
        assert not (inside / "theirs").exists()
        with pytest.raises(FileNotFoundError):
            (inside / "theirs").read_text()
        assert (outside / "theirs").read_text() == "x"
    assert (inside / "theirs").read_text() == "x"
    with shown_late(str(inside), 0.0):
        assert (inside / "theirs").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("first_look_is_early")
def test_workers_and_client_that_see_each_other_late_give_the_same_bytes(tmp_path, expected):
    """Plan, arrays of the survey, block store, journal and blocks."""
    config = _config(tmp_path)
    with (
        running(workers=2, options=_on_others(tmp_path, LATE_S, 65)) as address,
        shown_late(str(tmp_path / "out"), LATE_S),
    ):
        outcome = _run_on(address, config)
    assert outcome.code == 0, outcome.err
    assert "are not seen here yet" in outcome.err
    assert "damaged" not in outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected


@pytest.mark.slow
def test_workers_that_never_see_the_plan_are_named(tmp_path):
    """Exit 3 after the bound, before anything is computed."""
    with running(workers=1, options=_on_others(tmp_path, NEVER_S, 1)) as address:
        outcome = _run_on(address, _config(tmp_path))
    assert outcome.code == 3, outcome.err
    assert "does not see" in outcome.err


@pytest.mark.slow
def test_blocks_that_are_never_seen_are_an_error(tmp_path, monkeypatch):
    """Exit 1 after the bound, with where to look; nothing is published."""
    monkeypatch.setattr(late, "LONGEST_S", 1.0)
    with running(workers=1) as address, shown_late(str(tmp_path / "out"), NEVER_S):
        outcome = _run_on(address, _config(tmp_path))
    assert outcome.code == 1, outcome.err
    assert "that all machines see the same files" in outcome.err
    assert not (tmp_path / "out" / "image" / "record.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("first_look_is_early")
def test_shares_of_other_machines_are_waited_for(tmp_path, nursery, expected):
    """`assemble` right after the shares, which does not see yet what they have done."""
    config = _config(tmp_path)
    shares = [nursery.start("shard", f"{k}/2", config, errors=tmp_path / f"err{k}") for k in (1, 2)]
    assert [share.end() for share in shares] == [0, 0]
    # however long they took: as if all had been written a moment ago
    for path in (tmp_path / "out").rglob("*"):
        path.touch()
    with shown_late(str(tmp_path / "out"), LATE_S):
        outcome = command("assemble", config)
    assert outcome.code == 0, outcome.err
    assert "not seen here; other machines' files may come late" in outcome.err
    assert result_hash(tmp_path / "out" / "image") == expected


def test_common_work_that_is_seen_late_is_joined(tmp_path, monkeypatch):
    """It is not begun again while others work on it; if it is never seen, that is said."""
    path, waits, seen = tmp_path / "lock", [], []
    begins = []

    def begin() -> None:
        begins.append(1)
        seen.append(True)

    with joined(path, begin, lambda: bool(seen), lambda: None):
        looks = iter([False, False, True, True])
        with joined(path, begin, lambda: next(looks), lambda: waits.append(1)):
            pass
        assert (len(begins), len(waits)) == (1, 2)
        monkeypatch.setattr(late, "LONGEST_S", 0.0)
        with (
            pytest.raises(OutputConflict, match="not seen on this machine"),
            joined(path, begin, lambda: False, lambda: None),
        ):
            pass
