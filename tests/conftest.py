"""Long files first; where the real data are, where processes start; one training; quiet hypothesis profiles."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.processes import Nursery
from tests.web import serving

pytest.register_assert_rewrite("pipeline.testing")

# run by the Python that has QGIS
collect_ignore = ["qgis_session.py"]

settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: a long one that is begun last keeps one process busy while others wait."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    number = Counter(item.path for item in items)
    items.sort(key=lambda item: (slow[item.path], number[item.path]), reverse=True)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where tests start commands in processes of their own."""
    with Nursery() as opened:
        yield opened


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server of this machine that serves `tmp_path`."""
    with serving(tmp_path) as address:
        yield f"http://{address}"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with `satellite/` and `medical/` real images; required when INPAINT_REQUIRE_DATA is set."""
    value = os.environ.get("INPAINT_DATA", "")
    if value and Path(value).is_dir():
        return Path(value)
    if os.environ.get("INPAINT_REQUIRE_DATA"):
        pytest.fail(f"INPAINT_REQUIRE_DATA is set, but INPAINT_DATA={value!r} is no folder")
    pytest.skip("real images absent: set INPAINT_DATA to a folder with satellite/ and medical/")


@pytest.fixture(scope="session")
def _trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # importing these takes seconds, which most tests do not need
    from pipeline.training.loop import train
    from tests.helpers import small_training

    folder = tmp_path_factory.mktemp("trained")
    train(small_training(folder))
    return folder


@pytest.fixture
def trained(_trained_once: Path, tmp_path: Path) -> Path:
    """The weights of a finished `small_training`, which is copied to `tmp_path` with all that it left there."""
    shutil.copytree(_trained_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "weights" / "small.safetensors"


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`SLURM_CONF` of a Slurm that runs for the tests; required when INPAINT_REQUIRE_SLURM is set."""
    from tests import slurm as daemons

    absent = daemons.missing()
    if absent and os.environ.get("INPAINT_REQUIRE_SLURM"):
        pytest.fail(f"INPAINT_REQUIRE_SLURM is set, but {', '.join(absent)} are not installed")
    if absent:
        pytest.skip("no Slurm here: apt install slurmctld slurmd slurm-client munge")
    # sockets have short names
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with daemons.running(Path(folder)) as conf:
            before = os.environ.get("SLURM_CONF")
            os.environ["SLURM_CONF"] = str(conf)
            yield conf
            os.environ.pop("SLURM_CONF")
            if before is not None:
                os.environ["SLURM_CONF"] = before
