"""What can go wrong with a folder, an export or its runtime, each also a built-in error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class DeployError(Exception):
    """Base class of every error of this package.

    Attributes:
        field: The argument that is wrong, as a caller writes it; None where no argument is.
        found: The value that was given for it.
        allowed: The values that would be accepted; empty where they cannot be listed.
        suggestion: A value that would be accepted in place of ``found``; None where there is none.
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
        self.field, self.found = field, found
        self.allowed, self.suggestion = tuple(allowed), suggestion


class ArgumentError(DeployError, ValueError):
    """An argument is out of its range, or contradicts another one."""


class IntegrityError(DeployError, ValueError):
    """A folder differs from its manifest, or holds what is never loaded. One line that names the file."""


class NonFiniteWeightsError(DeployError, ValueError):
    """Weights to be saved hold NaN or infinity."""


class ExportError(DeployError, ValueError):
    """This folder cannot be exported as asked."""


class ExportRefusedError(DeployError, ValueError):
    """An export agrees with its model less than was asked for; it was moved aside.

    Attributes:
        rate: Share of tokens that agree.
        min_agreement: Share of tokens that has to agree.
    """

    def __init__(
        self, message: str = "", *, rate: float = 0.0, min_agreement: float = 0.0, **data: object
    ) -> None:
        super().__init__(message, **data)  # type: ignore[arg-type]  # the keywords of the base class
        self.rate, self.min_agreement = rate, min_agreement


class MissingExtraError(DeployError, ImportError):
    """A library is not installed.

    Attributes:
        extra: The extra of distill-deploy that brings it; None where no extra does.
    """

    def __init__(self, message: str = "", *, extra: str | None = None, **data: object) -> None:
        super().__init__(message, **data)  # type: ignore[arg-type]  # the keywords of the base class
        self.extra = extra
