"""Errors of this package: each is also a built-in, and says as data which value was wrong.

Every error is a :class:`HardwareError`, so ``except HardwareError`` catches them all, and a ``ValueError``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class HardwareError(Exception):
    """Base of every error of this package.

    Args:
        message: What was asked for, what was found, what is allowed and what to do.
        field: Dotted name of the argument or configuration field that is wrong, or None.
        found: The value that was given.
        allowed: The values or names that would be accepted; empty when they cannot be listed.
        suggestion: A value that would be accepted instead of ``found``, or None.
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
        self.field = field
        self.found = found
        self.allowed = tuple(allowed)
        self.suggestion = suggestion


class ArgumentError(HardwareError, ValueError):
    """An argument has a value that is not allowed."""


class UnsupportedPolicyError(HardwareError, ValueError):
    """An override that this machine or this model does not support; the message says why and what to do."""


class UnknownFieldError(UnsupportedPolicyError, KeyError):
    """A name that is not a field of a policy."""

    def __str__(self) -> str:
        """Return the message; ``KeyError`` would return its ``repr``."""
        return str(self.args[0])


class RecordFieldError(HardwareError, TypeError):
    """A record was given a field that it does not have, or lacks one that it needs."""


class ModelConfigError(HardwareError, ValueError):
    """A model configuration that is missing, cannot be read, or says too little about the model."""


class ProfileError(HardwareError, ValueError):
    """A recorded machine or a profile that cannot be read."""
