"""The original system's functions: same names and defaults, faults fixed."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from distill_datakit import DataError, OptionError, prepare_dataset_dict, prepare_tokenized_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def test_causal_labels_are_not_shifted_and_masked_rows_wait_for_the_collator(
    sentences: list[str], bpe: "PreTrainedTokenizerFast", wordpiece: "PreTrainedTokenizerFast", tmp_path: Path
) -> None:
    """One example a line of a .txt file; at most max_length tokens."""
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences), encoding="utf-8")
    causal = prepare_tokenized_dataset(path, bpe)
    assert len(causal) == 8
    assert causal["labels"][:] == causal["input_ids"][:]
    masked = prepare_tokenized_dataset(
        str(path), wordpiece, 5, model_type="masked_lm", masking_probability=0.3
    )
    assert "labels" not in masked.column_names
    assert max(map(len, masked["input_ids"])) <= 5
    with pytest.raises(DataError, match="source/target"):
        prepare_tokenized_dataset(path, bpe, model_type="seq2seq_lm")
    with pytest.raises(OptionError) as caught:
        prepare_tokenized_dataset(path, bpe, model_type="seq_lm")
    assert (caught.value.field, caught.value.found) == ("model_type", "seq_lm")
    assert caught.value.allowed[:3] == ("causal_lm", "seq2seq_lm", "masked_lm")
    assert caught.value.suggestion == "seq2seq_lm"
    with pytest.raises(ValueError, match="masking_probability=2"):
        prepare_tokenized_dataset(path, bpe, masking_probability=2.0)


def test_the_dataset_is_split_80_10_10_with_seed_42(
    sentences: list[str], bpe: "PreTrainedTokenizerFast", tmp_path: Path
) -> None:
    """Exact counts, the same each time, others for another seed."""
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"{text} {n}" for n in range(5) for text in sentences), encoding="utf-8")
    first, second = (
        prepare_dataset_dict(path, bpe),
        prepare_dataset_dict(path, bpe, split_config={"seed": 42}),
    )
    assert {name: len(part) for name, part in first.items()} == {"train": 32, "validation": 4, "test": 4}
    assert first["test"]["input_ids"][:] == second["test"]["input_ids"][:]
    other = prepare_dataset_dict(path, bpe, split_config={"seed": 1})
    assert first["test"]["input_ids"][:] != other["test"]["input_ids"][:]
    with pytest.raises(ValueError, match="'validation'"):
        prepare_dataset_dict(path, bpe, split_config={"validation": 0.1})
