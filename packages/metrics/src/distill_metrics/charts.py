"""Charts of systems as shapes for an SVG template: curves, reliability diagrams, quality against cost.

Nothing here draws: each function gives coordinates within ``WIDTH`` by ``HEIGHT`` and labels, so that a page
needs neither a plotting library nor a script, and colours and fonts stay its own.
"""

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 240
_LEFT, _BOTTOM, _TOP, _RIGHT = 56, 32, 12, 16
_LETTER_WIDTH = 7  # of a label, about


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and its label."""

    place: float
    text: str


@dataclass(frozen=True)
class Axes:
    """A plane to draw on.

    Attributes:
        x: The first and the last value of the horizontal axis.
        y: The first and the last value of the vertical axis.
    """

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is in the picture; SVG counts from the top."""
        (left, right), (low, high) = self.x, self.y
        across = (x - left) / ((right - left) or 1)
        up = (y - low) / ((high - low) or 1)
        return (
            round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1),
            round(HEIGHT - _BOTTOM - up * (HEIGHT - _BOTTOM - _TOP), 1),
        )

    def x_ticks(self) -> list[Tick]:
        """Marks along the bottom."""
        return [Tick(self.at(value, self.y[0])[0], f"{value:,.4g}") for value in _round_steps(*self.x)]

    def y_ticks(self) -> list[Tick]:
        """Marks along the left."""
        return [Tick(self.at(self.x[0], value)[1], f"{value:,.4g}") for value in _round_steps(*self.y)]


def _round_steps(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``, three to seven of them."""
    rough = (high - low) / 4 or 1.0
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: The label of the axis.
        points: ``x,y x,y ...``, for the attribute ``points`` of an SVG polyline.
        first: The first value of the axis.
        last: The last value of the axis.
    """

    name: str
    points: str
    first: float
    last: float


@dataclass(frozen=True)
class Curves:
    """Several curves on one plane."""

    axes: Axes
    lines: tuple[Line, ...]


def line_chart(
    points: Mapping[str, Sequence[tuple[float, float]]], *, y: tuple[float, float] | None = None
) -> Curves | None:
    """Draw curves from 0 to the right.

    Args:
        points: For the name of each curve its ``(x, y)``, from left to right; curves of fewer than two are
            left out.
        y: The first and the last value of the vertical axis; None takes 0 and what the curves need.

    Returns:
        None where no curve is left.
    """
    kept = {name: row for name, row in points.items() if len(row) > 1}
    if not kept:
        return None
    values = [value for row in kept.values() for _, value in row]
    low, high = y or (min(0.0, *values), max(values))
    axes = Axes(x=(0.0, max(x for row in kept.values() for x, _ in row)), y=(low, high))
    lines = (
        Line(name, " ".join(",".join(map(str, axes.at(*one))) for one in row), row[0][1], row[-1][1])
        for name, row in kept.items()
    )
    return Curves(axes, tuple(lines))


def reliability_diagram(bins: Mapping[str, Sequence[tuple[float, float]]]) -> Curves | None:
    """Draw how often each system is right against how confident it is, in percent.

    Args:
        bins: For each system the ``(confidence, accuracy)`` of its bins, 0 to 1; one with fewer than two is
            left out.

    Returns:
        First the diagonal of a perfectly calibrated system; None where no system is left.

    Source:
        Guo et al. 2017, figure 1, arXiv:1706.04599.
    """
    kept = {name: [(100 * x, 100 * y) for x, y in row] for name, row in bins.items() if len(row) > 1}
    diagonal = {"perfectly calibrated": [(0.0, 0.0), (100.0, 100.0)]}
    return line_chart(diagonal | kept, y=(0.0, 100.0)) if kept else None


@dataclass(frozen=True)
class Dot:
    """A system in the plane of cost and quality, with its interval.

    Attributes:
        name: The system.
        x: Where its cost lies.
        y: Where its value lies.
        low: Where the lower end of its interval lies.
        high: Where the upper end lies.
        other: Whether it is only drawn for comparison.
        named: Whether there is room for its label beside those before it.
    """

    name: str
    x: float
    y: float
    low: float
    high: float
    other: bool
    named: bool


@dataclass(frozen=True)
class Scatter:
    """Systems on one plane."""

    axes: Axes
    dots: tuple[Dot, ...]


def cost_chart(
    costs: Mapping[str, float],
    values: Mapping[str, tuple[float, float, float]],
    *,
    others: Collection[str] = (),
) -> Scatter:
    """Draw the quality of systems against their cost.

    Args:
        costs: For each system its cost, at least 0.
        values: For each system its value with the ends of its interval: ``(value, low, high)``.
        others: Systems that are only drawn for comparison, without a label.
    """
    highest = max(high for _, _, high in values.values())
    axes = Axes(x=(0.0, 1.1 * max(costs.values())), y=(0.0, 1.1 * highest or 1.0))
    dots: list[Dot] = []
    for name, cost in costs.items():
        value, low, high = values[name]
        x, y = axes.at(cost, value)
        free = not any(dot.named and _overlap(dot, x, y, name) for dot in dots)
        bottom, top = (axes.at(cost, end)[1] for end in (low, high))
        dots.append(Dot(name, x, y, bottom, top, other=name in others, named=free and name not in others))
    return Scatter(axes, tuple(dots))


def _overlap(dot: Dot, x: float, y: float, name: str) -> bool:
    """Whether the label of another dot would lie on that of this one."""
    return abs(dot.y - y) < 12 and abs(dot.x - x) < _LETTER_WIDTH * max(len(dot.name), len(name))


def mark_words(prediction: str, reference: str | Sequence[str]) -> list[tuple[str, bool]]:
    """Say for each word of a prediction whether it also stands in the nearest reference, in the same order.

    Args:
        prediction: A text.
        reference: A text, or several of which the nearest counts.
    """
    words = prediction.split()
    options = [reference] if isinstance(reference, str) else list(reference)
    matchers = [difflib.SequenceMatcher(None, words, option.split(), autojunk=False) for option in options]
    if not matchers:
        return [(word, False) for word in words]
    best = max(matchers, key=lambda matcher: matcher.ratio())
    kept = {index for block in best.get_matching_blocks() for index in range(block.a, block.a + block.size)}
    return [(word, index in kept) for index, word in enumerate(words)]
