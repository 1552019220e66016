"""The errors of this package; each is also the built-in that fits it."""


class MetricError(Exception):
    """Base of every error that this package raises on purpose."""


class ShapeError(MetricError, ValueError):
    """Predictions and references do not pair up: other lengths, none at all, or an empty list."""


class TextTypeError(MetricError, TypeError):
    """Something that is not text stands where text is expected."""


class EmptyTextError(MetricError, ValueError):
    """A reference holds nothing that the metric could count."""


class SettingError(MetricError, ValueError):
    """A setting of a metric is unknown or cannot be combined with another."""


class UnknownMetricError(MetricError, ValueError):
    """A metric was named that does not exist."""


class MissingExtraError(MetricError, ImportError):
    """A library that an extra of this package brings is not installed; the extra is named."""


class FileFormatError(MetricError, ValueError):
    """A file of texts cannot be read as what it claims to be."""


class EmptyPredictionsWarning(UserWarning):
    """Every prediction is empty; the scores are 0 by convention."""
