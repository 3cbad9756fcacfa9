"""Files with random faults: each is read, or refused with a message, in bounded time and memory."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.attacks import Tally
from pipeline.errors import PipelineError
from tests.helpers import blobs, command, run_config, smooth, tiny_weights, write_image
from tests.processes import import_everything

SECONDS, BYTES = 10, 2**30
"""What one file may take: time of the processor, and memory beyond what the process has."""
HANG = 120
"""Seconds on the clock after which a file is said to hang."""
_TRACEBACK, _MEMORY = 3, 4
_EXTREMES = (b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff")


def mutants(folder: Path, n: int, seed: int, say: Callable[[str], None]) -> Tally:
    """Mutate images, masks, configs, cards and records, and look at each with the command that reads it.

    A process of its own does it: looking is done in forks, and threads (zarr and others start some) do not survive one.
    """
    command_line = [sys.executable, "-m", "benchmarks.faults.mutants", str(folder), str(n), str(seed)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command_line, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    tally = Tally(**json.loads(done.stdout.splitlines()[-1]))
    say(f"mutants: {tally.struck} of {n}, {len(tally.wrong)} wrong")
    return tally


def _strike(folder: Path, n: int, seed: int) -> Tally:
    import_everything()
    folder.mkdir(parents=True)
    tally, draw, looks = Tally(), random.Random(seed), _looks(folder)
    for number in range(n):
        name = draw.choice(sorted(looks))
        path, look = looks[name]
        plain = path.read_bytes()
        path.write_bytes(_mutated(plain, draw))
        found = _in_a_child(look)
        if found:
            kept = folder.parent / f"mutant-{number}{''.join(path.suffixes)}"
            shutil.copy(path, kept)
            tally.wrong.append(f"{name}, strike {number}: {found}")
        path.write_bytes(plain)
        tally.struck += 1
    return tally


def _looks(folder: Path) -> dict[str, tuple[Path, Callable[[], object]]]:
    """Return for each kind of file one example and the command that reads it."""
    from pipeline.models.base import find_weights
    from pipeline.registry import load

    tif = write_image(folder / "scene.tif", smooth((2, 40, 46)))
    mask = write_image(folder / "mask.tif", blobs((40, 46), n=2)[None])
    nii = write_image(folder / "head.nii", smooth((1, 12, 14, 16), "int16"))
    packed = write_image(folder / "head2.nii.gz", smooth((1, 12, 14, 16), "int16"))
    volume_mask = write_image(folder / "hole.nii.gz", blobs((12, 14, 16), n=1, radius=3)[None])
    weights = tiny_weights(folder / "weights")

    def run_of(image: Path, hole: Path) -> Callable[[], object]:
        (folder / image.stem).mkdir(exist_ok=True)
        config = run_config(folder / image.stem, image, hole)
        return lambda: command("run", config, "--quiet", "--overwrite")

    done = run_config(folder, tif, mask)
    # in a fork, too: its threads are gone with it
    assert not _in_a_child(lambda: command("run", done, "--quiet"))
    record = folder / "out" / "scene" / "record.json"
    plan = folder / "out" / "scene" / ".work" / "plan.json"
    return {
        "GeoTIFF": (tif, run_of(tif, mask)),
        "mask": (mask, run_of(tif, mask)),
        "NIfTI": (nii, run_of(nii, volume_mask)),
        "NIfTI, gzip": (packed, run_of(packed, volume_mask)),
        "volume mask": (volume_mask, run_of(nii, volume_mask)),
        "config": (done, lambda: command("config", "show", done)),
        "card": (weights.with_suffix(".yaml"), lambda: _model(load, find_weights, weights)),
        "weights": (weights, lambda: _model(load, find_weights, weights)),
        "record": (record, lambda: (command("status", record.parents[1]), command("verify", record.parent))),
        "plan": (plan, lambda: command("verify", record.parent)),
    }


def _model(load: Callable[..., object], find: Callable[..., Path], weights: Path) -> object:
    try:
        return load("models", "autoencoder").open_model(find(weights), ndim=2, device="cpu", options={})  # type: ignore[attr-defined]
    except PipelineError:
        return None


def _mutated(content: bytes, draw: random.Random) -> bytes:
    """Flip bits, set bytes to extremes, cut, double or insert; near the start more often, where headers are."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        if not data:
            break
        at = min(int(draw.expovariate(1 / 150)), len(data) - 1) if draw.random() < 0.7 else draw.randrange(len(data))
        kind = draw.randrange(6)
        if kind <= 1:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            data[at] = draw.randrange(256)
        elif kind == 3:
            extreme = draw.choice(_EXTREMES)
            data[at : at + len(extreme)] = extreme
        elif kind == 4:
            del data[at:]
        else:
            data[at:at] = data[at : at + draw.randrange(1, 40)]
    return bytes(data)


def _in_a_child(look: Callable[[], object]) -> str:
    """Look in a forked process that is ended after `SECONDS`; returns what went wrong, empty if nothing did."""
    pid = os.fork()
    if pid == 0:
        # time of the processor: another program on the machine is no fault of a file; and a wait is a hang
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(HANG)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        os._exit(_looked(look))
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    words = {
        0: "",
        _TRACEBACK: "traceback",
        _MEMORY: "over 1 GiB",
        -signal.SIGPROF: f"over {SECONDS} s",
        -signal.SIGALRM: f"hangs for {HANG} s",
    }
    return words.get(code, f"ended by signal {-code}")


def _looked(look: Callable[[], object]) -> int:
    try:
        found = look()
    except MemoryError:
        return _MEMORY
    except Exception:
        sys.stderr.write(traceback.format_exc(limit=-3) + "\n")
        return _TRACEBACK
    outcomes = found if isinstance(found, tuple) else (found,)
    unforeseen = [text for text in (getattr(o, "err", "") for o in outcomes) if "a bug, please report" in text]
    if unforeseen:
        sys.stderr.write(unforeseen[0] + "\n")
    return _TRACEBACK if unforeseen else 0


if __name__ == "__main__":
    print(json.dumps(asdict(_strike(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
