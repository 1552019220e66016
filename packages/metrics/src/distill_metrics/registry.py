"""Metrics of other distributions, found by the entry point group ``distill_metrics.metrics``."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from distill_metrics.errors import EmptyTextError, RegisteredMetricError
from distill_metrics.results import Reference, Statistics, Unit, ratio_percent
from distill_metrics.texts import is_blank, pair

GROUP = "distill_metrics.metrics"


@dataclass(frozen=True, kw_only=True)
class TextMetric:
    """A metric of your own, as numbers that each text adds: so it has intervals and can be compared.

    Register one under the entry point group ``distill_metrics.metrics``. The name of the entry point works
    in the functions of this package, run files and ``distill-eval --metrics``. A function registered by
    itself is ``TextMetric(counts=function)``.

    Attributes:
        counts: Gives numbers for ``(prediction, references, *, settings)``, a text and a tuple of texts.
            Two numbers, such as errors and words, are summed over the texts and divided; one number
            is averaged. Keyword-only parameters are settings of the metric.
        value: Computes the metric from summed numbers, as many as ``counts`` gives; None divides the first
            by the second. A metric with its own ``value`` has none for a single text.
        unit: Unit of the metric. A quotient in ``"percent"`` is multiplied by 100.
        lower_is_better: True for error rates.
    """

    counts: Callable[..., float | Sequence[float]]
    value: Callable[[Sequence[float]], float] | None = None
    unit: Unit = "percent"
    lower_is_better: bool = False

    def statistics(
        self,
        name: str,
        predictions: Sequence[str],
        references: Sequence[Reference],
        **settings: object,
    ) -> Statistics:
        """The numbers of every example.

        Raises:
            ShapeError: Predictions and references do not pair up.
            TextTypeError: Something is not a ``str``.
            EmptyTextError: A text is divided by 0.
            RegisteredMetricError: ``counts`` gives something other than finite numbers, or not equally many.
        """
        pairs = pair(predictions, references)
        rows = [
            self._row(name, row, self.counts(text, rights, **settings))
            for row, (text, rights) in enumerate(zip(pairs.predictions, pairs.references, strict=True))
        ]
        if len({len(row) for row in rows}) > 1:
            raise RegisteredMetricError(
                f"The metric {name} counts {len(rows[0])} numbers for some texts and more or fewer "
                "for others; every text needs equally many.",
                field="counts",
            )
        percent = self.value is None and self.unit == "percent"
        return Statistics(
            rows=rows,
            value=ratio_percent if percent else self.value or _ratio,
            is_ratio=percent,
            per_example=self.value is None,
            signature="|".join([name, _source(name), *(f"{key}:{value}" for key, value in settings.items())]),
            empty_predictions=sum(map(is_blank, pairs.predictions)),
            unit=self.unit,
        )

    def _row(self, name: str, row: int, counted: object) -> tuple[float, ...]:
        given: Sequence[Any] = counted if isinstance(counted, Sequence) else (counted, 1.0)
        try:
            numbers = tuple(float(one) for one in given)
        except (TypeError, ValueError):
            numbers = ()
        least = 2 if self.value is None else 1
        if len(numbers) < least or not all(map(math.isfinite, numbers)):
            raise RegisteredMetricError(
                f"The metric {name} counts {counted!r} for example {row}; a number or a sequence of at least "
                f"{least} finite numbers is needed.",
                field="counts",
                found=counted,
            )
        if self.value is None and (len(numbers) > 2 or numbers[1] <= 0.0):
            raise EmptyTextError(
                f"The metric {name} counts {counted!r} for example {row}; two numbers are needed, the "
                "second one positive, because the first is divided by it. Remove the example.",
                field="references",
                found=counted,
            )
        return numbers


def _ratio(row: Sequence[float]) -> float:
    return row[0] / row[1]


def registered_names() -> tuple[str, ...]:
    """Names of the metrics that installed distributions register; none of them is imported."""
    return tuple(sorted(_found(tuple(sys.path))))


def registered_metric(name: str) -> TextMetric | None:
    """The registered metric of this name, imported now, or None.

    Raises:
        RegisteredMetricError: It cannot be imported, is neither a :class:`TextMetric` nor a function, or two
            distributions register the name.
    """
    entries = _found(tuple(sys.path)).get(name, ())
    if not entries:
        return None
    if len(entries) > 1:
        raise RegisteredMetricError(
            f"{' and '.join(map(_described, entries))} register a metric {name!r}; uninstall one of them.",
            field="metrics",
            found=name,
        )
    return _loaded(entries[0])


@lru_cache(maxsize=1)
def _found(path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:  # noqa: ARG001 - the cache key
    """Different entry points by name; a distribution that lies on the path twice counts once."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=GROUP):
        others = found.get(entry.name, ())
        if entry not in others:
            found[entry.name] = (*others, entry)
    return found


@lru_cache
def _loaded(entry: EntryPoint) -> TextMetric:
    try:
        found: object = entry.load()
    except Exception as error:
        raise RegisteredMetricError(
            f"The metric {entry.name!r} of {_described(entry)} cannot be imported: {error}.",
            field="metrics",
            found=entry.name,
        ) from error
    if isinstance(found, TextMetric):
        return found
    if not callable(found):
        raise RegisteredMetricError(
            f"The metric {entry.name!r} of {_described(entry)} is a {type(found).__name__}; a TextMetric or "
            "a function is needed.",
            field="metrics",
            found=entry.name,
        )
    return TextMetric(counts=cast("Callable[..., float | Sequence[float]]", found))


def _described(entry: EntryPoint) -> str:
    return entry.value if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _source(name: str) -> str:
    entries = _found(tuple(sys.path)).get(name, ())
    return _described(entries[0]) if entries else "unregistered"
