"""Paired comparisons of systems, which say when no difference is shown."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from distill_metrics.errors import SettingError, ShapeError
from distill_metrics.log_probs import likelihood_statistics
from distill_metrics.names import lower_is_better
from distill_metrics.results import Reference, Statistics
from distill_metrics.table import metric_named

Method = Literal["bootstrap", "randomization"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two systems on the same examples.

    Attributes:
        first: Name of one system.
        second: Name of the other.
        metric: The metric compared.
        difference: Value of ``first`` minus value of ``second``, in the metric's unit.
        interval: Bounds of the difference at ``confidence``.
        p: Probability of a difference at least this large if the systems were equal (two-sided; adjusted for
            the number of systems when it comes from :func:`compare_many`).
        better: The system that is better, or None when no difference is shown: when the interval holds 0 or
            ``p`` is at least ``1 - confidence``.
        confidence: Confidence of the interval and of the decision.
    """

    first: str
    second: str
    metric: str
    difference: float
    interval: tuple[float, float]
    p: float
    better: str | None
    confidence: float = 0.95

    def statement(self) -> str:
        """The comparison in one sentence."""
        low, high = self.interval
        numbers = (
            f"{self.metric} {self.first} - {self.second} = {self.difference:+.2f}, "
            f"{100 * self.confidence:g} % interval {low:+.2f} to {high:+.2f}, p = {self.p:.4f}"
        )
        if self.better is None:
            return f"No difference shown between {self.first} and {self.second} ({numbers})."
        other = self.second if self.better == self.first else self.first
        return f"{self.better} is better than {other} ({numbers})."

    def to_dict(self) -> dict[str, object]:
        """A plain dictionary for JSON: ``first second metric difference interval p better``."""
        return {
            "first": self.first,
            "second": self.second,
            "metric": self.metric,
            "difference": self.difference,
            "interval": list(self.interval),
            "p": self.p,
            "better": self.better,
        }


def compare(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[Reference],
    *,
    metric: str,
    names: tuple[str, str] = ("first", "second"),
    method: Method = "bootstrap",
    samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    settings: Mapping[str, object] | None = None,
) -> Comparison:
    """Compare two systems on the same examples: difference, interval, p, and which is better.

    Args:
        first: Predictions of one system.
        second: Predictions of the other, for the same examples.
        references: One text or a list of texts an example.
        metric: Name of the metric.
        names: Names of the two in the result.
        method: Where p comes from: a paired ``"bootstrap"``, or approximate ``"randomization"``. The interval
            is the bootstrap's.
        samples: Resamples, the same examples for both systems.
        seed: Equal seeds give equal comparisons.
        confidence: Confidence of the interval and of the decision.
        settings: Settings of the metric.

    Raises:
        UnknownMetricError: The metric does not exist; the nearest is named.
        ShapeError: Predictions and references do not pair up, or both names are the same.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A reference holds nothing that the metric could count.
        SettingError: A setting is unknown, ``confidence`` is not between 0 and 1, or ``samples`` is not
            positive.

    Example:
        >>> from distill_metrics import compare
        >>> references = ["K AE T", "D AO G", "S AH N"] * 40
        >>> student = ["K AE T", "D AO G", "S AH M"] * 40
        >>> baseline = ["K AE T", "D AA G", "S AH M"] * 40
        >>> result = compare(student, baseline, references, metric="per", names=("student", "baseline"))
        >>> result.better, round(result.difference, 2)
        ('student', -11.11)

    Source:
        Koehn 2004 for the resampling; Riezler and Maxwell 2005 for the shift to the null hypothesis, with one
        added to both counts. The randomisation's p is that of sacrebleu 2.6.0; its bootstrap takes absolute
        values before it centres, which makes p one-sided: half of ours where a difference is clear. p is
        never below ``2 ** (1 - n)``, the least that n examples exchanged between two systems can show.
    """
    _check_names(names)
    systems = {names[0]: first, names[1]: second}
    (comparison,) = compare_many(
        systems, references, metric=metric, baseline=names[1], method=method, samples=samples, seed=seed,
        confidence=confidence, settings=settings,
    )  # fmt: skip
    return comparison


