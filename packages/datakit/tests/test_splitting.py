"""Splitting: stable parts, exact parts, groups."""

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_datakit import DataError, split


def numbers(count: int) -> Dataset:
    """Different rows, four to a group."""
    return Dataset.from_dict(
        {"text": [f"row {n}" for n in range(count)], "group": [n // 4 for n in range(count)]}
    )


def part_of(data: Dataset, **given: object) -> dict[str, str]:
    """The part that each text went to."""
    parts = split(data, **given)  # type: ignore[arg-type]  # passed through
    return {text: name for name, part in parts.items() for text in part["text"]}


@settings(max_examples=15, deadline=None)
@given(count=st.integers(150, 400), seed=st.integers(0, 2**31))
def test_growing_data_moves_no_row(count: int, seed: int) -> None:
    """A row's part depends on its content and the seed alone."""
    small, large = part_of(numbers(count), seed=seed), part_of(numbers(count + 50).shuffle(seed=1), seed=seed)
    assert all(large[text] == name for text, name in small.items())


def test_proportions_are_near_and_exact_counts_are_exact() -> None:
    """80/10/10, within four standard errors by hash, to the row when exact."""
    parts = split(numbers(2000))
    assert list(parts) == ["train", "validation", "test"]
    assert abs(len(parts["train"]) - 1600) < 4 * (2000 * 0.8 * 0.2) ** 0.5
    assert [len(part) for part in split(numbers(50), exact=True).values()] == [40, 5, 5]
    assert part_of(numbers(50), exact=True) != part_of(numbers(50), exact=True, seed=43)


def test_a_key_keeps_groups_together() -> None:
    """Rows that agree in the key column stand in one part."""
    parts = split(numbers(400), key="group")
    groups = [set(part["group"]) for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    with pytest.raises(DataError, match="no such column"):
        split(numbers(4), key="grup")


def test_an_empty_part_is_refused_and_a_share_of_zero_left_out() -> None:
    """The refusal names exact=True; a part that was not asked for is not there."""
    with pytest.raises(DataError, match="exact=True"):
        split(numbers(3))
    with pytest.raises(DataError, match="Add rows"):
        split(numbers(3), exact=True)
    assert list(split(numbers(100), fractions=(0.9, 0.0, 0.1))) == ["train", "test"]
    assert list(split(numbers(100), fractions=(0.9, 0.1, 0.0))) == ["train", "validation"]
    with pytest.raises(ValueError, match="sum to 1"):
        split(numbers(100), fractions=(0.9, 0.2, 0.1))
