"""What this package raises; every error is also a built-in one."""


class DistillError(Exception):
    """Any error that distill_kd raises on purpose."""


class ShapeError(DistillError, ValueError):
    """Tensors that must line up position by position do not."""


class NonFiniteLogitsError(DistillError, ValueError):
    """A position that counts holds NaN or infinity, or overflows to it."""


class VocabularyError(DistillError, ValueError):
    """Student and teacher do not mean the same token by the same id."""
