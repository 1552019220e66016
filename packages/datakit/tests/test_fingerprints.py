"""One hash that changes with what matters, and only then."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from distill_datakit import collator, fingerprint, load_data, tokenize, train_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast


def test_it_changes_with_rows_order_settings_and_tokenizer(
    words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """Each of these gives another hash."""
    other = train_tokenizer(["cat", "dog", "it's", "bird", "cabx"], targets=words["target"])
    mapped = words.map(lambda row: {"target": row["target"] + " K"}, load_from_cache_file=False)
    found = [
        fingerprint(tokenize(words, symbols, "seq2seq")),
        fingerprint(tokenize(words.select([1, 0, 2, 3, 4]), symbols, "seq2seq")),
        fingerprint(tokenize(words.select(range(4)), symbols, "seq2seq")),
        fingerprint(tokenize(mapped, symbols, "seq2seq")),
        fingerprint(tokenize(words, symbols, "causal")),
        fingerprint(tokenize(words, symbols, "seq2seq", prefix="c")),
        fingerprint(tokenize(words, symbols, "seq2seq", max_target_length=2)),
        fingerprint(tokenize(words, symbols, "seq2seq", cut_target="left")),
        fingerprint(tokenize(words, symbols, "seq2seq", escape_special_tokens=False)),
        fingerprint(tokenize(words, other, "seq2seq")),
        fingerprint(words),
        fingerprint(words.remove_columns("references")),
    ]
    assert len(set(found)) == len(found)
    assert all(len(one) == 64 for one in found)


def test_it_stays_with_what_does_not_matter(
    words: "Dataset", symbols: "PreTrainedTokenizerFast", tmp_path: Path
) -> None:
    """Columns that are not read, files, the way to the rows, leftovers in the tokenizer, its folder."""
    first = fingerprint(tokenize(words, symbols, "seq2seq"))
    words.to_parquet(tmp_path / "a.parquet")
    words.select_columns(["target", "source"]).to_json(tmp_path / "b.jsonl", force_ascii=False)
    for name in ("a.parquet", "b.jsonl"):
        assert fingerprint(tokenize(load_data(tmp_path / name), symbols, "seq2seq")) == first
    symbols(["a"], padding=True, truncation=True, max_length=2, split_special_tokens=True)
    symbols.chat_template = "{{ messages }}"
    symbols.truncation_side = "left"
    assert fingerprint(tokenize(words, symbols, "seq2seq", source_language=None)) == first
    symbols.chat_template = None
    symbols.save_pretrained(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(tmp_path / "two")
    assert fingerprint(tokenize(words, again, "seq2seq")) == first
    assert fingerprint(words) == fingerprint(load_data(list(words)))


@pytest.mark.extra("torch")  # noqa: S610  # no database
def test_masks_count_when_the_collator_is_given(
    sentences: list[str], wordpiece: "PreTrainedTokenizerFast"
) -> None:
    """Another seed, share or kind of masks is other data; the same collator is not."""
    data = tokenize(load_data([{"text": text} for text in sentences]), wordpiece, "masked")
    collators = [collator(wordpiece, "masked", seed=seed) for seed in (1, 1, 2)]
    collators += [collator(wordpiece, "masked", seed=1, masking_probability=0.3)]
    collators += [collator(wordpiece, "masked", seed=1, masking="word")]
    found = [fingerprint(data, collate) for collate in collators]
    assert found[0] == found[1]
    assert len(set(found)) == 4
    assert fingerprint(data) not in found
