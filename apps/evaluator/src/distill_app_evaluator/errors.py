"""What this app raises, what mends it, and errors put into words."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """A mistake that is mended by another value of an option; None leaves the option out."""

    name: str
    value: str | None


@dataclass(frozen=True)
class Retype:
    """A mistake that is mended by another word on the command line; None leaves the word out."""

    old: str
    new: str | None


Fix = str | Option | Retype
"""What mends a mistake: a command or an edit as text, or a change of the command line."""


class UsageError(ValueError):
    """What was asked for cannot be done.

    Args:
        message: What was found, what is allowed and what to do.
        fix: What mends it.
    """

    def __init__(self, message: str, *, fix: Fix | None = None) -> None:
        super().__init__(message)
        self.fix = fix


class EvaluationError(RuntimeError):
    """The evaluation was started and cannot give a score; the message names the system."""


_FLAGS = ("--json", "--debug")


def written(fix: Fix, given: Sequence[str]) -> str:
    """A fix as a command or an edit that can be taken literally.

    Args:
        fix: What mends the mistake.
        given: The command line, without the program's name.
    """
    if isinstance(fix, str):
        return fix
    words = _set(given, fix) if isinstance(fix, Option) else _retyped(given, fix)
    return shlex.join(["distill-eval", *words])


def _set(given: Sequence[str], fix: Option) -> list[str]:
    """The command line with an option set, where it stands or at the end."""
    words = list(given)
    pair = [] if fix.value is None else [fix.name, fix.value]
    for at, word in enumerate(words):
        if word == fix.name:
            return [*words[:at], *pair, *words[at + 2 :]]
        if word.startswith(f"{fix.name}="):
            return [*words[:at], *pair, *words[at + 1 :]]
    return [*words, *pair]


def _retyped(given: Sequence[str], fix: Retype) -> list[str]:
    """The command line with the last such word, or such an option with its value, as it should be."""
    words = list(given)
    places = [at for at, word in enumerate(words) if word.partition("=")[0] == fix.old]
    # What follows an option is its value.
    free = [at for at in places if not at or not words[at - 1].startswith("--") or words[at - 1] in _FLAGS]
    at = max(free or places, default=None)
    if at is None:
        return words
    return [
        *words[:at],
        *([] if fix.new is None else [fix.new + words[at][len(fix.old) :]]),
        *words[at + 1 :],
    ]


def words_of(error: Exception) -> str:
    """The message; of an error that nobody put into words, also its kind and how to see where it arose."""
    if isinstance(error, OSError | ValueError | RuntimeError | ImportError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where it comes from)"
