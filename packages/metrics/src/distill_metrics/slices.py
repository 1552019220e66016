"""How much of a teacher a student keeps, and where two systems differ."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from distill_metrics.comparison import Comparison, Method, adjust_holm, compare
from distill_metrics.errors import EmptyTextError, SettingError, ShapeError
from distill_metrics.results import MetricResult, Reference
from distill_metrics.scoring import Settings, score
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
    """What share of its teacher's score a student keeps, in percent, with its interval.

    Args:
        student: Predictions of the student.
        teacher: Predictions of the teacher, for the same examples.
        references: One text or a list of texts an example.
        metric: Name of a metric of which more is better.
        samples: Bootstrap resamples, the same examples for both.
        seed: Equal seeds give equal intervals.
        confidence: Of the interval.
        settings: Settings of the metric.

    Returns:
        ``100 * student / teacher``. The interval is None where a resample left the teacher with 0.

    Raises:
        SettingError: The metric is an error rate, of which no share is kept, or a setting is unknown.
        ShapeError: The teacher scores 0, or texts do not pair up.
        Exception: What :func:`compare` raises.
    """
    from distill_metrics.bootstrap import resampled_values

    chosen = metric_named(metric)
    if chosen.lower_is_better:
        raise SettingError(f"{metric} is an error rate: nothing of it is retained. Use compare.")
    both = tuple(chosen.statistics(texts, references, settings) for texts in (student, teacher))
    if not both[1].result().value:
        raise ShapeError(f"The teacher scores 0 in {metric}: there is nothing to retain.")
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


def compare_slices(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[Reference],
    *,
    metric: str,
    by: Slicing = "length",
    names: tuple[str, str] = ("first", "second"),
    method: Method = "bootstrap",
    samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    settings: Mapping[str, object] | None = None,
) -> dict[str, Comparison]:
    """Two systems on each part of the examples, with p adjusted for the number of parts (Holm).

    Args:
        first: Predictions of one system.
        second: Predictions of the other, for the same examples.
        references: One text or a list of texts an example.
        metric: Name of the metric.
        by: A value an example, or ``"length"``: three parts of about equal size by the words between blanks
            of the first reference.
        names: As in :func:`compare`, and so are the settings below.
        method: See above.
        samples: See above.
        seed: See above.
        confidence: See above.
        settings: See above.

    Returns:
        A comparison a part, in the order in which the parts first occur; of lengths, the shortest first.

    Raises:
        ShapeError: ``by`` has another length than the texts.
        EmptyTextError: The metric is undefined on a part, which is named.
        Exception: What :func:`compare` raises.
    """
    _check_rows(references, (first, second))
    parts = slice_rows(references, by)
    found = {}
    for label, rows in parts.items():
        texts, others = ([side[row] for row in rows] for side in (first, second))
        rights = [references[row] for row in rows]
        try:
            found[label] = compare(
                texts, others, rights, metric=metric, names=names, method=method, samples=samples,
                seed=seed, confidence=confidence, settings=settings,
            )  # fmt: skip
        except EmptyTextError as error:
            raise EmptyTextError(f"In the part {label!r}: {error}") from error
    return dict(zip(found, adjust_holm(list(found.values())), strict=True))


def score_slices(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    metrics: Sequence[str],
    by: Slicing = "length",
    interval: float | None = 0.95,
    samples: int = 2000,
    seed: int = 0,
    settings: Settings | None = None,
) -> dict[str, dict[str, MetricResult]]:
    """Metrics of one system on each part of the examples: parts as in :func:`compare_slices`.

    Raises:
        ShapeError: ``by`` has another length than the texts.
        EmptyTextError: A metric is undefined on a part, which is named.
        Exception: What :func:`score` raises.
    """
    _check_rows(references, (predictions,))
    parts = slice_rows(references, by)
    found = {}
    for label, rows in parts.items():
        texts, rights = [predictions[row] for row in rows], [references[row] for row in rows]
        try:
            found[label] = score(
                texts,
                rights,
                metrics=metrics,
                interval=interval,
                samples=samples,
                seed=seed,
                settings=settings,
            )
        except EmptyTextError as error:
            raise EmptyTextError(f"In the part {label!r}: {error}") from error
    return found


def slice_rows(references: Sequence[Reference], by: Slicing) -> dict[str, list[int]]:
    """The numbers of the examples of each part.

    Raises:
        ShapeError: ``by`` has another length than ``references``.
        SettingError: ``by`` is another word than ``"length"``.
    """
    if isinstance(by, str):
        if by != "length":
            raise SettingError(f"by={by!r} was asked for; 'length' or a value an example is allowed.")
        return _thirds([len((one if isinstance(one, str) else one[0]).split()) for one in references])
    if len(by) != len(references):
        raise ShapeError(f"{len(by)} values to slice by but {len(references)} examples; one each is needed.")
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


def _check_rows(references: Sequence[Reference], sides: Sequence[Sequence[str]]) -> None:
    if not references:
        raise ShapeError("There are no examples to slice; at least one is needed.")
    for side in sides:
        if len(side) != len(references):
            raise ShapeError(f"{len(side)} predictions but {len(references)} references; one each is needed.")
