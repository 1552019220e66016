"""What the report draws, from its typed results."""

from collections.abc import Mapping
from dataclasses import dataclass

from distill_app_trainer.report.results import StageResult, SystemResult, TrainResult
from distill_metrics.charts import Curves, Scatter, cost_chart, line_chart, reliability_diagram

_COLOURS = 8  # of more curves only the losses are drawn, without their parts
COSTS: Mapping[str, tuple[str, float]] = {"MB": ("bytes", 1e-6), "ms an example": ("ms_per_example", 1.0)}
"""The costs of a system: the field of its result, and the unit."""


def curves(stages: Mapping[str, StageResult]) -> Curves | None:
    """The training losses of a run, or None where there are none."""
    found = {
        name if part == "loss" else f"{name}: {part}": points
        for name, entry in stages.items()
        if isinstance(entry, TrainResult)
        for part, points in entry.curves.items()
        if len(points) > 1
    }
    if len(found) > _COLOURS:
        found = {name: points for name, points in found.items() if ": " not in name} or found
    return line_chart(found)


def reliability(systems: Mapping[str, SystemResult]) -> Curves | None:
    """The reliability diagram of the systems, or None where none has bins."""
    read = {name: entry.distribution for name, entry in systems.items() if entry.distribution}
    return reliability_diagram(
        {name: [(one["confidence"], one["accuracy"]) for one in read[name].reliability] for name in read}
    )


def places(
    systems: Mapping[str, SystemResult],
) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    """Heads and rows of a table: the distance of each student from its teacher, by place in the text."""
    found = {
        name: {(int(one["first"]), int(one["last"])): one["kl"] for one in entry.distribution.by_place}
        for name, entry in systems.items()
        if entry.distribution
    }
    spans = sorted({span for row in found.values() for span in row})
    heads = [str(first + 1) if first == last else f"{first + 1} to {last + 1}" for first, last in spans]
    return heads, [(name, [row.get(span) for span in spans]) for name, row in found.items() if row]


@dataclass(frozen=True)
class Trade:
    """Quality against size or time."""

    metric: str
    cost: str
    chart: Scatter


def trade(
    systems: Mapping[str, SystemResult],
    others: Mapping[str, Mapping[str, SystemResult]] | None = None,
    *,
    cost: str = "MB",
) -> Trade | None:
    """Every system by its cost and the first metric that all of them have; None for fewer than two.

    Args:
        systems: Systems of this run.
        others: Systems of other runs, by run and name; those without the metric are left out.
        cost: One of ``COSTS``.
    """
    first = next(iter(systems.values())).metrics if systems else {}
    shared = [metric for metric in first if all(metric in entry.metrics for entry in systems.values())]
    if len(systems) < 2 or not shared:
        return None
    metric, (field, unit) = shared[0], COSTS[cost]
    more = {
        f"{run}: {name}": entry
        for run, found in (others or {}).items()
        for name, entry in found.items()
        if metric in entry.metrics
    }
    every = {**more, **systems}
    values = {name: entry.metrics[metric] for name, entry in every.items()}
    chart = cost_chart(
        {name: unit * getattr(entry, field) for name, entry in every.items()},
        {name: (one.value, *(one.interval or (one.value, one.value))) for name, one in values.items()},
        others=more,
    )
    return Trade(metric, cost, chart)
