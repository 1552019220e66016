"""The errors of this app, and the fixes that they print."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """Fix: give an option another value; None leaves the option out."""

    name: str
    value: str | None


@dataclass(frozen=True)
class Retype:
    """Fix: replace a word of the command line; None leaves the word out."""

    old: str
    new: str | None


Fix = str | Option | Retype
"""A command or an edit as text, or a change of the command line."""

_FLAGS = ("--json", "--debug")


class UsageError(ValueError):
    """A request that is not valid.

    Args:
        message: What was found, what is allowed and what to do.
        fix: How to fix it.
    """

    def __init__(self, message: str, *, fix: Fix | None = None) -> None:
        super().__init__(message)
        self.fix = fix


class EvaluationError(RuntimeError):
    """The evaluation was started and cannot give a score; the message names the system."""


def written(fix: Fix, given: Sequence[str]) -> str:
    """Write a fix as a command or an edit that can be taken literally.

    Args:
        fix: The fix.
        given: The command line, without the program's name.
    """
    if isinstance(fix, str):
        return fix
    words = _set(list(given), fix) if isinstance(fix, Option) else _retyped(list(given), fix)
    return shlex.join(["distill-eval", *words])


def _set(words: list[str], fix: Option) -> list[str]:
    """The command line with an option set, where it stands or at the end."""
    pair = [] if fix.value is None else [fix.name, fix.value]
    for at, word in enumerate(words):
        if word.partition("=")[0] == fix.name:
            return [*words[:at], *pair, *words[at + 1 + ("=" not in word) :]]
    return [*words, *pair]


def _retyped(words: list[str], fix: Retype) -> list[str]:
    """The command line with the last such word, or the name of such an option, replaced."""
    places = [at for at, word in enumerate(words) if word.partition("=")[0] == fix.old]
    # What follows an option is its value.
    free = [at for at in places if not at or not words[at - 1].startswith("--") or words[at - 1] in _FLAGS]
    at = max(free or places, default=None)
    if at is None:
        return words
    new = [] if fix.new is None else [fix.new + words[at].removeprefix(fix.old)]
    return [*words[:at], *new, *words[at + 1 :]]


def message_of(error: Exception) -> str:
    """Return the message; for an unexpected error also its type and how to see the traceback."""
    if isinstance(error, OSError | ValueError | RuntimeError | ImportError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows the traceback)"


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The most similar name, or None if none is similar."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(allowed), n=1)), None)
