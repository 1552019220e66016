"""Train, validation and test parts that stay what they are when the data grows."""

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_datakit.errors import DataError, OptionError, nearest
from distill_datakit.hashing import canonical

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

NAMES = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)


def split(
    dataset: "Dataset",
    *,
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int = 42,
    exact: bool = False,
    key: str | None = None,
) -> "DatasetDict":
    """Divide the rows into ``train``, ``validation`` and ``test`` by a hash of each row.

    The part of a row depends only on its own content and the seed: it never changes when rows are added,
    removed or reordered, and equal rows are in the same part. The proportions are therefore approximate.

    Args:
        dataset: Raw rows.
        fractions: The shares of train, validation and test, which sum to 1. A part with share 0 is left out.
            The defaults, with seed 42, are those of the original system.
        seed: The seed of the split. Another seed gives another division.
        exact: Whether the parts have exact sizes, by the rank of the hash. If the data grows, rows at the
            borders then move to other parts.
        key: The column that is hashed instead of the row, so that rows with the same value (one word,
            several pronunciations) stay together.

    Returns:
        The parts, with rows in their original order.

    Raises:
        OptionError: The fractions are negative or do not sum to 1.
        DataError: There is no such column, or a part would be empty.

    Example:
        >>> from distill_datakit import load_data, split
        >>> parts = split(load_data("pairs.jsonl"), exact=True)
        >>> {name: len(part) for name, part in parts.items()}
        {'train': 32, 'validation': 4, 'test': 4}
    """
    from datasets import DatasetDict

    check_fractions(fractions)
    if key is not None and key not in dataset.column_names:
        refuse_key(key, dataset.column_names)
    places = [place_of(row if key is None else row[key], seed) for row in dataset]
    if exact:
        order = sorted(range(len(places)), key=lambda index: (places[index], index))
        bounds = [round(sum(fractions[:n]) * len(order)) for n in range(4)]
        parts = [sorted(order[bounds[n] : bounds[n + 1]]) for n in range(3)]
    else:
        parts = [[], [], []]
        for index, place in enumerate(places):
            parts[part_at(place, fractions)].append(index)
    refuse_empty(fractions, [len(part) for part in parts], exact=exact)
    return DatasetDict(
        {
            name: dataset.select(part)
            for name, share, part in zip(NAMES, fractions, parts, strict=True)
            if share
        }
    )


def check_fractions(fractions: tuple[float, float, float]) -> None:
    """Raise ``OptionError`` unless the shares are at least 0 and sum to 1."""
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-9):
        raise OptionError(
            f"fractions={fractions}: three shares of at least 0 that sum to 1 are needed.",
            field="fractions", found=fractions, suggestion=FRACTIONS)  # fmt: skip


def refuse_key(key: str, names: Sequence[str]) -> None:
    """Raise ``DataError``: there is no such column."""
    raise DataError(
        f"key={key!r}: there is no such column to split by; there are {', '.join(names)}.",
        field="key", found=key, allowed=names, suggestion=nearest(key, names))  # fmt: skip


def refuse_empty(fractions: tuple[float, float, float], counts: list[int], *, exact: bool) -> None:
    """Raise ``DataError`` if a part that was asked for has no row."""
    for name, share, count in zip(NAMES, fractions, counts, strict=True):
        if share and not count:
            empty = f"the {name} part ({share:.0%} of {sum(counts)} rows) would be empty."
            if exact:
                raise DataError(f"{empty} Add rows.")
            raise DataError(
                f"{empty} Use split(..., exact=True) for exact counts, or add rows.",
                field="exact", found=False, allowed=(True,), suggestion=True)  # fmt: skip


def part_at(place: float, fractions: tuple[float, float, float]) -> int:
    """The index of the part that a place belongs to, never one with share 0."""
    if place < fractions[0]:
        return 0
    return 1 if (place < fractions[0] + fractions[1] and fractions[1]) or not fractions[2] else 2


def place_of(value: object, seed: int) -> float:
    """Where a row, or its value in the key column, stands between 0 and 1."""
    digest = hashlib.sha256(canonical([seed, value])).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
