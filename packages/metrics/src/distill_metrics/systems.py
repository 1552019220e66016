"""Several systems on the same examples: scores, paired comparisons, retention, slices and worst rows."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

from distill_metrics.comparison import Comparison, adjust_holm, undecided
from distill_metrics.errors import EmptyTextError, SettingError, ShapeError
from distill_metrics.log_probs import likelihood_statistics
from distill_metrics.names import ENCODER_METRIC_NAMES, check_metric_names, lower_is_better
from distill_metrics.results import MetricResult, Reference, Statistics
from distill_metrics.scoring import Settings
from distill_metrics.slices import Slicing, share_kept, slice_rows
from distill_metrics.table import metric_named
from distill_metrics.texts import pair

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Predictions = Mapping[str, Sequence[str]]
"""For the name of each system its predictions, in the order of the examples."""
LogProbs = Mapping[str, Sequence[Sequence[float]]]
"""For the name of each system the log-probabilities of the right tokens of each example."""
Scores = dict[str, MetricResult]
"""For each metric its result."""

# The share of whole answers that are right has two names.
_SAME_AS = {"accuracy": "exact_match"}


@dataclass(frozen=True, kw_only=True)
class SliceReport:
    """What was measured on a set of examples.

    Attributes:
        n: Number of examples.
        scores: For each system its metrics; one that is undefined on these examples is missing.
        comparisons: The pairs of systems, metric by metric.
    """

    n: int
    scores: dict[str, Scores]
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, object]:
        """A plain dictionary for JSON: ``n systems comparisons``."""
        return {
            "n": self.n,
            "systems": {name: to_plain(scores) for name, scores in self.scores.items()},
            "comparisons": [one.to_dict() for one in self.comparisons],
        }

    def between(self, first: str, second: str) -> dict[str, Comparison]:
        """The comparison of two systems in each metric; empty where the pair was not asked for."""
        return {
            one.metric: one for one in self.comparisons if (one.first, one.second) == (first, second)
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SystemsReport(SliceReport):
    """What was measured on all examples and on slices of them.

    Attributes:
        retention: For each student the share of its teacher's score that it keeps, in each metric of which
            more is better and in which the teacher does not score 0.
        slices: For the name of each slice what was measured on it.
    """

    retention: dict[str, Scores] = field(default_factory=dict)
    slices: dict[str, SliceReport] = field(default_factory=dict)

    @property
    def ranked_by(self) -> str | None:
        """The first metric that has a value an example, or None: :meth:`worst_rows` sorts by it."""
        scores = next(iter(self.scores.values()))
        return next((name for name, one in scores.items() if one.per_example is not None), None)

    def worst_rows(self, count: int, *, system: str | None = None) -> tuple[int, ...]:
        """Numbers of the examples that a system does worst by :attr:`ranked_by`, worst first.

        Of equally bad ones first those that the other systems do best.

        Args:
            count: How many at most.
            system: Its name; None takes the first.
        """
        metric = self.ranked_by
        if metric is None:
            return ()
        columns = {name: scores[metric].per_example or () for name, scores in self.scores.items()}
        own = columns.pop(next(iter(columns)) if system is None else system)
        sign = -1.0 if lower_is_better(metric) else 1.0

        def badness(row: int) -> tuple[float, float]:
            return sign * own[row], -sign * sum(column[row] for column in columns.values())

        return tuple(sorted(range(len(own)), key=badness)[:count])

    def to_dict(self) -> dict[str, object]:
        """A plain dictionary for JSON: the keys of a slice, with ``retention`` and ``slices`` if any."""
        plain = super().to_dict()
        if self.retention:
            plain["retention"] = {name: to_plain(scores) for name, scores in self.retention.items()}
        if self.slices:
            plain["slices"] = {label: one.to_dict() for label, one in self.slices.items()}
        return plain


def to_plain(scores: Mapping[str, MetricResult]) -> dict[str, object]:
    """Results by metric as plain dictionaries for JSON."""
    return {name: result.to_dict() for name, result in scores.items()}


def measure_systems(
    predictions: Predictions,
    references: Sequence[Reference],
    *,
    metrics: Sequence[str],
    log_probs: LogProbs | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    teacher: str | Mapping[str, str] | None = None,
    slices: Slicing | None = None,
    samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    settings: Settings | None = None,
) -> SystemsReport:
    """Score systems on the same examples and compare them in pairs.

    Every value has a bootstrap interval, and every comparison is paired: all of them rest on the same
    resamples. In each metric p is adjusted for the number of pairs (Holm), in slices for all pairs of all.

    Args:
        predictions: For each system one text an example.
        references: One text or a list of texts an example.
        metrics: Names that :func:`score` takes; ``"accuracy"``, which is ``exact_match``; and ``"nll"``.
        log_probs: For each system what ``"nll"`` is computed from, as for :func:`score_log_probs`.
        pairs: Which systems are compared, ``(first, second)``; None compares every two.
        teacher: The system whose score the others keep a share of, or the teacher of each student.
        slices: Measure slices too: ``"length"`` of the references, or a value an example.
        samples: Bootstrap resamples.
        seed: Equal seeds give equal reports.
        confidence: Confidence of the intervals and decisions.
        settings: Settings of each metric.

    Raises:
        ShapeError: There is no system, texts do not pair up, or a pair or teacher is not among the systems.
        SettingError: ``"nll"`` without ``log_probs`` of each system, or a setting is unknown.
        Exception: What :func:`score` raises.

    Example:
        >>> from distill_metrics import measure_systems
        >>> references = ["a b c d"] * 30 + ["a b"] * 10
        >>> answers = {"student": ["a b c d"] * 40, "baseline": ["a b"] * 40}
        >>> report = measure_systems(answers, references, metrics=["exact_match"])
        >>> report.scores["student"]["exact_match"].value, report.comparisons[0].better
        (75.0, 'student')
    """
    asked = _Asked(
        metrics=_metrics(metrics, settings or {}),
        pairs=_pairs(predictions, pairs),
        samples=samples,
        seed=seed,
        confidence=confidence,
        settings=settings or {},
    )
    systems = _Systems(predictions, references, log_probs or {})
    systems.check(nll="nll" in asked.metrics)
    parts = {} if slices is None else slice_rows(references, slices)
    return _report(asked, systems, parts, _teachers(predictions, teacher))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is computed, on all examples and on each slice."""

    metrics: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    samples: int
    seed: int
    confidence: float
    settings: Settings


