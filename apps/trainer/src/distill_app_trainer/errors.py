"""The errors of this app, and the fixes that they carry; everything else is raised by the packages."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ReplaceText:
    """Fix: write something else in the run file.

    Attributes:
        path: The keys that lead to the place, as far as they are in the file.
        old: The text that stands there.
        new: The text to write in its place; an empty text deletes the line.
    """

    path: tuple[str, ...]
    old: str
    new: str = ""


@dataclass(frozen=True)
class SetKey:
    """Fix: set a key in the run file, or with ``--set``; the value None removes the key."""

    path: tuple[str, ...]
    value: object


@dataclass(frozen=True)
class MoveTable:
    """Fix: move a table of the run file above another.

    Attributes:
        path: The table to move.
        above: The table that has to follow it.
    """

    path: tuple[str, ...]
    above: tuple[str, ...]


@dataclass(frozen=True)
class DropOverride:
    """Fix: leave out an override of the command line."""

    override: str


@dataclass(frozen=True)
class ReplaceWord:
    """Fix: write another word on the command line."""

    old: str
    new: str


Fix = str | ReplaceText | SetKey | MoveTable | DropOverride | ReplaceWord
"""What corrects a mistake: a command as text, or a change of the run file or the command line."""

FAILED, USAGE, TOO_BIG, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130


class TrainerError(Exception):
    """Base of every error of this app.

    Args:
        message: What was found, what is allowed and what to do.
        fix: The change that corrects the mistake.

    Attributes:
        exit_code: What the command line returns.
    """

    exit_code = FAILED

    def __init__(self, message: str, *, fix: Fix | None = None) -> None:
        super().__init__(message)
        self.fix = fix


class UsageError(TrainerError, ValueError):
    """The command line is not valid."""

    exit_code = USAGE


class RunFileError(TrainerError, ValueError):
    """The run file cannot be run; one line says what was found, what is allowed and what to do."""

    exit_code = USAGE


class ConfigError(TrainerError, ValueError):
    """A value of a table of the run file is not allowed.

    Args:
        message: What was found, what is allowed and what to do.
        field: The key that is wrong, within its table.
        found: The value that was given.
        allowed: The values that would be accepted, where they can be listed.
        suggestion: A value that would be accepted; None removes the key.
    """

    exit_code = USAGE

    def __init__(
        self,
        message: str,
        *,
        field: str,
        found: object = None,
        allowed: Sequence[object] = (),
        suggestion: object = None,
    ) -> None:
        super().__init__(message)
        self.field, self.found, self.allowed, self.suggestion = field, found, allowed, suggestion


class WouldNotFitError(TrainerError, RuntimeError):
    """A stage would need more memory, or a run more disk, than the machine has."""

    exit_code = TOO_BIG


class RunFolderError(TrainerError, ValueError):
    """A run folder cannot be used as asked."""

    exit_code = USAGE


class StoppedError(TrainerError, RuntimeError):
    """Ctrl-C or SIGTERM came; the message says how to resume."""

    exit_code = INTERRUPTED


class WorkerError(TrainerError, RuntimeError):
    """A worker process that ran a stage failed."""
