"""How much faster is ROUGE-1/2/L with stemming than rouge_score, to the same digits?

    python benchmarks/metrics_rouge.py [PAIRS]

Needs distill-metrics and rouge-score. Passages of Python's own manual (``pydoc_data``), of which a fifth
of the words is dropped or replaced, against the originals. Both sides in turn, in one process. rouge_score
has one thread, rouge-score-rs one a core, so the seconds of all processors stand beside those of the clock.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

from rouge_score.rouge_scorer import RougeScorer

from distill_metrics import score

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
NAMES = ("rouge1", "rouge2", "rougeL")


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


WORDS = [word for word in " ".join(topics.values()).split() if word.strip("(.,;:)").isalpha()]


def passages(n: int) -> list[str]:
    """Passages of 20 to 64 words."""
    rng = random.Random(0)  # noqa: S311 - no secret
    starts = [rng.randrange(len(WORDS) - 64) for _ in range(n)]
    return [" ".join(WORDS[start : start + rng.randint(20, 64)]) for start in starts]


def changed(texts: list[str], rng: random.Random) -> list[str]:
    """The texts, with 7 % of the words dropped and 13 % replaced."""
    found = []
    for text in texts:
        said = []
        for word in text.split():
            chance = rng.random()
            if chance > 0.07:
                said.append(word if chance > 0.2 else rng.choice(WORDS))
        found.append(" ".join(said) or "nothing")
    return found


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Of one call, by the clock and of all processors."""
    clock, processors = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - processors


def main() -> None:
    """Print medians and ratios."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    references = passages(n)
    predictions = changed(references, random.Random(1))  # noqa: S311 - no secret
    scorer = RougeScorer(list(NAMES), use_stemmer=True)
    theirs = [scorer.score(right, text) for text, right in zip(predictions, references, strict=True)]
    ours = score(predictions, references, metrics=NAMES, interval=None)
    different = sum(
        mine != 100.0 * row[name].fmeasure
        for name in NAMES
        for mine, row in zip(ours[name].per_example or (), theirs, strict=True)
    )

    def reference() -> object:
        return [scorer.score(right, text) for text, right in zip(predictions, references, strict=True)]

    def here() -> object:
        from distill_metrics.rouge import _scores

        _scores.cache_clear()  # a fresh evaluation, not the one just made
        return score(predictions, references, metrics=NAMES, interval=None)

    rounds = [(seconds(reference), seconds(here)) for _ in range(ROUNDS)]
    print(f"{cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(
        f"rouge-score {version('rouge-score')}, rouge-score-rs {version('rouge-score-rs')}, {ROUNDS} rounds"
    )
    words = sum(len(text.split()) for text in references) / n
    print(f"{n} pairs of {words:.0f} words; {different} of {3 * n} values differ")
    for column, kind in enumerate(("clock", "processors")):
        slow, fast = ([one[side][column] for one in rounds] for side in (0, 1))
        ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
        times = (
            f"rouge_score {statistics.median(slow):.3f} s, distill_metrics {statistics.median(fast):.3f} s"
        )
        print(f"{kind:10}  {times}: {statistics.median(ratios):.1f} x ({ratios[0]:.1f} to {ratios[-1]:.1f})")


if __name__ == "__main__":
    main()
