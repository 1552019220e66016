"""The table of metrics: for each name the function that scores, and the statistics it rests on."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from types import MappingProxyType

from distill_metrics import bertscore, corpus, edits, overlap, rouge
from distill_metrics.errors import SettingError, UnknownMetricError
from distill_metrics.names import ENCODER_METRIC_NAMES, check_metric_names, lower_is_better
from distill_metrics.registry import registered_metric
from distill_metrics.results import MetricResult, Reference, Statistics, Unit


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of texts.

    Attributes:
        name: Name of the metric.
        function: The public function, ``(predictions, references, *, settings) -> MetricResult``.
        measure: The same, but giving the statistics that intervals and comparisons resample.
        unit: Unit of its value.
    """

    name: str
    function: Callable[..., MetricResult]
    measure: Callable[..., Statistics]
    unit: Unit = "percent"

    @property
    def lower_is_better(self) -> bool:
        """True for error rates."""
        return lower_is_better(self.name)

    def statistics(
        self,
        predictions: Sequence[str],
        references: Sequence[Reference],
        settings: Mapping[str, object] | None = None,
    ) -> Statistics:
        """The statistics of every example under ``settings``, keywords of :attr:`function`.

        Raises:
            SettingError: The metric has no such setting, or needs an encoder and none is named.
        """
        import inspect

        given = dict(settings or {})
        allowed = [
            p.name for p in inspect.signature(self.function).parameters.values() if p.kind is p.KEYWORD_ONLY
        ]
        for key in given:
            if key not in allowed:
                options = ", ".join(allowed) or "none"
                raise SettingError(
                    f"The metric {self.name} has no setting {key!r}. Allowed: {options}.",
                    field=f"settings.{self.name}.{key}",
                    found=key,
                    allowed=allowed,
                    suggestion=next(iter(difflib.get_close_matches(key, allowed, n=1)), None),
                )
        if "encoder" in allowed and "encoder" not in given:
            raise SettingError(
                f"The metric {self.name} needs an encoder: "
                f"settings={{'{self.name}': {{'encoder': FOLDER}}}}.",
                field=f"settings.{self.name}.encoder",
            )
        return self.measure(predictions, references, **given)


_FUNCTIONS: tuple[tuple[Callable[..., MetricResult], Callable[..., Statistics]], ...] = (
    (rouge.rouge1, partial(rouge.rouge_statistics, "rouge1")),
    (rouge.rouge2, partial(rouge.rouge_statistics, "rouge2")),
    (rouge.rougeL, partial(rouge.rouge_statistics, "rougeL")),
    (rouge.rougeLsum, partial(rouge.rouge_statistics, "rougeLsum")),
    (corpus.bleu, corpus.bleu_statistics),
    (corpus.bleu_smoothed, partial(corpus.bleu_statistics, smoothing="floor")),
    (corpus.chrf, corpus.chrf_statistics),
    (corpus.chrfpp, partial(corpus.chrf_statistics, word_order=2)),
    (corpus.ter, corpus.ter_statistics),
    (overlap.exact_match, overlap.exact_match_statistics),
    (overlap.token_f1, overlap.token_f1_statistics),
    (edits.wer, partial(edits.edit_statistics, "wer")),
    (edits.per, partial(edits.edit_statistics, "per")),
    (edits.cer, partial(edits.edit_statistics, "cer")),
)

_ENCODER_FUNCTIONS: tuple[tuple[Callable[..., MetricResult], Callable[..., Statistics]], ...] = (
    (bertscore.bertscore_precision, partial(bertscore.bertscore_statistics, "bertscore_precision")),
    (bertscore.bertscore_recall, partial(bertscore.bertscore_statistics, "bertscore_recall")),
    (bertscore.bertscore_f1, partial(bertscore.bertscore_statistics, "bertscore_f1")),
)

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        function.__name__: Metric(name=function.__name__, function=function, measure=measure)
        for function, measure in _FUNCTIONS
    }
)
"""Every metric of texts that needs no model, by its name."""

ENCODER_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        function.__name__: Metric(name=function.__name__, function=function, measure=measure)
        for function, measure in _ENCODER_FUNCTIONS
    }
)
"""Every metric of texts that needs an encoder, by its name."""


def metric_named(name: str) -> Metric:
    """The metric of texts of this name.

    Raises:
        UnknownMetricError: There is none; the nearest is named.
    """
    check_metric_names((name,), also=ENCODER_METRIC_NAMES)
    own = METRICS.get(name) or ENCODER_METRICS.get(name)
    if own is not None:
        return own
    found = registered_metric(name)
    if found is None:
        raise UnknownMetricError(f"There is no metric {name!r} any more.", field="metrics", found=name)
    measure: Callable[..., Statistics] = partial(found.statistics, name)

    @wraps(found.counts)
    def function(*texts: object, **settings: object) -> MetricResult:
        return measure(*texts, **settings).result()

    return Metric(name=name, function=function, measure=measure, unit=found.unit)
