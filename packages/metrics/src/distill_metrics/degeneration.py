"""What scores alone do not show: predictions that are empty, repeat themselves, or are much too long."""

from collections.abc import Sequence

from distill_metrics.errors import ShapeError
from distill_metrics.results import Reference
from distill_metrics.texts import is_blank, pair

_REPEATS = 3
_LONGEST_PHRASE = 8  # words


def degeneration_rates(
    predictions: Sequence[str], references: Sequence[Reference], *, teacher: Sequence[str] | None = None
) -> dict[str, float]:
    """How often a system says nothing, repeats itself or copies its teacher, and how much it says.

    Args:
        predictions: One text an example.
        references: One text or a list of texts an example; lengths are compared with the first.
        teacher: Predictions of the system's teacher for the same examples, or None.

    Returns:
        ``empty_percent``, ``circular_percent`` (of predictions that :func:`repeats_itself`), ``length_ratio``
        (words predicted per word of the references) and, with a teacher, ``as_teacher_percent`` (of
        predictions that equal the teacher's); each rounded to three digits.

    Raises:
        ShapeError: The texts do not pair up one to one.
        TextTypeError: Something is not a ``str``.

    Example:
        >>> from distill_metrics import degeneration_rates
        >>> degeneration_rates(["so so so so", "", "a b"], ["a b", "c d", "a b"])
        {'empty_percent': 33.333, 'circular_percent': 33.333, 'length_ratio': 1.0}
    """
    pairs = pair(predictions, references)
    if teacher is not None and len(teacher) != len(predictions):
        raise ShapeError(
            f"{len(teacher)} predictions of the teacher but {len(predictions)} of the system.",
            field="teacher",
            found=len(teacher),
            allowed=(len(predictions),),
        )
    words = sum(len(first.split()) for first, *_ in pairs.references)
    found = {
        "empty_percent": _percent([is_blank(text) for text in predictions]),
        "circular_percent": _percent([repeats_itself(text) for text in predictions]),
        "length_ratio": sum(len(text.split()) for text in predictions) / max(1, words),
    }
    if teacher is not None:
        found["as_teacher_percent"] = _percent([a == b for a, b in zip(predictions, teacher, strict=True)])
    return {name: round(value, 3) for name, value in found.items()}


def repeats_itself(text: str) -> bool:
    """Whether a phrase of one to eight words stands three times or more in a row.

    Example:
        >>> from distill_metrics import repeats_itself
        >>> repeats_itself("it is what it is"), repeats_itself("it is it is it is")
        (False, True)
    """
    words = text.split()
    for size in range(1, min(_LONGEST_PHRASE, len(words) // _REPEATS) + 1):
        span = size * (_REPEATS - 1)
        for start in range(len(words) - size * _REPEATS + 1):
            if words[start : start + span] == words[start + size : start + size + span]:
                return True
    return False


def _percent(flags: Sequence[bool]) -> float:
    return 100.0 * sum(flags) / len(flags)