def compare_many(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Reference],
    *,
    metric: str,
    baseline: str | None = None,
    method: Method = "bootstrap",
    samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    settings: Mapping[str, object] | None = None,
) -> tuple[Comparison, ...]:
    """Compare every other system with ``baseline``, with p adjusted for their number.

    Args:
        systems: Predictions by name, all for the same examples.
        references: One text or a list of texts an example.
        metric: Name of the metric.
        baseline: The system compared with; None takes the first.
        method: As in :func:`compare`.
        samples: Resamples, the same examples for all systems.
        seed: Equal seeds give equal comparisons.
        confidence: Confidence of each interval (not widened for their number) and of the decisions.
        settings: Settings of the metric.

    Returns:
        A comparison for each other system, in the order given: ``first`` is the system, ``second`` the
        baseline.

    Raises:
        ShapeError: Fewer than two systems, no system of the baseline's name, or texts that do not pair up.
        Exception: What :func:`compare` raises.

    Example:
        >>> from distill_metrics import compare_many
        >>> references = ["a b c d", "e f g h"] * 20
        >>> systems = {"baseline": ["a b", "e f"] * 20, "one": references, "two": ["a b c d", "e f"] * 20}
        >>> [(one.first, one.better) for one in compare_many(systems, references, metric="wer")]
        [('one', 'one'), ('two', 'two')]

    Source:
        Holm 1979 for the adjustment.
    """
    if method not in ("bootstrap", "randomization"):
        raise SettingError(
            f"There is no method {method!r}. Allowed: bootstrap, randomization.",
            field="method",
            found=method,
            allowed=("bootstrap", "randomization"),
            suggestion="bootstrap",
        )
    chosen = metric_named(metric)
    base = _baseline(systems, baseline)
    measured = {name: chosen.statistics(texts, references, settings) for name, texts in systems.items()}
    return _compared(measured, base, metric, method=method, samples=samples, seed=seed, confidence=confidence)


