"""Perplexity and negative log-likelihood of tokens whose log-probabilities are known."""

import math
from collections.abc import Sequence

from distill_metrics.errors import EmptyTextError, SettingError, ShapeError
from distill_metrics.results import MetricResult, Statistics


def perplexity_from_log_probs(log_probs: Sequence[Sequence[float]]) -> MetricResult:
    """Perplexity of tokens whose log-probabilities are known: ``exp`` of minus their mean.

    Args:
        log_probs: For each example the natural log-probability of each of its tokens.

    Raises:
        ShapeError: There are no examples.
        EmptyTextError: An example has no tokens.
        SettingError: A log-probability is positive or NaN.

    Example:
        >>> import math
        >>> from distill_metrics import perplexity_from_log_probs
        >>> result = perplexity_from_log_probs([[math.log(0.5), math.log(0.5)], [math.log(0.125)]])
        >>> round(result.value, 4), result.tokens
        (3.1748, 3)
    """
    return perplexity_of_sums(_sums(log_probs), "perplexity|of given log-probabilities")


def likelihood_statistics(log_probs: Sequence[Sequence[float]]) -> Statistics:
    """Negative log-likelihood, nats a token, of tokens whose log-probabilities are known."""
    sums = _sums(log_probs)
    _refuse_nothing(sums)
    return Statistics(
        rows=sums,
        value=lambda row: row[0] / row[1],
        is_ratio=False,
        per_example=True,
        signature="nll|of given log-probabilities",
        empty_predictions=0,
        unit="nats",
    )


def _sums(log_probs: Sequence[Sequence[float]]) -> list[tuple[float, int]]:
    """Of each example what it lost, nats, and its tokens."""
    for row, values in enumerate(log_probs):
        for value in values:
            if not value <= 0.0:
                raise SettingError(
                    f"Example {row} holds the log-probability {value}; it is at most 0.",
                    field="log_probs",
                    found=value,
                )
    return [(-math.fsum(values), len(values)) for values in log_probs]


def _refuse_nothing(sums: Sequence[tuple[float, int]]) -> None:
    if not sums:
        raise ShapeError(
            "There are no examples to score; at least one is needed.", field="log_probs", found=0
        )
    for row, (lost, count) in enumerate(sums):
        if not count:
            raise EmptyTextError(
                f"Example {row} has no token to score. Remove it.", field="log_probs", found=row
            )
        if math.isnan(lost):
            raise ValueError(f"The model gives a token of example {row} the probability NaN.")


def perplexity_of_sums(sums: Sequence[tuple[float, int]], signature: str) -> MetricResult:
    """Perplexity of examples, each with its negative log-likelihood in nats and its number of tokens."""
    _refuse_nothing(sums)
    tokens = sum(count for _, count in sums)
    return MetricResult(
        value=_exp(math.fsum(lost for lost, _ in sums) / tokens),
        unit="ratio",
        n=len(sums),
        signature=signature,
        per_example=tuple(_exp(lost / count) for lost, count in sums),
        tokens=tokens,
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 709.0 else math.inf