@dataclass(frozen=True)
class _Systems:
    """What every system gave for some examples."""

    predictions: Predictions
    references: Sequence[Reference]
    log_probs: LogProbs

    def check(self, *, nll: bool) -> None:
        """Refuse what does not pair up, before anything is computed."""
        for texts in self.predictions.values():
            pair(texts, self.references)
        if not nll:
            return
        missing = [name for name in self.predictions if name not in self.log_probs]
        if missing:
            raise SettingError(
                f"nll needs log_probs of every system; those of {missing[0]} are missing.",
                field="log_probs",
                found=tuple(self.log_probs),
                allowed=tuple(self.predictions),
            )
        lengths = {name: [len(row) for row in self.log_probs[name]] for name in self.predictions}
        first = next(iter(lengths))
        for name, tokens in lengths.items():
            if len(tokens) != len(self.references) or tokens != lengths[first]:
                raise ShapeError(
                    f"{name} has log-probabilities of {sum(tokens)} tokens in {len(tokens)} examples, "
                    f"{first} of {sum(lengths[first])} in {len(lengths[first])}; give those of the same "
                    f"tokens of all {len(self.references)} examples.",
                    field="log_probs",
                    found=tokens,
                    allowed=(lengths[first],),
                )

    def rows(self, rows: Sequence[int]) -> "_Systems":
        """The same of some of the examples."""
        return _Systems(
            {name: [texts[row] for row in rows] for name, texts in self.predictions.items()},
            [self.references[row] for row in rows],
            {name: [values[row] for row in rows] for name, values in self.log_probs.items()},
        )

    def statistics(self, metric: str, settings: Mapping[str, object] | None) -> dict[str, Statistics]:
        """Of each system what the value and its resamples follow from."""
        if metric == "nll":
            return {name: likelihood_statistics(self.log_probs[name]) for name in self.predictions}
        chosen = metric_named(_SAME_AS.get(metric, metric))
        return {
            name: chosen.statistics(texts, self.references, settings)
            for name, texts in self.predictions.items()
        }


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Scores, comparisons before p is adjusted, and the resampled values that they rest on."""

    scores: dict[str, Scores]
    comparisons: list[Comparison]
    resampled: "dict[tuple[str, str], NDArray[np.float64]]"


def _measure(asked: _Asked, systems: _Systems, *, lenient: bool = False) -> _Measured:
    """Everything on some examples; with ``lenient`` a metric that is undefined on them is left out."""
    from distill_metrics.bootstrap import percentile_interval, resampled_values

    found: dict[tuple[str, str], Statistics] = {}
    results: dict[tuple[str, str], MetricResult] = {}
    for metric in asked.metrics:
        try:
            statistics = systems.statistics(metric, asked.settings.get(metric))
            results |= {(name, metric): one.result() for name, one in statistics.items()}
        except EmptyTextError:
            if not lenient:
                raise
            continue
        found |= {(name, metric): one for name, one in statistics.items()}
    arrays = resampled_values(list(found.values()), samples=asked.samples, seed=asked.seed) if found else []
    resampled = dict(zip(found, arrays, strict=True))
    scores: dict[str, Scores] = {name: {} for name in systems.predictions}
    for (name, metric), values in resampled.items():
        interval = percentile_interval(values, confidence=asked.confidence)
        scores[name][metric] = replace(results[name, metric], interval=interval)
    comparisons = [
        undecided(
            (first, second),
            metric,
            results[first, metric].value - results[second, metric].value,
            resampled[first, metric] - resampled[second, metric],
            n=len(systems.references),
            confidence=asked.confidence,
        )
        for metric in asked.metrics
        for first, second in asked.pairs
        if (first, metric) in found
    ]
    return _Measured(scores=scores, comparisons=comparisons, resampled=resampled)


def _report(
    asked: _Asked, systems: _Systems, parts: Mapping[str, Sequence[int]], teachers: Mapping[str, str]
) -> SystemsReport:
    whole = _measure(asked, systems)
    cut = {label: _measure(asked, systems.rows(rows), lenient=True) for label, rows in parts.items()}
    (comparisons,) = _adjusted([whole.comparisons])
    families = _adjusted([one.comparisons for one in cut.values()])
    return SystemsReport(
        n=len(systems.references),
        scores=whole.scores,
        comparisons=comparisons,
        retention={name: _retention(whole, name, one, asked.confidence) for name, one in teachers.items()},
        slices={
            label: SliceReport(n=len(parts[label]), scores=one.scores, comparisons=family)
            for (label, one), family in zip(cut.items(), families, strict=True)
        },
    )


def _adjusted(groups: Sequence[Sequence[Comparison]]) -> list[tuple[Comparison, ...]]:
    """The groups, with p adjusted over all of them, metric by metric."""
    flat = [one for group in groups for one in group]
    for metric in dict.fromkeys(one.metric for one in flat):
        places = [place for place, one in enumerate(flat) if one.metric == metric]
        for place, one in zip(places, adjust_holm([flat[place] for place in places]), strict=True):
            flat[place] = one
    rest = iter(flat)
    return [tuple(next(rest) for _ in group) for group in groups]


def _retention(whole: _Measured, student: str, teacher: str, confidence: float) -> Scores:
    """Nothing is kept of an error rate, nor of a teacher who scores 0."""
    return {
        metric: share_kept(
            whole.scores[student][metric],
            result,
            whole.resampled[student, metric],
            whole.resampled[teacher, metric],
            confidence=confidence,
        )
        for metric, result in whole.scores[teacher].items()
        if result.value and not lower_is_better(metric)
    }


def _metrics(metrics: Sequence[str], settings: Settings) -> tuple[str, ...]:
    names = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
    also = (*ENCODER_METRIC_NAMES, *_SAME_AS, "nll")
    return check_metric_names((*names, *settings) if names else (), also=also)[: len(names)]


def _pairs(
    systems: Mapping[str, object], pairs: Sequence[tuple[str, str]] | None
) -> tuple[tuple[str, str], ...]:
    if not systems:
        raise ShapeError(
            "There is no system to measure; at least one is needed.", field="predictions", found={}
        )
    for first, second in pairs or ():
        if first == second:
            raise ShapeError(
                f"The pair names {first!r} twice; two different systems are needed.",
                field="pairs",
                found=(first, second),
            )
        for name in (first, second):
            _check_known(name, systems, "pairs")
    return tuple(combinations(systems, 2)) if pairs is None else tuple(pairs)


def _teachers(systems: Mapping[str, object], teacher: str | Mapping[str, str] | None) -> Mapping[str, str]:
    if isinstance(teacher, str):
        teacher = {name: teacher for name in systems if name != teacher} or {teacher: teacher}
    for student, name in (teacher or {}).items():
        _check_known(student, systems, "teacher")
        _check_known(name, systems, "teacher")
    return teacher or {}


def _check_known(name: str, systems: Mapping[str, object], argument: str) -> None:
    if name not in systems:
        raise ShapeError(
            f"{argument}: {name!r} is not one of the systems: {', '.join(systems)}.",
            field=argument,
            found=name,
            allowed=tuple(systems),
            suggestion=next(iter(difflib.get_close_matches(name, systems, n=1)), None),
        )
