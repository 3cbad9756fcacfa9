"""What Slurm says when it is asked for a job: something against it, or that nobody is there to take it."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from pipeline.errors import ClusterGone, PlanRefused
from pipeline.execute._jobs import _check_accepted


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("allocation failure: Unable to contact slurm controller (connect failure)", ClusterGone),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", ClusterGone),
        ("allocation failure: Slurm backup controller in standby mode", ClusterGone),
        ("allocation failure: Required partition not available (inactive or drain)", ClusterGone),
        ("allocation failure: Invalid partition specified", PlanRefused),
        ("", PlanRefused),
    ],
)
def test_a_controller_that_is_away_has_nothing_against_a_job(monkeypatch, said, error):
    """A scheduler is started again within minutes: exit 75, and what is done stays; 3 only for the job itself."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr=said))
    with pytest.raises(error):
        _check_accepted("slurm", "#!/bin/sh")


@pytest.mark.parametrize(
    ("states", "error"),
    [
        ("unknown\nunknown\n", ClusterGone),
        ("down\ndrained\nidle*\n", ClusterGone),
        ("idle\ndown\n", PlanRefused),
        ("", PlanRefused),
    ],
)
def test_nodes_that_are_all_away_have_nothing_against_a_job(monkeypatch, states, error):
    """Slurm has the same words for a job that no node could ever run, and as long as no node has come back."""
    asked = []

    def answer(command, **_):
        asked.append(command)
        said = "allocation failure: Requested node configuration is not available"
        return SimpleNamespace(returncode=int(command[0] == "sbatch"), stderr=said, stdout=states)

    monkeypatch.setattr(subprocess, "run", answer)
    with pytest.raises(error):
        _check_accepted("slurm", "#!/bin/sh\n#SBATCH -n 1\n#SBATCH -p long\n")
    assert asked[1][-2:] == ["--partition", "long"]
