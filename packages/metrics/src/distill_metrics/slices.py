"""How much of a teacher a student keeps, and slices of the examples."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from distill_metrics.errors import SettingError, ShapeError
from distill_metrics.results import MetricResult, Reference
from distill_metrics.table import metric_named

Slicing = Sequence[object] | Literal["length"]
"""A value an example, such as a column of the data, or three parts by the length of the references."""


def retention(
    student: Sequence[str],
    teacher: Sequence[str],
    references: Sequence[Reference],
    *,
    metric: str,
    samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    settings: Mapping[str, object] | None = None,
) -> MetricResult:
    """Compute the share of its teacher's score that a student keeps, in percent, with its interval.

    Args:
        student: Predictions of the student.
        teacher: Predictions of the teacher, for the same examples.
        references: One text or a list of texts an example.
        metric: Name of a metric of which more is better.
        samples: Bootstrap resamples, the same examples for both.
        seed: Equal seeds give equal intervals.
        confidence: Confidence of the interval.
        settings: Settings of the metric.

    Returns:
        ``100 * student / teacher``. The interval is None where a resample left the teacher with 0.

    Raises:
        SettingError: The metric is an error rate, of which no share is kept, or a setting is unknown.
        ShapeError: The teacher scores 0, or texts do not pair up.
        Exception: What :func:`compare` raises.

    Example:
        >>> from distill_metrics import retention
        >>> references = ["a b c d"] * 20
        >>> student = ["a b c d"] * 15 + ["a b"] * 5
        >>> result = retention(student, references, references, metric="exact_match")
        >>> result.value, result.interval is not None
        (75.0, True)
    """
    from distill_metrics.bootstrap import resampled_values

    chosen = metric_named(metric)
    if chosen.lower_is_better:
        raise SettingError(
            f"{metric} is an error rate: no share of it is kept. Use compare.",
            field="metric",
            found=metric,
        )
    both = tuple(chosen.statistics(texts, references, settings) for texts in (student, teacher))
    if not both[1].result().value:
        raise ShapeError(
            f"The teacher scores 0 in {metric}: nothing can be kept.", field="teacher", found=0.0
        )
    upper, lower = resampled_values(both, samples=samples, seed=seed)
    return share_kept(both[0].result(), both[1].result(), upper, lower, confidence=confidence)


def share_kept(
    student: MetricResult, teacher: MetricResult, upper: object, lower: object, *, confidence: float
) -> MetricResult:
    """What share of its teacher's result a student keeps; ``upper``, ``lower``: both in each resample."""
    import numpy as np

    from distill_metrics.bootstrap import percentile_interval

    above, below = np.asarray(upper, dtype=np.float64), np.asarray(lower, dtype=np.float64)
    return MetricResult(
        value=100.0 * student.value / teacher.value,
        unit="percent",
        n=teacher.n,
        signature=f"retention|student / teacher|{teacher.signature}",
        interval=percentile_interval(100.0 * above / below, confidence=confidence) if below.all() else None,
    )


def slice_rows(references: Sequence[Reference], by: Slicing) -> dict[str, list[int]]:
    """Sort examples into slices.

    Args:
        references: One text or a list of texts an example.
        by: A value an example, or ``"length"``: three slices of about equal size by the words between blanks
            of the first reference.

    Returns:
        For the name of each slice the numbers of its examples, in the order in which the slices first occur;
        of lengths, the shortest first.

    Raises:
        ShapeError: ``by`` has another length than ``references``.
        SettingError: ``by`` is another word than ``"length"``.

    Example:
        >>> from distill_metrics import slice_rows
        >>> slice_rows(["a b", "c d e f", "g h", "i j k l m"], "length")
        {'2 to 2 words': [0, 2], '4 to 5 words': [1, 3]}
        >>> slice_rows(["a b", "c d", "e f"], ["easy", "hard", "easy"])
        {'easy': [0, 2], 'hard': [1]}
    """
    if isinstance(by, str):
        if by != "length":
            raise SettingError(
                f"by={by!r} was asked for; 'length' or a value an example is allowed.",
                field="by",
                found=by,
                allowed=("length",),
                suggestion="length",
            )
        return _thirds([len((one if isinstance(one, str) else one[0]).split()) for one in references])
    if len(by) != len(references):
        raise ShapeError(
            f"{len(by)} values to slice by but {len(references)} examples; one each is needed.",
            field="by",
            found=len(by),
            allowed=(len(references),),
        )
    parts: dict[str, list[int]] = {}
    for row, value in enumerate(by):
        parts.setdefault(str(value), []).append(row)
    return parts


def _thirds(lengths: Sequence[int]) -> dict[str, list[int]]:
    """Three parts of about equal size, or fewer where many lengths are equal, named by their lengths."""
    ordered = sorted(lengths)
    edges = [0, ordered[len(ordered) // 3], ordered[2 * len(ordered) // 3], ordered[-1] + 1]
    parts = {}
    for low, high in pairwise(edges):
        rows = [row for row, length in enumerate(lengths) if low <= length < high]
        if rows:
            inside = [lengths[row] for row in rows]
            parts[f"{min(inside)} to {max(inside)} words"] = rows
    return parts
