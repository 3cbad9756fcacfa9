"""What counts as done, and who may work in a folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from pipeline.blocks import journal
from pipeline.errors import OutputConflict
from pipeline.system.lock import held, locked


def test_a_commit_is_read_back(tmp_path):
    """Facts of every committed block of the plan, and of no other plan."""
    journal.commit(tmp_path, "aa", 3, {"patches": 2})
    journal.commit(tmp_path, "aa", 5, {"patches": 4})
    journal.commit(tmp_path, "bb", 7, {})
    done = journal.committed(tmp_path, "aa")
    assert set(done) == {3, 5}
    assert done[5]["patches"] == 4
    assert set(journal.committed(tmp_path, "bb")) == {7}


def test_nothing_is_committed_in_an_empty_folder(tmp_path):
    """No journal means that nothing is done."""
    assert journal.committed(tmp_path, "aa") == {}


@pytest.mark.parametrize("torn", [b'{"block": 9, "plan": "aa"', b'{"block"', b"\xff\xfe\x00", b"[1, 2]\n", b"7\n"])
def test_a_torn_line_counts_as_nothing_and_swallows_nothing(tmp_path, torn):
    """A process killed while writing leaves half a line; a later commit to the same file still counts."""
    journal.commit(tmp_path, "aa", 1, {})
    (path,) = tmp_path.iterdir()
    with path.open("ab") as stream:
        stream.write(torn)
    assert set(journal.committed(tmp_path, "aa")) == {1}
    journal.commit(tmp_path, "aa", 2, {})
    assert set(journal.committed(tmp_path, "aa")) == {1, 2}


def test_a_block_without_a_number_counts_as_nothing(tmp_path):
    """Completion is never guessed from a line that says something else."""
    journal.commit(tmp_path, "aa", 1, {})
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text() + '{"plan": "aa", "block": "2"}\n{"plan": "aa"}\n')
    assert set(journal.committed(tmp_path, "aa")) == {1}


def test_every_process_has_its_own_file(tmp_path):
    """Two processes never append to one file."""
    script = (
        "import sys; from pathlib import Path; from pipeline.blocks import journal;"
        "journal.commit(Path(sys.argv[1]), 'aa', 8, {})"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    journal.commit(tmp_path, "aa", 9, {})
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


def test_an_error_inside_gives_the_lock_back(tmp_path):
    """A run that fails does not lock its folder for ever."""
    with pytest.raises(RuntimeError), locked(tmp_path / "lock"):
        raise RuntimeError
    assert not (tmp_path / "lock").exists()


def _dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "owner",
    [
        {"host": socket.gethostname(), "pid": _dead_process(), "started": "123"},
        {"host": socket.gethostname(), "pid": os.getpid(), "started": "another time"},
        None,
    ],
)
def test_a_dead_owner_loses_its_lock(tmp_path, owner):
    """Gone, or its number now belongs to another process, or killed before it could sign."""
    path = tmp_path / "lock"
    path.write_text("" if owner is None else json.dumps(owner))
    assert not held(path)
    with locked(path):
        assert held(path)
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_an_owner_on_another_host_is_believed(tmp_path):
    """Nobody can look whether it lives; the message says host, process and what to delete."""
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "node17", "pid": 42, "started": "1"}))
    with pytest.raises(OutputConflict, match=r"process 42 on node17.*delete"), locked(path):
        pass
    assert path.exists()
