"""Scores of one system, each with the interval of a bootstrap over examples."""

from collections.abc import Mapping, Sequence

from distill_metrics.log_probs import likelihood_statistics
from distill_metrics.names import ENCODER_METRIC_NAMES, check_metric_names
from distill_metrics.results import MetricResult, Reference
from distill_metrics.table import metric_named

Settings = Mapping[str, Mapping[str, object]]
"""For a metric's name the settings of its function."""


def score(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    metrics: Sequence[str],
    interval: float | None = 0.95,
    samples: int = 2000,
    seed: int = 0,
    settings: Settings | None = None,
) -> dict[str, MetricResult]:
    """Score one system with several metrics, each with the percentile interval of a bootstrap over examples.

    Args:
        predictions: One text an example.
        references: One text or a list of texts an example.
        metrics: Names that :func:`metric_names` gives, or of BERTScore, such as ``"bertscore_f1"``.
        interval: Confidence of the intervals, or None for none.
        samples: Bootstrap resamples.
        seed: Equal seeds give equal intervals.
        settings: Settings of each metric, such as ``{"rougeL": {"tokenizer": "unicode"}}``.

    Raises:
        UnknownMetricError: A metric does not exist; the nearest is named.
        ShapeError: Predictions and references do not pair up.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A reference holds nothing that the metric could count.
        SettingError: A setting is unknown, ``interval`` is not between 0 and 1, or ``samples`` is not
            positive.

    Example:
        >>> from distill_metrics import score
        >>> texts, references = ["a b c d", "e f"], ["a b c d", ["e g", "e f g"]]
        >>> results = score(texts, references, metrics=["wer", "exact_match"])
        >>> results["wer"].per_example, results["exact_match"].interval
        ((0.0, 33.33...), (0.0, 100.0))
    """
    names = check_metric_names(metrics, also=ENCODER_METRIC_NAMES)
    chosen = settings or {}
    check_metric_names(chosen or names, also=ENCODER_METRIC_NAMES)
    measured = {
        name: metric_named(name).statistics(predictions, references, chosen.get(name)) for name in names
    }
    if interval is None:
        return {name: statistics.result() for name, statistics in measured.items()}
    from distill_metrics.bootstrap import percentile_interval, resampled_values

    values = resampled_values(list(measured.values()), samples=samples, seed=seed)
    return {
        name: statistics.result(
            interval=percentile_interval(resampled, confidence=interval, field="interval")
        )
        for (name, statistics), resampled in zip(measured.items(), values, strict=True)
    }


def score_log_probs(
    log_probs: Sequence[Sequence[float]],
    *,
    interval: float | None = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> MetricResult:
    """Negative log-likelihood of the right tokens, in nats per token, with the interval of a bootstrap.

    Args:
        log_probs: For each example the natural log-probability of each of its right tokens, such as those
            under the masks of ``distill_adapters.mask_log_probs``.
        interval: Confidence of the interval, or None for none.
        samples: Bootstrap resamples, of examples.
        seed: Equal seeds give equal intervals.

    Raises:
        ShapeError: There are no examples.
        EmptyTextError: An example has no tokens.
        SettingError: A log-probability is positive or NaN.

    Example:
        >>> from distill_metrics import score_log_probs
        >>> result = score_log_probs([[-0.5, -0.25], [-1.5]])
        >>> result.value, result.unit, result.n
        (0.75, 'nats', 2)
    """
    from distill_metrics.bootstrap import percentile_interval, resampled_values

    statistics = likelihood_statistics(log_probs)
    if interval is None:
        return statistics.result()
    (resampled,) = resampled_values([statistics], samples=samples, seed=seed)
    return statistics.result(interval=percentile_interval(resampled, confidence=interval, field="interval"))
