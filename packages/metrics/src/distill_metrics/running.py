"""Metrics in the shape of Hugging Face's ``evaluate``: fed in batches, computed at the end, offline."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from distill_metrics.errors import MissingExtraError, SettingError, ShapeError
from distill_metrics.names import (
    ENCODER_METRIC_NAMES,
    METRIC_GROUPS,
    check_metric_names,
    lower_is_better,
)
from distill_metrics.results import MetricResult, Reference, Statistics
from distill_metrics.table import metric_named

if TYPE_CHECKING:
    from evaluate import Metric as EvaluateMetric


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """A description of a metric.

    Attributes:
        name: Name of the metric.
        description: What it computes, its settings, errors and source.
        unit: Unit of its value.
        lower_is_better: True for error rates.
        settings: Those that were given, by name.
    """

    name: str
    description: str
    unit: str
    lower_is_better: bool
    settings: dict[str, object]


def load_metric(name: str, **settings: object) -> "RunningMetric":
    """Load a metric in the shape of ``evaluate.load``, without its hub.

    Args:
        name: A name that :func:`score` takes, or a group: ``"rouge"``.
        settings: Settings of the metric's function.

    Raises:
        UnknownMetricError: There is no such metric; the nearest is named.

    Example:
        >>> from distill_metrics import load_metric
        >>> rouge = load_metric("rouge")
        >>> rouge.add_batch(predictions=["the cat sat"], references=["the cat slept"])
        >>> {name: round(value, 2) for name, value in rouge.compute().items()}
        {'rouge1': 66.67, 'rouge2': 50.0, 'rougeL': 66.67, 'rougeLsum': 66.67}
    """
    return RunningMetric(name, settings)


class RunningMetric:
    """A metric that is fed batch by batch and keeps a few numbers an example, never the texts.

    Attributes:
        name: As it was loaded.
        info: What it is, one entry a metric; several for a group.
    """

    def __init__(self, name: str, settings: dict[str, object]) -> None:
        check_metric_names((name,), also=(*ENCODER_METRIC_NAMES, *METRIC_GROUPS))
        self.name = name
        self._settings = dict(settings)
        self._sums = {one: _Gathered() for one in METRIC_GROUPS.get(name, (name,))}
        self.info = tuple(
            MetricInfo(
                name=one,
                description=metric_named(one).function.__doc__ or "",
                unit=metric_named(one).unit,
                lower_is_better=lower_is_better(one),
                settings=self._settings,
            )
            for one in self._sums
        )

    def __len__(self) -> int:
        """How many examples were added since the last result."""
        return len(next(iter(self._sums.values())))

    def add(self, *, prediction: str, reference: Reference) -> None:
        """One example; raises as :meth:`add_batch`."""
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Sequence[str], references: Sequence[Reference]) -> None:
        """Count some examples.

        Raises:
            SettingError: A second batch with ``idf``, whose weights need all references at once.
            Exception: What the metric's function raises.
        """
        if len(self) and self._settings.get("idf"):
            raise SettingError(
                "idf weighs tokens by all references: give them in one batch, or set idf=False.",
                field="idf",
                found=True,
                suggestion=False,
            )
        batch = {
            name: metric_named(name).statistics(predictions, references, self._settings)
            for name in self._sums
        }
        for name, statistics in batch.items():
            self._sums[name].add(statistics)

    def results(self) -> dict[str, MetricResult]:
        """The results over all examples so far, without the values of each.

        Raises:
            ShapeError: No example was added.
            EmptyTextError: The metric is undefined on these examples (BLEU of short references).
        """
        return {name: gathered.result() for name, gathered in self._sums.items()}

    def compute(
        self,
        *,
        predictions: Sequence[str] | None = None,
        references: Sequence[Reference] | None = None,
    ) -> dict[str, float]:
        """The values over these examples and all that were added before, which are then forgotten.

        Raises:
            ShapeError: Only one of the two was given, or there is no example.
            Exception: What :meth:`add_batch` and :meth:`results` raise.
        """
        if (predictions is None) != (references is None):
            raise ShapeError(
                "Predictions and references are needed together; one of them is missing.",
                field="references" if references is None else "predictions",
            )
        if predictions is not None and references is not None:
            self.add_batch(predictions=predictions, references=references)
        values = {name: result.value for name, result in self.results().items()}
        self._sums = {name: _Gathered() for name in self._sums}
        return values


class _Gathered:
    """Statistics of many batches, as one flat array of numbers."""

    def __init__(self) -> None:
        self._numbers = array("d")
        self._last: Statistics | None = None

    def __len__(self) -> int:
        return 0 if self._last is None else len(self._numbers) // len(self._last.rows[0])

    def add(self, batch: Statistics) -> None:
        for row in batch.rows:
            self._numbers.extend(row)
        before = self._last
        # One row is enough to know the width.
        self._last = replace(batch, rows=batch.rows[:1])
        if before is not None:
            self._last = replace(
                self._last,
                empty_predictions=before.empty_predictions + batch.empty_predictions,
                signature=before.joined(batch),
                undefined=before.undefined and batch.undefined,
            )

    def result(self) -> MetricResult:
        if self._last is None:
            raise ShapeError("No example was added; add some, or give predictions and references.")
        width = len(self._last.rows[0])
        rows = [self._numbers[start : start + width] for start in range(0, len(self._numbers), width)]
        return replace(self._last, rows=rows, per_example=False).result()


def evaluate_metric(name: str, *, cache_dir: str | None = None, **settings: object) -> "EvaluateMetric":
    """Make a real ``evaluate.Metric``, for ``evaluate.combine`` and everything else that takes one.

    Args:
        name: A name that :func:`score` takes.
        cache_dir: Folder in which ``evaluate`` keeps examples until it computes; None takes its default.
        settings: Settings of the metric's function; ``compute`` takes more.

    Raises:
        UnknownMetricError: There is no such metric; the nearest is named.
        MissingExtraError: The extra ``[evaluate]`` is not installed.

    Example:
        >>> from distill_metrics import evaluate_metric
        >>> metric = evaluate_metric("wer", cache_dir="evaluate-cache")
        >>> metric.compute(predictions=["the cat"], references=["the cat sat"])
        {'wer': 33.33...}
    """
    metric = metric_named(name)
    try:
        import datasets
        import evaluate
    except ImportError as error:
        raise MissingExtraError(f"{error}. Run: pip install 'distill-metrics[evaluate]'.") from error
    text = datasets.Value("string")

    def info(_: Any) -> Any:
        return evaluate.MetricInfo(
            description=metric.function.__doc__ or "",
            citation="",
            inputs_description="\npredictions: a text each. references: a text or a list of texts each.",
            features=[
                datasets.Features({"predictions": text, "references": datasets.List(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
        )

    def compute(_: Any, predictions: list[str], references: list[Reference], **given: object) -> Any:
        return {name: metric.statistics(predictions, references, {**settings, **given}).result().value}

    made = type(name, (evaluate.Metric,), {"_info": info, "_compute": compute})
    found: EvaluateMetric = made(cache_dir=cache_dir)
    return found
