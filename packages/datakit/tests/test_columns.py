"""What columns mean, for every package and app alike."""

from typing import TYPE_CHECKING

import pytest
from datasets import Dataset

from distill_datakit import (
    DataError,
    OptionError,
    dataset_statistics,
    input_column,
    inputs_of,
    reference_column,
    references_of,
    tokenize,
    training_columns,
)
from distill_datakit.columns import INPUTS, REFERENCES, TRAINING_COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast


@pytest.mark.parametrize(
    ("task", "names", "expected"),
    [
        ("seq2seq", ["target", "id", "source"], ("source", "target")),
        ("seq2seq", ["prompt", "completion"], ("prompt", "completion")),
        ("causal", ["text", "source", "target", "messages"], ("messages",)),
        ("causal", ["text", "prompt", "completion", "source", "target"], ("source", "target")),
        ("causal", ["text", "prompt"], ("text",)),
        ("masked", ["target", "text", "source"], ("text",)),
        ("masked", ["target", "source"], ("target",)),
    ],
)
def test_a_task_learns_from_the_first_columns_that_suit_it(
    task: str, names: list[str], expected: tuple[str, ...]
) -> None:
    """Chats before pairs before texts, ``source`` before ``prompt``."""
    assert training_columns(task, names) == expected  # type: ignore[arg-type]  # one of the three


def test_missing_columns_are_named_as_data() -> None:
    """What there is, what would do, and the column that is probably meant."""
    with pytest.raises(DataError) as caught:
        training_columns("seq2seq", ["sorce", "target"])
    error = caught.value
    assert (error.found, error.suggestion) == (("sorce", "target"), "sorce")
    assert error.allowed == TRAINING_COLUMNS["seq2seq"]
    assert training_columns("seq2seq", ["text"], span_corruption=True) == ("text",)
    with pytest.raises(OptionError):
        training_columns("mask", ["text"])  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(DataError) as caught:
        reference_column(["source", "lable"])
    assert (caught.value.allowed, caught.value.suggestion) == (REFERENCES, "lable")
    with pytest.raises(DataError) as caught:
        input_column(["messages"])
    assert caught.value.allowed == INPUTS[:-1]


def test_inputs_and_references_are_taken_by_one_rule() -> None:
    """A ``label`` is a reference, ``references`` come before ``target``, and a row without one is named."""
    part = Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    assert (inputs_of(part), references_of(part)) == (["a", "b"], ["x", "y"])
    several = Dataset.from_dict({"prompt": ["a"], "target": ["x"], "references": [["x", "y"]]})
    assert (inputs_of(several), references_of(several)) == (["a"], [["x", "y"]])
    for row, wrong in ((1, [None, ["x"]]), (2, [["x"], []])):
        with pytest.raises(DataError) as caught:
            references_of(Dataset.from_dict({"references": wrong}))
        assert (caught.value.row, caught.value.field) == (row, "references")
    with pytest.raises(DataError) as caught:
        references_of(Dataset.from_dict({"label": [1]}))
    assert (caught.value.row, caught.value.found) == (1, 1)


def test_statistics_say_what_repeats_and_what_leaks(tmp_path: "Path") -> None:
    """Rows, repeated inputs, inputs that ``train`` has too, lengths, and the hash of a file."""
    file = tmp_path / "train.jsonl"
    file.write_text("a")
    texts = {
        "train": Dataset.from_dict({"source": ["a", "bcd", "bcd"]}),
        "test": Dataset.from_dict({"source": ["bcd", "e"]}),
        "chats": Dataset.from_dict({"messages": ["x"]}),
        "goals": Dataset.from_dict({"target": ["x"]}),
    }
    found = dataset_statistics(texts, {"train": file, "test": tmp_path / "none"})
    assert found["train"] == {
        "rows": 3, "repeated": 1, "characters_median": 3, "characters_most": 3,
        "sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}  # fmt: skip
    assert found["test"] == {
        "rows": 2, "repeated": 0, "characters_median": 3, "characters_most": 3,
        "also_in_train": 1}  # fmt: skip
    assert found["chats"] == found["goals"] == {"rows": 1}


def test_tokenize_reads_the_columns_that_the_table_says(symbols: "PreTrainedTokenizerFast") -> None:
    """Each entry of the table for seq2seq gives the same ids."""
    made = [
        tokenize(Dataset.from_dict({shape[0]: ["cat"], shape[1]: ["K AE T"]}), symbols, "seq2seq").data[0]
        for shape in TRAINING_COLUMNS["seq2seq"]
    ]
    assert made[0] == made[1]
