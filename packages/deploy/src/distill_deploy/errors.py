"""What can go wrong with a folder, an export or its runtime, each also a built-in error."""

from __future__ import annotations


class DeployError(Exception):
    """Base class of every error of this package."""


class IntegrityError(DeployError, ValueError):
    """A folder is not what its manifest says, or holds what is never loaded. One line that names the file."""


class NonFiniteWeightsError(DeployError, ValueError):
    """Weights to be saved hold NaN or infinity."""


class ExportError(DeployError, ValueError):
    """This folder cannot be exported as asked."""


class ExportRefusedError(DeployError, ValueError):
    """The export differs from its model by more than the floor allows; it was moved aside."""


class MissingExtraError(DeployError, ImportError):
    """A backend is not installed; the message names the extra that brings it."""
