"""What counts as done, and who may work in a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from pipeline.blocks import journal
from pipeline.errors import OutputConflict
from pipeline.system import lock
from pipeline.system.files import sync_tree
from pipeline.system.lock import held, in_turn, joined, locked

FACTS = {"sha256": {}, "by_source": {}, "seconds": {}, "patches": 1, "peak_rss_bytes": 1}
"""What every block says of itself."""


def test_a_commit_is_read_back(tmp_path):
    """Facts of every committed block of the plan, and of no other plan."""
    journal.commit(tmp_path, "aa", 3, FACTS | {"patches": 2})
    journal.commit(tmp_path, "aa", 5, FACTS | {"patches": 4})
    journal.commit(tmp_path, "bb", 7, FACTS)
    done = journal.committed(tmp_path, "aa")
    assert set(done) == {3, 5}
    assert done[5]["patches"] == 4
    assert set(journal.committed(tmp_path, "bb")) == {7}


@pytest.mark.parametrize(
    "torn", [b'{"block": 9, "plan": "aa"', b'{"block": 9}', b"\xff", b'{"block": 9, "by_source": {']
)
def test_numbers_are_those_of_complete_lines(tmp_path, torn):
    """The quick look at the journal finds what the thorough one finds."""
    facts = FACTS | {"by_source": {"0": 3, "254": 1}, "seconds": {"read": 1e-05}, "sha256": {"restored": "ab" * 32}}
    for block in (3, 5):
        journal.commit(tmp_path, "aa", block, facts)
    journal.commit(tmp_path, "bb", 7, facts)
    (path,) = tmp_path.iterdir()
    with path.open("ab") as stream:
        stream.write(torn)
    assert journal.numbers(tmp_path, "aa") == set(journal.committed(tmp_path, "aa")) == {3, 5}
    assert journal.numbers(tmp_path, "bb") == {7}
    assert journal.numbers(tmp_path / "none", "aa") == set()


@pytest.mark.parametrize(
    "said",
    [
        {"patches": "many"}, {"by_source": {"x": 1}}, {"by_source": [1]}, {"sha256": None}, {"seconds": {"read": []}},
        {"work": {"read": [1.0]}}, {"channels_a_pass": "all"}, {"block": -1}, {"block": "3"}, {"block": 10**30},
        {"plan": 7}, {"peak_rss_bytes": -5},
    ],
)  # fmt: skip
def test_a_whole_line_that_no_block_has_written_counts_as_nothing(tmp_path, said):
    """Somebody may write one, checksum and all: the block is computed again, and no sum fails for it."""
    journal.commit(tmp_path, "aa", 1, FACTS)
    (path,) = tmp_path.iterdir()
    line = json.dumps({"block": 2, "plan": "aa", **FACTS, **said}, sort_keys=True)
    with path.open("ab") as stream:
        stream.write(journal.sealed(line.encode()) + b"\n" + journal.sealed(b"{not JSON}") + b"\n")
    done = journal.committed(tmp_path, "aa")
    assert set(done) == {1}
    assert done.totals().patches == 1


def test_a_block_that_the_plan_does_not_have_is_not_done(tmp_path):
    """By neither look at the journal."""
    for block in (1, 4):
        journal.commit(tmp_path, "aa", block, FACTS)
    assert journal.numbers(tmp_path, "aa", 4) == set(journal.committed(tmp_path, "aa", 4)) == {1}


def test_what_is_no_file_of_a_journal_is_left_alone(tmp_path):
    """A pipe would be waited for without end, and a folder cannot be read."""
    journal.commit(tmp_path, "aa", 3, FACTS)
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    assert journal.numbers(tmp_path, "aa") == set(journal.committed(tmp_path, "aa")) == {3}
    sync_tree(tmp_path)


def test_nothing_is_committed_in_an_empty_folder(tmp_path):
    """No journal means that nothing is done."""
    assert len(journal.committed(tmp_path, "aa")) == 0


@pytest.mark.parametrize("torn", [b'{"block": 9, "plan": "aa"', b'{"block"', b"\xff\xfe\x00", b"[1, 2]\n", b"7\n"])
def test_a_torn_line_counts_as_nothing_and_swallows_nothing(tmp_path, torn):
    """A process killed while writing leaves half a line; a later commit to the same file still counts."""
    journal.commit(tmp_path, "aa", 1, FACTS)
    (path,) = tmp_path.iterdir()
    with path.open("ab") as stream:
        stream.write(torn)
    assert set(journal.committed(tmp_path, "aa")) == {1}
    journal.commit(tmp_path, "aa", 2, FACTS)
    assert set(journal.committed(tmp_path, "aa")) == {1, 2}


def _with_a_bit_flipped(line):
    """Yield a line as often as it has bits, another one of them flipped each time."""
    for place in range(len(line)):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[place] ^= 1 << bit
            yield bytes(flipped)


def test_a_line_with_any_bit_flipped_counts_as_nothing(tmp_path):
    """Also where it would be JSON all the same: a sum over blocks must not take up a wrong digit."""
    facts = FACTS | {"by_source": {"3": 162}, "seconds": {"read": 0.25}, "sha256": {"restored": "ab" * 32}}
    journal.commit(tmp_path, "aa", 1, facts)
    journal.commit(tmp_path, "aa", 2, facts)
    (path,) = tmp_path.iterdir()
    first, second = filter(None, path.read_bytes().splitlines())
    path.write_bytes(b"\n".join([*_with_a_bit_flipped(first), second, b""]))
    assert journal.numbers(tmp_path, "aa") == set(journal.committed(tmp_path, "aa")) == {2}
    assert dict(journal.committed(tmp_path, "aa"))[2]["by_source"] == {"3": 162}


def test_a_block_without_a_number_counts_as_nothing(tmp_path):
    """Completion is never guessed from a line that says something else."""
    journal.commit(tmp_path, "aa", 1, FACTS)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text() + '{"plan": "aa", "block": "2"}\n{"plan": "aa"}\n')
    assert set(journal.committed(tmp_path, "aa")) == {1}


def test_every_process_has_its_own_file(tmp_path):
    """Two processes never append to one file."""
    script = (
        "import json, sys; from pathlib import Path; from pipeline.blocks import journal;"
        "journal.commit(Path(sys.argv[1]), 'aa', 8, json.loads(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path), json.dumps(FACTS)], check=True)
    journal.commit(tmp_path, "aa", 9, FACTS)
    assert len(list(tmp_path.iterdir())) == 2
    assert set(journal.committed(tmp_path, "aa")) == {8, 9}


def test_one_at_a_time(tmp_path):
    """While it is held nobody else gets the lock; afterwards anybody does, and no file is left."""
    path = tmp_path / "lock"
    with locked(path):
        with pytest.raises(OutputConflict, match=f"in use by process {os.getpid()}"), locked(path):
            pass
        assert path.exists()
    assert not path.exists()
    with locked(path):
        pass


def test_a_question_keeps_nobody_out(tmp_path, monkeypatch):
    """Whoever asks in this moment whether a run works here (`status`) is not taken for one."""
    path = tmp_path / "lock"
    path.touch()
    asking = os.open(path, os.O_RDWR)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: os.close(asking)))
    with locked(path):
        assert held(path)


def test_an_error_inside_gives_the_lock_back(tmp_path):
    """A run that fails does not lock its folder for ever."""
    with pytest.raises(RuntimeError), locked(tmp_path / "lock"):
        raise RuntimeError
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("content", ["", "[1]", '{"host": "node17", "pid": 42}', "\x00"])
def test_a_lock_ends_with_its_owner(tmp_path, content):
    """What a file says that nobody holds keeps nobody out: the kernel knows who lives."""
    path = tmp_path / "lock"
    path.write_text(content)
    assert not held(path)
    with locked(path):
        assert held(path)
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_killed_owner_loses_its_lock(tmp_path):
    """SIGKILL leaves no time to tidy up; the next one gets the lock at once."""
    path = tmp_path / "lock"
    script = (
        "import sys, time; from pathlib import Path; from pipeline.system.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    assert held(path)
    with pytest.raises(OutputConflict, match=f"in use by process {owner.pid} on {socket.gethostname()}"), locked(path):
        pass
    owner.kill()
    owner.communicate()
    with locked(path):
        pass


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    """Exit 6 with a way out: two runs that do not know of each other would write the same files."""

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("pipeline.system.lock.fcntl.flock", unknown)
    with pytest.raises(OutputConflict, match=r"has no locks.*compute\.scratch"), locked(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EPERM])
def test_a_lock_that_fails_is_not_in_use(tmp_path, monkeypatch, number):
    """A failing disk or server was told as another run, for which one would wait without end."""

    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pipeline.system.lock.fcntl.flock", failing)
    path = tmp_path / "lock"
    with pytest.raises(OutputConflict, match=f"cannot be locked .{os.strerror(number)}.; see to"), locked(path):
        pass
    with pytest.raises(OutputConflict, match="cannot be locked"), joined(path, _nothing, bool, _nothing):
        pass


def test_a_file_system_that_makes_numbers_of_files_up_is_refused(tmp_path, monkeypatch):
    """Whether an open file still has its name cannot be told there: who takes a lock was busy without end."""
    numbers, plain = itertools.count(1), os.fstat

    def made_up(descriptor: int) -> os.stat_result:
        return os.stat_result((0, -next(numbers), *plain(descriptor)[2:]))

    monkeypatch.setattr("pipeline.system.lock.os.fstat", made_up)
    path = tmp_path / "lock"
    for attempt in (locked(path), joined(path, _nothing, bool, _nothing), in_turn(path)):
        with pytest.raises(OutputConflict, match=r"another number .inode.*choose a folder on another one"), attempt:
            pass


def _nothing() -> None:
    """Begin nothing, wait for nothing."""


def test_never_two_owners(tmp_path):
    """Six starters, many rounds: at no time do two of them hold the lock, though each removes its file."""
    path, inside, most, got = tmp_path / "lock", [], [], []

    def start() -> None:
        for _ in range(200):
            with contextlib.suppress(OutputConflict), locked(path):
                inside.append(1)
                most.append(len(inside))
                got.append(1)
                inside.pop()

    starters = [threading.Thread(target=start) for _ in range(6)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert set(most) == {1}
    assert len(got) > 100
