"""Scores, comparisons, retention, parts and the worst rows; every figure is one of distill_metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from distill_app_evaluator.examples import Examples, Reference
from distill_metrics import (
    Comparison,
    EmptyTextError,
    MetricResult,
    ShapeError,
    compare,
    lower_is_better,
    score,
)
from distill_metrics import retention as retained
from distill_metrics.comparison import decided

Said = Mapping[str, Sequence[str]]
Scores = dict[str, MetricResult]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the rows.

    Attributes:
        n: How many rows it has.
        scores: For each system its metrics; one that is undefined on these rows is missing.
        comparisons: Every pair of systems in every metric.
    """

    n: int
    scores: dict[str, Scores]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row, and what every system said.

    Attributes:
        id: Its number among the rows, from 0.
        input: What was asked.
        reference: What is right.
        answers: For each system its answer.
        values: For each system the metric of this row.
    """

    id: int
    input: str
    reference: Reference
    answers: dict[str, str]
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that was computed.

    Attributes:
        whole: All rows.
        retention: For each model the share of the teacher's score that it keeps, in each metric of which
            more is better; empty without a teacher.
        parts: For each part of ``--slices`` what was computed on it.
        samples: The worst rows of the first model, worst first.
        ranked_by: The metric that says which are worst, or None where no metric has a value a row.
    """

    whole: Part
    retention: dict[str, Scores] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    ranked_by: str | None = None


def measure(
    said: Said,
    examples: Examples,
    metrics: Sequence[str],
    *,
    teacher: str | None = None,
    samples: int = 0,
) -> Measured:
    """Score systems and compare them.

    Every two systems are compared in every metric by a paired bootstrap, and p is adjusted (Holm) for the
    number of pairs; in the parts for the number of pairs and parts.

    Args:
        said: For each system its answers, in the order of the rows.
        examples: The rows.
        metrics: Names.
        teacher: The system that the others are measured against.
        samples: How many of the worst rows are wanted.

    Raises:
        Exception: What distill_metrics raises.
    """
    references = examples.references
    scores = {name: score(texts, references, metrics=metrics) for name, texts in said.items()}
    ranked_by = next(
        (one for one in metrics if next(iter(scores.values()))[one].per_example is not None), None
    )
    return Measured(
        whole=Part(
            n=len(references),
            scores=scores,
            comparisons=_decided([_pairs(said, references, metrics)])[0],
        ),
        retention=_retention(said, references, metrics, teacher),
        parts=_parts(said, examples, metrics),
        samples=_worst(said, examples, scores, ranked_by, samples) if ranked_by else (),
        ranked_by=ranked_by,
    )


def _pairs(said: Said, references: Sequence[Reference], metrics: Sequence[str]) -> list[Comparison]:
    return [
        compare(said[first], said[second], references, metric=metric, names=(first, second))
        for metric in metrics
        for first, second in combinations(said, 2)
    ]  # fmt: skip


def _decided(groups: Sequence[Sequence[Comparison]]) -> list[tuple[Comparison, ...]]:
    """The groups, with p adjusted over all of them, metric by metric."""
    flat = [one for group in groups for one in group]
    for metric in {one.metric for one in flat}:
        places = [place for place, one in enumerate(flat) if one.metric == metric]
        for place, one in zip(places, decided([flat[place] for place in places]), strict=True):
            flat[place] = one
    rest = iter(flat)
    return [tuple(next(rest) for _ in group) for group in groups]


def _retention(
    said: Said,
    references: Sequence[Reference],
    metrics: Sequence[str],
    teacher: str | None,
) -> dict[str, Scores]:
    """Nothing is kept of an error rate, nor of a teacher who scores 0."""
    if teacher is None:
        return {}
    found: dict[str, Scores] = {name: {} for name in said if name != teacher}
    for metric in metrics:
        if lower_is_better(metric):
            continue
        for name, kept in found.items():
            try:
                kept[metric] = retained(said[name], said[teacher], references, metric=metric)
            except ShapeError:
                break
    return found


def _parts(said: Said, examples: Examples, metrics: Sequence[str]) -> dict[str, Part]:
    scores: list[dict[str, Scores]] = []
    pairs: list[list[Comparison]] = []
    for rows in examples.parts.values():
        here = {name: [texts[row] for row in rows] for name, texts in said.items()}
        references = [examples.references[row] for row in rows]
        found: dict[str, Scores] = {name: {} for name in said}
        defined = []
        for metric in metrics:
            try:
                for name, texts in here.items():
                    found[name] |= score(texts, references, metrics=[metric])
            except EmptyTextError:  # BLEU of short references
                continue
            defined.append(metric)
        scores.append(found)
        pairs.append(_pairs(here, references, defined))
    return {
        label: Part(n=len(examples.parts[label]), scores=found, comparisons=comparisons)
        for label, found, comparisons in zip(examples.parts, scores, _decided(pairs), strict=True)
    }


def _worst(
    said: Said, examples: Examples, scores: Mapping[str, Scores], metric: str, samples: int
) -> tuple[Sample, ...]:
    """The rows that the first system answers worst; of equal ones first those that the others answer best."""
    values = {name: found[metric].per_example or () for name, found in scores.items()}
    first, *others = values
    sign = -1.0 if lower_is_better(metric) else 1.0

    def badness(row: int) -> tuple[float, float]:
        return sign * values[first][row], -sign * sum(values[name][row] for name in others)

    rows = sorted(range(len(examples.inputs)), key=badness)[:samples]
    return tuple(
        Sample(
            id=row,
            input=examples.inputs[row],
            reference=examples.references[row],
            answers={name: texts[row] for name, texts in said.items()},
            values={name: column[row] for name, column in values.items()},
        )
        for row in rows
    )
