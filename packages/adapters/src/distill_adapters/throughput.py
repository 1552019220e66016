"""The state of a training in a line: loss and its parts, their curve, tokens a second, memory, time left."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 12  # characters of a sparkline
_KEPT = 480  # losses; more are thinned out by half
_WINDOW_S = 20.0  # rates are those of the last seconds
PARTS = ("loss", "ce", "kd")


class Throughput:
    """Watches the steps of one stage.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._losses: list[float] = []
        self._seen: list[tuple[float, int, float]] = []  # when, step, tokens so far
        self._tokens = 0.0

    def take(self, facts: Mapping[str, float]) -> None:
        """Note a step: ``step``, ``total_steps``, and what is known of loss, ce, kd, tokens, memory_bytes."""
        now = self._clock()
        self._tokens += facts.get("tokens", 0.0)
        self._seen.append((now, int(facts["step"]), self._tokens))
        while len(self._seen) > 2 and now - self._seen[1][0] > _WINDOW_S:
            self._seen.pop(0)
        if "loss" in facts:
            self._losses.append(facts["loss"])
            if len(self._losses) > _KEPT:
                self._losses = self._losses[::2]

    def words(self, facts: Mapping[str, float]) -> str:
        """``loss 0.512  ce 0.600  kd 0.400  ▇▅▃▂▁  212 tokens/s  0.9 GB``."""
        parts = [f"{name} {facts[name]:.3f}" for name in PARTS if name in facts]
        if len(self._losses) > 1:
            parts.append(sparkline(self._losses))
        (first, _, before), (last, _, after) = self._seen[0], self._seen[-1]
        if after > before and last > first:
            parts.append(f"{(after - before) / (last - first):,.0f} tokens/s")
        if "memory_bytes" in facts:
            parts.append(f"{facts['memory_bytes'] / 1e9:.1f} GB")
        return "  ".join(parts)

    def left(self, step: int, total: int) -> str:
        """The time that is left at the rate of the last seconds, ``2:05``; nothing before a rate is known."""
        (first, begun, _), (last, done, _) = self._seen[0], self._seen[-1]
        if done <= begun:
            return ""
        seconds = round((last - first) / (done - begun) * (total - step))
        return f"{seconds // 60}:{seconds % 60:02d} left"


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """The curve of some values as bars, the mean of several in each; flat where they do not differ."""
    count = min(width, len(values))
    edges = [len(values) * number // count for number in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    if not high > low:  # also where a value is not finite
        return _BARS[0] * count
    return "".join(_BARS[round((mean - low) / (high - low) * (len(_BARS) - 1))] for mean in means)
