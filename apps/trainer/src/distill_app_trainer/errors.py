"""What the trainer raises itself; everything else comes from the packages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """A mistake that is mended by writing something else in the run file.

    Attributes:
        path: The keys that lead there, as far as they are in the file.
        old: What stands there.
        new: What to write in its place; nothing takes out the line.
    """

    path: tuple[str, ...]
    old: str
    new: str = ""


@dataclass(frozen=True)
class Setting:
    """A mistake that is mended by a value in the run file, or by ``--set``; None takes the key out."""

    path: tuple[str, ...]
    value: object


@dataclass(frozen=True)
class Move:
    """A mistake that is mended by moving a table of the run file above another.

    Attributes:
        path: The table.
        above: The table that shall follow it.
    """

    path: tuple[str, ...]
    above: tuple[str, ...]


@dataclass(frozen=True)
class Without:
    """A mistake that is mended by leaving an override out."""

    override: str


@dataclass(frozen=True)
class Retype:
    """A mistake that is mended by another word on the command line."""

    old: str
    new: str


Fix = str | Edit | Setting | Move | Without | Retype
"""What mends a mistake: a command as text, or a change of the run file."""


class TrainerError(Exception):
    """Base of every error of this app.

    Args:
        message: What was found, what is allowed, what to do.
        fix: What mends it.
    """

    def __init__(self, message: str, *, fix: Fix | None = None) -> None:
        super().__init__(message)
        self.fix = fix


class UsageError(TrainerError, ValueError):
    """A command line that means nothing."""


class RunFileError(TrainerError, ValueError):
    """A run file that cannot be run: one line says what was found, what is allowed and what to do."""


class WouldNotFitError(TrainerError, RuntimeError):
    """A stage would need more memory, or a run more disk, than the machine has."""


class RunFolderError(TrainerError, ValueError):
    """A run folder that cannot be used as asked."""


class StoppedError(TrainerError, RuntimeError):
    """Ctrl-C or SIGTERM came; the message says how to go on."""


class LaneError(TrainerError, RuntimeError):
    """A process that ran a stage ended badly."""


def near(word: str, allowed: object, *, cutoff: float = 0.5) -> str | None:
    """The nearest of ``allowed``, or None where none is as like as ``cutoff``, 0 to 1."""
    import difflib

    names = (
        [str(name) for name in allowed] if isinstance(allowed, (list, tuple, set, dict, frozenset)) else []
    )
    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=cutoff)), None)


def nearest(word: str, allowed: object, *, cutoff: float = 0.5) -> str:
    """`` Did you mean 'x'?`` for the nearest of ``allowed``, or nothing."""
    found = near(word, allowed, cutoff=cutoff)
    return f" Did you mean {found!r}?" if found else ""
