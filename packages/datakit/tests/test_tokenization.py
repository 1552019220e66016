"""Tokenizing: what is fed and what is learnt, for the three tasks."""

from typing import TYPE_CHECKING

import pytest
from datasets import Dataset, DatasetDict

from distill_datakit import DataError, TokenizerError, load_data, tokenize, truncated_fraction

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast


def learnt(row: dict[str, list[int]], tokenizer: "PreTrainedTokenizerFast") -> str:
    """The text that the labels teach; every label must be the id at its own position."""
    assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
    return str(tokenizer.decode([label for label in row["labels"] if label != -100]))


def test_seq2seq_learns_the_target_and_its_end(words: "Dataset", symbols: "PreTrainedTokenizerFast") -> None:
    """Labels are the target's ids and not the input's; references and text are gone."""
    data = tokenize(words, symbols, "seq2seq").data
    assert data.column_names == ["input_ids", "attention_mask", "labels", "row_id"]
    assert data["row_id"][:] == list(range(5))
    assert symbols.convert_ids_to_tokens(data[0]["input_ids"]) == ["c", "a", "t", "</s>"]
    assert symbols.convert_ids_to_tokens(data[0]["labels"]) == ["K", "AE", "T", "</s>"]


def test_seq2seq_limits_keep_the_end_and_prefixes_are_put_before(symbols: "PreTrainedTokenizerFast") -> None:
    """A cut target still ends; the prefix belongs to the source alone."""
    rows = load_data([{"prompt": "bird", "completion": "B ER D"}])
    data = tokenize(rows, symbols, "seq2seq", max_source_length=3, max_target_length=2, prefix="a").data
    assert symbols.convert_ids_to_tokens(data[0]["input_ids"]) == ["a", "b", "</s>"]
    assert symbols.convert_ids_to_tokens(data[0]["labels"]) == ["B", "</s>"]


def test_the_share_that_limits_cut_counts_rows_cut_on_either_side(symbols: "PreTrainedTokenizerFast") -> None:
    """A row cut twice counts once, one at the limit not at all; without limits there is nothing to count."""
    rows = Dataset.from_dict({"source": ["a", "abcabc", "abcabc"], "target": ["A1", "A1 B1 C1", "A1"]})
    short = next(iter(tokenize(rows, symbols, "seq2seq").data))
    source, target = len(short["input_ids"]), len(short["labels"])
    both = truncated_fraction(rows, symbols, "seq2seq", max_source_length=source, max_target_length=target)
    assert both == pytest.approx(2 / 3)
    assert truncated_fraction(rows, symbols, "seq2seq", max_target_length=target) == pytest.approx(1 / 3)
    assert truncated_fraction(rows, symbols, "seq2seq") == 0.0
    assert truncated_fraction(rows.select([]), symbols, "seq2seq", max_source_length=1) == 0.0


