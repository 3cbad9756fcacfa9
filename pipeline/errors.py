"""Every error a user can meet, each with the exit code a scheduler can act on.

::

    PipelineError (1)
    ├── IntegrityError (1)   a promise does not hold: a bug, or files that were changed underneath
    ├── ConfigError (2)      the config, a catalog or the command line is wrong
    ├── PlanRefused (3)      memory, disk or device would not do; nothing was computed
    ├── SourceError (4)      an input cannot be read, or is not what was promised
    ├── BlockFailed (5)      the run ended, some parts of it failed
    ├── OutputConflict (6)   the output exists, is in use or cannot be written
    ├── ClusterGone (75)     try again later
    ├── Unfinished (75)      other processes have work to do first
    ├── Unreachable (75)     a server does not answer, or not as it should
    └── Interrupted (130)    stopped on request; run again to continue
        └── TimeIsUp (75)    stopped as the time of a job is nearly up; submit it again

A message names the file, band or block, the value found, and what to do about it.
"""


class PipelineError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the process exit status."""

    exit_code = 1


class IntegrityError(PipelineError):
    """A promise does not hold, or files of a run were changed underneath it; nothing was published."""

    exit_code = 1


class ConfigError(PipelineError, ValueError):
    """The config, catalog or command line asks for something impossible or unknown."""

    exit_code = 2


class PlanRefused(PipelineError):
    """The plan does not fit the memory, disk or device given; the message has the numbers."""

    exit_code = 3


class SourceError(PipelineError, OSError):
    """An input is missing, damaged, of an unsupported kind, or has a wrong checksum."""

    exit_code = 4


class BlockFailed(PipelineError):
    """The run finished, but some blocks or sources could not be restored."""

    exit_code = 5


class OutputConflict(PipelineError, OSError):
    """The output exists with another plan, is in use, or cannot be written."""

    exit_code = 6


class ClusterGone(PipelineError):
    """The workers are gone; the journal is intact and a rerun continues."""

    exit_code = 75


class Unfinished(PipelineError):
    """What other processes compute is not there yet."""

    exit_code = 75


class Unreachable(PipelineError):
    """A server does not answer, or not as it should; what was done is kept and a rerun goes on."""

    exit_code = 75


class Interrupted(PipelineError):
    """Stopped on request (Ctrl-C, SIGTERM, SIGHUP); run again to continue."""

    exit_code = 130


class TimeIsUp(Interrupted):
    """Stopped as the time of a job is nearly up (SIGUSR1, SIGUSR2, SIGXCPU); submit it again."""

    exit_code = 75
