"""What a metric gives back, and the numbers it is made from."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from distill_metrics.errors import EmptyTextError

Unit = Literal["percent", "ratio", "nats"]

Reference = str | Sequence[str]
"""The reference of one example, or the list of those that count as right for it."""


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """One value of one metric over a set of examples.

    Attributes:
        value: The value over all examples, in ``unit``.
        unit: What ``value``, ``per_example`` and ``interval`` are measured in.
        n: Number of examples.
        signature: Every setting and version that the value depends on.
        per_example: The value of each example, in order; None where the metric has none (BLEU).
        interval: Bounds of the bootstrap interval, when one was asked for.
        empty_predictions: How many predictions held nothing to count; each scored 0 (error rate: all wrong).
        tokens: How many tokens were scored, where that is what the value is a mean over (perplexity).
    """

    value: float
    unit: Unit
    n: int
    signature: str
    per_example: tuple[float, ...] | None = None
    interval: tuple[float, float] | None = None
    empty_predictions: int = 0
    tokens: int | None = None

    def to_dict(self) -> dict[str, object]:
        """A plain dictionary for JSON, without the values of each example.

        Holds ``value unit n signature interval``; ``empty_predictions`` and ``tokens`` when there are any.
        """
        plain: dict[str, object] = {
            "value": self.value,
            "unit": self.unit,
            "n": self.n,
            "signature": self.signature,
            "interval": None if self.interval is None else list(self.interval),
        }
        if self.empty_predictions:
            plain["empty_predictions"] = self.empty_predictions
        if self.tokens is not None:
            plain["tokens"] = self.tokens
        return plain


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Sufficient statistics of a metric: the value of any set of examples follows from the sum of their rows.

    Attributes:
        rows: One row of numbers an example, all of the same width.
        value: The metric of a summed row, in ``unit``.
        is_ratio: True when ``value`` is ``100 * row[0] / row[1]``, computed for many sums at once.
        per_example: Whether the value of a single row means something.
        signature: Every setting and version.
        empty_predictions: Predictions that hold nothing to count.
        undefined: Why the metric has no value on these examples, or None where it has one.
        unit: Unit of the value.
    """

    rows: Sequence[Sequence[float]]
    value: Callable[[Sequence[float]], float]
    is_ratio: bool
    per_example: bool
    signature: str
    empty_predictions: int
    undefined: str | None = None
    unit: Unit = "percent"

    def joined(self, other: "Statistics") -> str:
        """The signature of both together: sacrebleu's names the number of references, which may differ."""
        if self.signature == other.signature:
            return self.signature
        return re.sub(r"nrefs:\w+", "nrefs:var", self.signature)

    def result(self, *, interval: tuple[float, float] | None = None) -> MetricResult:
        """The metric over all rows.

        Raises:
            EmptyTextError: It is undefined.
        """
        if self.undefined is not None:
            raise EmptyTextError(self.undefined, field="references")
        total = [math.fsum(column) for column in zip(*self.rows, strict=True)]
        return MetricResult(
            value=float(self.value(total)),
            unit=self.unit,
            n=len(self.rows),
            signature=self.signature,
            per_example=tuple(float(self.value(row)) for row in self.rows) if self.per_example else None,
            interval=interval,
            empty_predictions=self.empty_predictions,
        )


def ratio_percent(row: Sequence[float]) -> float:
    """``100 * row[0] / row[1]``."""
    return 100.0 * row[0] / row[1]


@cache
def version_of(distribution: str) -> str:
    """The installed version of a distribution, read once."""
    from importlib.metadata import version

    return version(distribution)