def test_row_ids_run_through_all_splits_and_own_ones_are_kept(
    words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """No two rows of a DatasetDict share one."""
    parts = DatasetDict({"train": words.select(range(3)), "test": words.select(range(3, 5))})
    done = tokenize(parts, symbols, "seq2seq").data
    assert done["train"]["row_id"][:] == [0, 1, 2]
    assert done["test"]["row_id"][:] == [3, 4]
    own = words.add_column("row_id", [7, 8, 9, 10, 11])
    assert tokenize(own, symbols, "seq2seq").data["row_id"][:] == [7, 8, 9, 10, 11]


def test_causal_text_learns_everything_and_the_end(
    sentences: list[str], bpe: "PreTrainedTokenizerFast"
) -> None:
    """Labels equal the input, unshifted, and the end is learnt although it is the padding token too."""
    assert bpe.pad_token_id == bpe.eos_token_id
    for row in tokenize(load_data([{"text": text} for text in sentences]), bpe, "causal").data:
        assert row["labels"] == row["input_ids"]
        assert row["labels"][-1] == bpe.eos_token_id
        assert row["labels"].count(bpe.eos_token_id) == 1


def test_causal_text_cut_by_a_limit_has_no_end(bpe: "PreTrainedTokenizerFast") -> None:
    """A text that goes on does not teach to stop."""
    row = tokenize(load_data([{"text": "the cat sat on the mat"}]), bpe, "causal", max_source_length=3).data[
        0
    ]
    assert len(row["input_ids"]) == 3
    assert bpe.eos_token_id not in row["labels"]


@pytest.mark.parametrize("names", [("prompt", "completion"), ("source", "target")])
def test_causal_pairs_learn_the_completion_alone(
    names: tuple[str, str], bpe: "PreTrainedTokenizerFast"
) -> None:
    """The prompt is fed, not learnt; prompts are cut on the left, completions on the right."""
    rows = load_data([{names[0]: "the cat", names[1]: " sat on the mat"}])
    row = tokenize(rows, bpe, "causal").data[0]
    assert bpe.decode(row["input_ids"]) == "the cat sat on the mat<|endoftext|>"
    assert learnt(row, bpe) == " sat on the mat<|endoftext|>"
    cut = tokenize(rows, bpe, "causal", max_source_length=1, max_target_length=1).data[0]
    assert cut["input_ids"][0] == bpe("the cat")["input_ids"][-1]
    assert len(cut["input_ids"]) == 2


def test_a_tokenizer_that_ends_texts_itself_gives_one_end(
    words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """Not after the prompt, and once after the completion."""
    row = tokenize(words, symbols, "causal").data[0]
    assert symbols.convert_ids_to_tokens(row["input_ids"]) == ["c", "a", "t", "K", "AE", "T", "</s>"]
    assert row["labels"][:3] == [-100] * 3


def test_masked_rows_have_no_labels_yet(sentences: list[str], wordpiece: "PreTrainedTokenizerFast") -> None:
    """They are framed by the tokenizer, cut with their frame, and masked by the collator."""
    data = tokenize(
        load_data([{"text": text} for text in sentences]), wordpiece, "masked", max_source_length=6
    ).data
    assert data.column_names == ["input_ids", "attention_mask", "word_ids", "row_id"]
    for row in data:
        assert row["input_ids"][0] == wordpiece.cls_token_id
        assert row["input_ids"][-1] == wordpiece.sep_token_id
        assert len(row["input_ids"]) <= 6


def test_columns_that_do_not_suit_the_task_are_refused(
    words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """Never the input as its own target: text alone is not a seq2seq data."""
    with pytest.raises(
        DataError, match=r"needs the columns source/target or prompt/completion .*; there are text"
    ):
        tokenize(load_data([{"text": "a"}]), symbols, "seq2seq")
    with pytest.raises(ValueError, match="task='seq2seq_lm'"):
        tokenize(words, symbols, "seq2seq_lm")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="max_source_length=0"):
        tokenize(words, symbols, "seq2seq", max_source_length=0)
    with pytest.raises(ValueError, match="prefix"):
        tokenize(words, symbols, "causal", prefix="say: ")
    symbols.eos_token = None
    with pytest.raises(TokenizerError, match="end-of-text"):
        tokenize(words, symbols, "causal")


def test_the_fingerprint_changes_with_what_matters_and_only_then(
    words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """Data, settings, tokenizer and template each have their field."""
    first = tokenize(words, symbols, "seq2seq").fingerprint
    assert set(first) == {"data", "preprocessing", "tokenizer", "template", "masking"}
    assert all(len(value) == 64 for value in first.values())
    symbols(["a"], padding=True, truncation=True, max_length=2)  # leaves traces in the backend
    assert tokenize(load_data(list(words)), symbols, "seq2seq").fingerprint == first

    def changed(second: object) -> set[str]:
        assert isinstance(second, dict)
        return {field for field in first if first[field] != second[field]}

    assert changed(tokenize(words, symbols, "seq2seq", max_source_length=9).fingerprint) == {"preprocessing"}
    assert changed(tokenize(words.select([1, 0, 2, 3, 4]), symbols, "seq2seq").fingerprint) == {"data"}
    symbols.add_tokens(["zz"])
    assert changed(tokenize(words, symbols, "seq2seq").fingerprint) == {"tokenizer"}
