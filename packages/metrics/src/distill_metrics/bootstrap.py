"""Resampling of examples, for intervals and paired comparisons."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from distill_metrics.errors import SettingError
from distill_metrics.results import Statistics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Values of a block of resamples: 8 MiB of counts whatever the number of examples.
_BLOCK = 1 << 20


def resampled_values(
    statistics: Sequence[Statistics], *, samples: int, seed: int
) -> list["NDArray[np.float64]"]:
    """The metric of ``samples`` bootstrap resamples, the same resamples for every entry.

    Args:
        statistics: One entry a system or metric, all over the same examples.
        samples: Number of resamples, each drawn with replacement and as large as the original.
        seed: Equal seeds give equal resamples.

    Returns:
        For each entry an array ``(samples,)``, in percent.

    Raises:
        SettingError: ``samples`` is not positive.

    Source:
        Efron and Tibshirani 1993; Koehn 2004 for the paired use.
    """
    import numpy as np

    if samples < 1:
        raise SettingError(
            f"{samples} bootstrap samples were asked for; at least 1 is needed.",
            field="samples",
            found=samples,
            suggestion=2000,
        )
    rows = [np.asarray(entry.rows, dtype=np.float64) for entry in statistics]
    parts: list[list[NDArray[np.float64]]] = [[] for _ in rows]
    for counts in _counts(len(rows[0]), samples=samples, seed=seed):
        for entry, matrix, part in zip(statistics, rows, parts, strict=True):
            part.append(_values(entry, counts @ matrix))
    return [np.concatenate(part) for part in parts]


def randomized_p(first: Statistics, second: Statistics, *, samples: int, seed: int) -> float:
    """Two-sided p of an approximate randomisation test: outputs of the two systems exchanged at random.

    Args:
        first: Statistics of one system.
        second: Of the other, over the same examples.
        samples: Number of random exchanges.
        seed: Equal seeds give equal p.

    Raises:
        SettingError: ``samples`` is not positive.

    Source:
        Noreen 1989; Riezler and Maxwell 2005, with one added to both counts as in sacrebleu.
    """
    import numpy as np

    if samples < 1:
        raise SettingError(
            f"{samples} random exchanges were asked for; at least 1 is needed.",
            field="samples",
            found=samples,
            suggestion=2000,
        )
    ours, theirs = (np.asarray(entry.rows, dtype=np.float64) for entry in (first, second))
    sums, moved = [side.sum(axis=0) for side in (ours, theirs)], theirs - ours

    def differences(change: "NDArray[np.float64]") -> "NDArray[np.float64]":
        return np.abs(_values(first, sums[0] + change) - _values(second, sums[1] - change))

    observed = float(differences(np.zeros((1, ours.shape[1])))[0])
    block, extreme, generator = max(1, min(samples, _BLOCK // len(ours))), 0, np.random.default_rng(seed)
    for start in range(0, samples, block):
        exchanged = generator.random((min(block, samples - start), len(ours))) < 0.5
        extreme += int(at_least(differences(exchanged.astype(np.float64) @ moved), observed).sum())
    return (extreme + 1) / (samples + 1)


def at_least(values: "NDArray[np.float64]", bound: float) -> "NDArray[np.bool_]":
    """Which values reach ``bound``, with a hair of slack: equal sums added up in another order are equal."""
    import numpy as np

    return np.asarray(values >= bound * (1 - 1e-12) - 1e-12)


def _counts(n: int, *, samples: int, seed: int) -> Iterator["NDArray[np.float64]"]:
    """Blocks ``(some, n)`` of how often each example was drawn."""
    import numpy as np

    generator = np.random.default_rng(seed)
    block = max(1, min(samples, _BLOCK // n))
    for start in range(0, samples, block):
        size = min(block, samples - start)
        drawn = (np.bincount(generator.integers(0, n, size=n), minlength=n) for _ in range(size))
        yield np.stack(list(drawn)).astype(np.float64)


def _values(statistics: Statistics, sums: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    if statistics.is_ratio:
        ratios: NDArray[np.float64] = 100.0 * sums[:, 0] / sums[:, 1]
        return ratios
    return np.array([statistics.value(row) for row in sums.tolist()], dtype=np.float64)


def percentile_interval(
    values: "NDArray[np.float64]", *, confidence: float, field: str = "confidence"
) -> tuple[float, float]:
    """The bounds that hold the middle ``confidence`` of ``values``; ``field`` is its name for the caller.

    Raises:
        SettingError: ``confidence`` is not between 0 and 1.
    """
    import numpy as np

    if not 0.0 < confidence < 1.0:
        raise SettingError(
            f"A confidence of {confidence} was asked for; it lies between 0 and 1, such as 0.95.",
            field=field,
            found=confidence,
            suggestion=0.95,
        )
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)
