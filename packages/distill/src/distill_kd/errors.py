"""What this package raises; every error is also a built-in one."""


class DistillError(Exception):
    """Any error that distill_kd raises on purpose."""


class ShapeError(DistillError, ValueError):
    """Tensors that must line up position by position do not."""


class NonFiniteLogitsError(DistillError, ValueError):
    """A position that counts holds NaN or infinity, or overflows to it."""


class VocabularyError(DistillError, ValueError):
    """Student and teacher do not mean the same token by the same id."""


class HeadError(DistillError, TypeError):
    """A model's output head is not one that can be taken apart."""


class WorseTeacherError(DistillError, ValueError):
    """The teacher is no better on validation than the student is without it."""


class ServedTeacherError(DistillError, OSError):
    """A server does not say what a teacher must."""


class CacheError(DistillError, ValueError):
    """A teacher's cache cannot be made, or does not hold what a batch asks for."""


class CacheMismatchError(CacheError):
    """A teacher's cache was made from something else; the message names the field that differs."""
