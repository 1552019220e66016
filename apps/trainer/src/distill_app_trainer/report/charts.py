"""What the report draws: SVG shapes and marked words, ready for a template."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill_app_trainer.report.results import StageResult, SystemResult, TrainResult

WIDTH, HEIGHT = 640, 240
_COLOURS = 8  # of more curves only the losses are drawn, without their parts
_LEFT, _BOTTOM, _TOP, _RIGHT = 56, 32, 12, 16


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what stands there."""

    place: float
    text: str


@dataclass(frozen=True)
class Axes:
    """A plane to draw on.

    Attributes:
        x: From and to.
        y: From and to.
    """

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the picture."""
        (left, right), (low, high) = self.x, self.y
        across = (x - left) / ((right - left) or 1)
        up = (y - low) / ((high - low) or 1)
        return (
            round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1),
            round(HEIGHT - _BOTTOM - up * (HEIGHT - _BOTTOM - _TOP), 1),
        )

    def x_ticks(self) -> list[Tick]:
        """Marks along the bottom."""
        return [Tick(self.at(value, self.y[0])[0], f"{value:,.4g}") for value in _steps(*self.x)]

    def y_ticks(self) -> list[Tick]:
        """Marks along the left."""
        return [Tick(self.at(self.x[0], value)[1], f"{value:,.4g}") for value in _steps(*self.y)]


def _steps(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``, three to seven of them."""
    rough = (high - low) / 4 or 1.0
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


@dataclass(frozen=True)
class Line:
    """A curve with its name."""

    name: str
    points: str
    first: float
    last: float


@dataclass(frozen=True)
class Curves:
    """Several curves on one plane."""

    axes: Axes
    lines: tuple[Line, ...]


def curves(stages: Mapping[str, StageResult]) -> Curves | None:
    """The training losses of a run, or None where there are none."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, entry in stages.items():
        parts = entry.curves if isinstance(entry, TrainResult) else {}
        for part, points in parts.items():
            if len(points) > 1:
                found[name if part == "loss" else f"{name}: {part}"] = list(points)
    if len(found) > _COLOURS:
        found = {name: points for name, points in found.items() if ": " not in name} or found
    if not found:
        return None
    values = [y for points in found.values() for _, y in points]
    return _drawn(found, y=(min(0.0, *values), max(values)))


def _drawn(found: Mapping[str, Sequence[tuple[float, float]]], y: tuple[float, float]) -> Curves:
    """Points by name as lines, from 0 to the right."""
    axes = Axes(x=(0.0, max(x for points in found.values() for x, _ in points)), y=y)
    lines = [
        Line(
            name,
            " ".join(",".join(map(str, axes.at(across, up))) for across, up in points),
            points[0][1],
            points[-1][1],
        )
        for name, points in found.items()
    ]
    return Curves(axes, tuple(lines))


def reliability(systems: Mapping[str, SystemResult]) -> Curves | None:
    """How often each system is right by how sure it is, in percent; first the line of one that knows."""
    found: dict[str, list[tuple[float, float]]] = {"as sure as right": [(0.0, 0.0), (100.0, 100.0)]}
    for name, entry in systems.items():
        bins = entry.distribution.reliability if entry.distribution else ()
        if len(bins) > 1:
            found[name] = [(100 * one["confidence"], 100 * one["accuracy"]) for one in bins]
    return _drawn(found, y=(0.0, 100.0)) if len(found) > 1 else None


def places(
    systems: Mapping[str, SystemResult],
) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    """Heads and rows of a table: of each student how far it is from its teacher, by place in the text."""
    found = {
        name: {(int(one["first"]), int(one["last"])): one["kl"] for one in entry.distribution.by_place}
        for name, entry in systems.items()
        if entry.distribution
    }
    spans = sorted({span for row in found.values() for span in row})
    heads = [str(first + 1) if first == last else f"{first + 1} to {last + 1}" for first, last in spans]
    return heads, [(name, [row.get(span) for span in spans]) for name, row in found.items() if row]


@dataclass(frozen=True)
class Dot:
    """A system in the plane of cost and quality, with its interval; one of another run is only hinted at.

    Named are those whose name does not lie on that of one before.
    """

    name: str
    x: float
    y: float
    low: float
    high: float
    other: bool
    named: bool


@dataclass(frozen=True)
class Trade:
    """Quality against size or time."""

    metric: str
    cost: str
    axes: Axes
    dots: tuple[Dot, ...]


COSTS: Mapping[str, tuple[str, float]] = {"MB": ("bytes", 1e-6), "ms an example": ("ms_per_example", 1.0)}
"""What a system costs: the field of its entry, and the unit."""


def trade(
    systems: Mapping[str, SystemResult],
    others: Mapping[str, Mapping[str, SystemResult]] | None = None,
    *,
    cost: str = "MB",
) -> Trade | None:
    """Every system by its cost and the first metric that all of them have; None for fewer than two.

    Args:
        systems: Of this run.
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
    costs = {name: unit * getattr(entry, field) for name, entry in every.items()}
    values = {name: entry.metrics[metric] for name, entry in every.items()}
    bounds = {name: value.interval or (value.value, value.value) for name, value in values.items()}
    axes = Axes(
        x=(0.0, 1.1 * max(costs.values())), y=(0.0, 1.1 * max(high for _, high in bounds.values()) or 1.0)
    )
    dots: list[Dot] = []
    for name, cost_of in costs.items():
        across, up = axes.at(cost_of, values[name].value)
        free = not any(one.named and _overlap(one, across, up, name) for one in dots)
        low, high = (axes.at(cost_of, bound)[1] for bound in bounds[name])
        dots.append(Dot(name, across, up, low, high, other=name in more, named=free and name not in more))
    return Trade(metric, cost, axes, tuple(dots))


def _overlap(dot: Dot, across: float, up: float, name: str) -> bool:
    """Whether the name of another dot would lie on that of this one; letters are about 7 wide."""
    return abs(dot.y - up) < 12 and abs(dot.x - across) < 7 * max(len(dot.name), len(name))


def marked(answer: str, right: str | Sequence[str]) -> list[tuple[str, bool]]:
    """Words of an answer, and whether each stands in the nearest right one too."""
    words = answer.split()
    options = [right] if isinstance(right, str) else list(right)
    matchers = [difflib.SequenceMatcher(None, words, option.split(), autojunk=False) for option in options]
    if not matchers:
        return [(word, False) for word in words]
    best = max(matchers, key=lambda matcher: matcher.ratio())
    kept = {index for block in best.get_matching_blocks() for index in range(block.a, block.a + block.size)}
    return [(word, index in kept) for index, word in enumerate(words)]
