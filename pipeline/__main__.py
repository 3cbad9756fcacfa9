"""`python -m pipeline` and the `inpaint-pipeline` command: run the CLI, turn errors into exit codes."""

from __future__ import annotations

import errno
import os
import sys

try:
    import signal
    from contextlib import suppress
    from pathlib import Path
    from types import FrameType
    from typing import NoReturn

    from pipeline.errors import ConfigError, Interrupted, OutputConflict, PipelineError, PlanRefused, TimeIsUp
    from pipeline.system.signals import TIME_IS_UP, heard
except KeyboardInterrupt:
    # a few milliseconds in which nothing can hear a signal yet
    sys.exit(130)

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
"""What the system says where nothing can be written, or a disk fails."""


def main() -> None:
    """Run the command line and exit with a documented code (see `pipeline.errors`)."""
    before = {number: signal.signal(number, _end) for number in heard()}
    try:
        from pipeline.cli import app

        app(standalone_mode=True)
    except PipelineError as error:
        from pipeline.system.redact import redacted

        sys.stderr.write(redacted(f"inpaint-pipeline: {error}\n"))
        sys.exit(error.exit_code)
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            sys.stderr.write(
                f"inpaint-pipeline: {error.filename or 'a file'}: {error.strerror}; free some space, or see to the "
                "permissions of the folder or to its disk, or name another one\n"
            )
            sys.exit(OutputConflict.exit_code)
        if isinstance(error, FileNotFoundError) and _nowhere():
            sys.stderr.write("inpaint-pipeline: the working folder is gone; go to another one, and run again\n")
            sys.exit(ConfigError.exit_code)
        from pipeline.system.bounds import is_used_up, used_up_message

        if not is_used_up(error):
            raise
        sys.stderr.write(f"inpaint-pipeline: {used_up_message(error)}\n")
        sys.exit(PlanRefused.exit_code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _nowhere() -> bool:
    """Return True if the working folder was removed: no relative path means anything then."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def program() -> None:
    """Be the whole process: `main`, with stop signals heard until the very end, when libraries shut down."""
    for number in heard():
        signal.signal(number, _end)
    # imported here: `main`, called by itself, is not the whole process
    from pipeline.system.process import leave, mind_streams, settle
    from pipeline.system.words import keep_in_line

    mind_streams()
    for path in (*sys.argv[1:], "" if _nowhere() else str(Path.cwd())):
        keep_in_line(path)
    settle()
    try:
        main()
    finally:
        leave()


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """End the process wherever it is, unless a command has taken the signals over to stop in good order.

    Nothing is cleaned up, as after SIGKILL: what is half done is taken up or made again by the next run. An exception
    would not do: libraries that are just imported, and pools of processes that are closed, swallow or delay it.
    """
    # not through `sys.stderr`, which may have been interrupted in the middle of a line and cannot be re-entered
    try:
        os.write(2, b"inpaint-pipeline: interrupted; run again to continue\n")
        # what another thread starts meanwhile has nothing to say either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        _end_workers()
    finally:
        os._exit(TimeIsUp.exit_code if number in TIME_IS_UP else Interrupted.exit_code)


def _end_workers() -> None:
    """Kill the processes that this one has started to work for it.

    They would end by themselves, but one that has not been told yet what to do would say that with a traceback. One
    that has not begun yet still has this process's command line.
    """
    own = Path("/proc/self/cmdline").read_bytes()
    for task in Path("/proc/self/task").glob("*/children"):
        for child in task.read_text().split():
            # gone already
            with suppress(OSError):
                line = Path("/proc", child, "cmdline").read_bytes()
                if line == own or b"multiprocessing.spawn" in line:
                    os.kill(int(child), signal.SIGKILL)


if __name__ == "__main__":
    program()
