"""What a process may use of its machine."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from pipeline.errors import PlanRefused
from pipeline.execute._choose import choose_executor
from pipeline.survey.survey import outline
from pipeline.system import bounds
from tests.helpers import blobs, order_of, run_config, smooth, write_image

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _groups(patch: pytest.MonkeyPatch, folder: Path, said: str, files: dict[str, str]) -> None:
    """Let the process be in control groups as `/proc/self/cgroup` says, with these files of their limits."""
    patch.setattr(bounds, "_GROUPS", folder / "groups")
    patch.setattr(bounds, "_OWN", folder / "own")
    (folder / "own").write_text(said)
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("said", "files", "expected"),
    [
        ("0::/job/step\n", {"job/memory.max": "1073741824\n", "job/step/memory.max": "max\n"}, 2**30),
        ("0::/\n", {"memory.max": "2147483648\n"}, 2**31),
        ("4:cpu,memory:/docker/ab\n0::/\n", {"memory/memory.limit_in_bytes": "1073741824\n"}, 2**30),
        ("4:memory:/slurm/job\n", {"memory/slurm/job/memory.limit_in_bytes": f"{2**63 - 4096}\n"}, PHYSICAL),
        ("0::/\n", {"memory.max": "max\n"}, PHYSICAL),
        ("damaged", {}, PHYSICAL),
    ],
)
def test_memory_is_what_the_innermost_limit_leaves(tmp_path, monkeypatch, said, files, expected):
    """Both versions of control groups, seen from inside of a container and from outside, and none."""
    _groups(monkeypatch, tmp_path, said, files)
    assert bounds.memory_bytes() == expected


@pytest.mark.parametrize(
    ("said", "files", "expected"),
    [
        ("0::/pod\n", {"pod/cpu.max": "150000 100000\n"}, 1),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 4),
    ],
)
def test_cores_are_what_a_quota_leaves(tmp_path, monkeypatch, said, files, expected):
    """At least one, and never more than the process may run on."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    _groups(monkeypatch, tmp_path, said, files)
    assert bounds.cores() == expected


def test_addresses_are_a_limit(tmp_path, monkeypatch):
    """As `ulimit -v` sets it."""
    _groups(monkeypatch, tmp_path, "0::/\n", {})
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**29, resource.RLIM_INFINITY))
    assert bounds.memory_bytes() == 2**29


def test_no_run_takes_more_than_its_container_has(tmp_path, monkeypatch):
    """Workers are as many, and blocks as small, as fit; what cannot fit is refused. Jobs elsewhere have their own."""
    image = write_image(tmp_path / "image.tif", smooth((1, 40, 46)))
    mask = write_image(tmp_path / "mask.tif", blobs((40, 46), n=3)[None])
    config = run_config(tmp_path, image, mask, compute={"executor": "local"})
    monkeypatch.setattr("pipeline.orders.memory_bytes", lambda: 2**31)
    monkeypatch.setattr("pipeline.execute._choose.memory_bytes", lambda: 2**31)
    order = order_of(config)
    assert order.job.memory_bytes == int(0.8 * 2**31)
    assert choose_executor(order, outline(order.job).plan, 8)[1] == 1
    assert order_of(config, "compute.executor=slurm").job.memory_bytes == 2**32
    monkeypatch.setattr("pipeline.orders.memory_bytes", lambda: 2**28)
    with pytest.raises(PlanRefused, match=r"may take 2\d\d\.\d MiB .* at most 80 % of"):
        outline(order_of(config).job)
