"""Errors a user can act on, each with the exit code of the command that meets it.

The message says what is wrong, where (file, key, image), and what would be right. Anything else
that is raised is a bug, and ends with exit code 1 and a traceback.
"""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_PARTIAL = 4


class UaeError(Exception):
    """Base of all errors below; the command line prints the message alone."""

    exit_code: int = EXIT_FAILED


class UsageError(UaeError, ValueError):
    """The user's command, configuration or paths cannot work as given."""

    exit_code: int = EXIT_USAGE


class EnvironmentFault(UaeError, RuntimeError):
    """The machine lacks something: space, rights, a package, a device."""

    exit_code: int = EXIT_ENVIRONMENT


class UnfitName(EnvironmentFault):
    """A disk takes no file of this name: it is too long there, or has signs that are not allowed.

    What is written for one of many inputs is left out then, and counted.
    """


class RunFailed(UaeError, RuntimeError):
    """The work was well asked for and failed on the way."""


class NonFinite(RunFailed):
    """A loss, gradient, reward or metric is NaN or infinite; nothing was updated with it."""


class DamagedCheckpoint(RunFailed):
    """A checkpoint that is incomplete, altered or not one of ours; nothing of it was loaded."""


class Stopped(UaeError):
    """A signal asked for the end, and the work was saved. The exit code is 128 + its number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
