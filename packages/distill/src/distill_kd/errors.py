"""What this package raises; every error is also a built-in one and carries what is wrong as data."""

import difflib
import math
from collections.abc import Iterable, Sequence


class DistillError(Exception):
    """Base class of this package's errors.

    Args:
        message: What was asked, what was found, what is allowed and what to do.
        field: Name of the argument or configuration field that is wrong.
        found: The value that was given.
        allowed: The values that would be accepted; empty where they cannot be listed.
        suggestion: A value that would be accepted in place of ``found``.
    """

    def __init__(
        self,
        message: str = "",
        *,
        field: str | None = None,
        found: object = None,
        allowed: Sequence[object] = (),
        suggestion: object = None,
    ) -> None:
        super().__init__(message)
        self.field, self.found, self.allowed, self.suggestion = field, found, tuple(allowed), suggestion


class ConfigError(DistillError, ValueError):
    """An argument or a field of a configuration has a value that is not valid."""


class ShapeError(DistillError, ValueError):
    """Tensors that must line up position by position do not."""


class NonFiniteLogitsError(DistillError, ValueError):
    """A position that counts holds NaN or infinity, or its loss overflows."""


class VocabularyError(DistillError, ValueError):
    """Student and teacher do not mean the same token by the same id."""


class HeadError(DistillError, TypeError):
    """The output head of a model cannot be applied separately."""


class WorseTeacherError(DistillError, ValueError):
    """The teacher is not better on validation than the student is without it.

    Args:
        message: Both scores, and what to do.
        teacher: Cross-entropy of the teacher, in nats per token.
        student: Cross-entropy that the student reaches without the teacher, in nats per token.
    """

    def __init__(self, message: str = "", *, teacher: float = math.nan, student: float = math.nan) -> None:
        super().__init__(message, field="teacher", found=teacher)
        self.teacher, self.student = teacher, student


class ServedTeacherError(DistillError, OSError):
    """A server does not give what a teacher must give."""


class CacheError(DistillError, ValueError):
    """A teacher's cache cannot be written, or does not hold what a batch asks for."""


class CacheMismatchError(CacheError):
    """A teacher's cache was made from something else: ``field`` differs, ``found`` is what was asked for."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The one of ``allowed`` that is spelled most like ``name``, if any is."""
    return next(iter(difflib.get_close_matches(name, list(allowed), n=1)), None)


def unknown(field: str, found: str, allowed: Sequence[str]) -> ConfigError:
    """The error for a name that is not one of ``allowed``; it suggests the nearest."""
    suggestion = nearest(found, allowed)
    hint = f" Did you mean {suggestion}?" if suggestion else ""
    message = f"{field} = {found!r} is not a valid {field}; the valid ones are {', '.join(allowed)}.{hint}"
    return ConfigError(message, field=field, found=found, allowed=allowed, suggestion=suggestion)