def compare_log_probs(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    *,
    names: tuple[str, str] = ("first", "second"),
    samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two systems by the negative log-likelihood of the same tokens, with a paired bootstrap.

    Args:
        first: The same as the argument of :func:`score_log_probs`.
        second: The same for the other system and the same tokens.
        names: Names of the two in the result.
        samples: Resamples, the same examples for both systems.
        seed: Equal seeds give equal comparisons.
        confidence: Confidence of the interval and of the decision.

    Raises:
        ShapeError: The two hold other numbers of examples or tokens, or have one name.
        EmptyTextError: An example has no tokens.
        SettingError: A log-probability is positive or NaN, or ``samples`` or ``confidence`` is out of range.

    Example:
        >>> from distill_metrics import compare_log_probs
        >>> student = [[-0.5, -0.25]] * 30 + [[-2.0]] * 10
        >>> baseline = [[-1.0, -0.75]] * 30 + [[-2.5]] * 10
        >>> result = compare_log_probs(student, baseline, names=("student", "baseline"))
        >>> round(result.difference, 4), result.better
        (-0.5, 'student')
    """
    _check_names(names)
    if [len(row) for row in first] != [len(row) for row in second]:
        raise ShapeError(
            f"{names[0]} has log-probabilities of {sum(map(len, first))} tokens in {len(first)} examples, "
            f"{names[1]} of {sum(map(len, second))} in {len(second)}; give those of the same tokens.",
            field="second",
        )
    measured = {name: likelihood_statistics(rows) for name, rows in zip(names, (first, second), strict=True)}
    (comparison,) = _compared(
        measured, names[1], "nll", method="bootstrap", samples=samples, seed=seed, confidence=confidence
    )
    return comparison


def _check_names(names: tuple[str, str]) -> None:
    if names[0] == names[1]:
        raise ShapeError(
            f"Both systems are called {names[0]!r}; two different names are needed.",
            field="names",
            found=names,
        )


def _compared(
    measured: Mapping[str, Statistics],
    base: str,
    metric: str,
    *,
    method: Method,
    samples: int,
    seed: int,
    confidence: float,
) -> tuple[Comparison, ...]:
    """Every other system against ``base``."""
    from distill_metrics.bootstrap import randomized_p, resampled_values

    others = [name for name in measured if name != base]
    arrays = resampled_values(list(measured.values()), samples=samples, seed=seed)
    resampled = dict(zip(measured, arrays, strict=True))
    values = {name: statistics.result().value for name, statistics in measured.items()}
    found = [
        undecided(
            (name, base),
            metric,
            values[name] - values[base],
            resampled[name] - resampled[base],
            n=len(measured[base].rows),
            confidence=confidence,
        )
        for name in others
    ]
    if method == "randomization":
        ps = [randomized_p(measured[name], measured[base], samples=samples, seed=seed) for name in others]
        least = _least_p(len(measured[base].rows))
        found = [replace(comparison, p=max(p, least)) for comparison, p in zip(found, ps, strict=True)]
    return adjust_holm(found)


def _baseline(systems: Mapping[str, Sequence[str]], baseline: str | None) -> str:
    if len(systems) < 2:
        raise ShapeError(
            f"{len(systems)} system was given; at least two are needed for a comparison.",
            field="systems",
            found=tuple(systems),
        )
    name = next(iter(systems)) if baseline is None else baseline
    if name not in systems:
        raise ShapeError(
            f"The baseline {name!r} is none of the systems: {', '.join(systems)}.",
            field="baseline",
            found=name,
            allowed=tuple(systems),
            suggestion=next(iter(difflib.get_close_matches(name, systems, n=1)), None),
        )
    return name


def undecided(
    names: tuple[str, str], metric: str, difference: float, resampled: object, *, n: int, confidence: float
) -> Comparison:
    """A comparison of two systems before p is adjusted and the better one named.

    Args:
        names: The two systems.
        metric: The metric.
        difference: Value of the first minus value of the second.
        resampled: The same of each resample, ``(samples,)``.
        n: Number of examples, which bounds p from below.
        confidence: Confidence of the interval and of the later decision.
    """
    import numpy as np

    from distill_metrics.bootstrap import at_least, percentile_interval

    values = np.asarray(resampled, dtype=np.float64)
    extreme = at_least(np.abs(values - values.mean()), abs(difference))
    return Comparison(
        first=names[0],
        second=names[1],
        metric=metric,
        difference=difference,
        interval=percentile_interval(values, confidence=confidence),
        p=max(float((extreme.sum() + 1) / (len(values) + 1)), _least_p(n)),
        better=None,
        confidence=confidence,
    )


def _least_p(n: int) -> float:
    """With n examples no exchange of outputs between two systems can be rarer than this."""
    return float(2.0 ** (1 - n))


def adjust_holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Adjust p for the number of comparisons (Holm), and decide each of them again.

    Args:
        comparisons: A family of comparisons whose p is not adjusted yet: everything that was tested to answer
            one question.

    Returns:
        The same comparisons with the larger p; ``better`` is None where no difference is shown any more.

    Example:
        >>> from distill_metrics import adjust_holm, compare
        >>> references, partly = ["a b"] * 6, ["a b"] * 2 + ["a c"] * 4
        >>> pairs = [compare(partly, references, references, metric=name) for name in ("wer", "chrf")]
        >>> [(round(one.p, 3), one.better) for one in pairs]
        [(0.031, 'second'), (0.031, 'second')]
        >>> [(round(one.p, 3), one.better) for one in adjust_holm(pairs)]
        [(0.062, None), (0.062, None)]

    Source:
        Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted = _holm([comparison.p for comparison in comparisons])
    return tuple(_decided(replace(one, p=p)) for one, p in zip(comparisons, adjusted, strict=True))


def _holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, running = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = running
    return adjusted


def _decided(comparison: Comparison) -> Comparison:
    low, high = comparison.interval
    if low <= 0.0 <= high or comparison.p >= 1.0 - comparison.confidence:
        return replace(comparison, better=None)
    first_wins = (comparison.difference < 0) == lower_is_better(comparison.metric)
    return replace(comparison, better=comparison.first if first_wins else comparison.second)
