"""The errors of this package; each is also the built-in that fits it."""

from collections.abc import Sequence


class MetricError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        message: What was asked for, what was found, what is allowed and what to do.
        field: The argument or setting that is wrong, as a caller writes it, such as ``"metrics"``.
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
        self.field = field
        self.found = found
        self.allowed = tuple(allowed)
        self.suggestion = suggestion


class ShapeError(MetricError, ValueError):
    """Predictions and references do not pair up: different lengths, none at all, or an empty list."""


class TextTypeError(MetricError, TypeError):
    """Something that is not text stands where text is expected."""


class EmptyTextError(MetricError, ValueError):
    """A reference holds nothing that the metric could count."""


class SettingError(MetricError, ValueError):
    """An argument or a setting of a metric is unknown, out of range, or cannot be combined with another."""


class UnknownMetricError(MetricError, ValueError):
    """A metric was named that does not exist."""


class MissingExtraError(MetricError, ImportError):
    """A library that an extra of this package brings is not installed; the extra is named."""


class RegisteredMetricError(MetricError, RuntimeError):
    """A metric that another distribution registers cannot be loaded, or does not give what it promises."""


class FileFormatError(MetricError, ValueError):
    """A file of texts cannot be read as what it claims to be."""


class EmptyPredictionsWarning(UserWarning):
    """Every prediction is empty; the scores are 0 by convention."""
