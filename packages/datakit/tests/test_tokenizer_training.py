"""Tokenizers trained from data."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from distill_datakit import TokenizerError, TokenizerKind, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
SOUNDS = ["AA", "AE", "B", "CH", "D", "ER", "HH", "K", "NG", "T"]


def test_the_vocabulary_is_characters_symbols_specials_with_padding_last() -> None:
    """One vocabulary in a fixed order; a symbol that is also a character stands once."""
    made = train_tokenizer(["cab b"], targets=["K AE B", "b"])
    assert made.convert_ids_to_tokens(list(range(len(made)))) == [
        "a",
        "b",
        "c",
        "AE",
        "B",
        "K",
        "</s>",
        "<unk>",
        "<pad>",
    ]
    assert made.pad_token_id == len(made) - 1


@settings(max_examples=60, deadline=None)
@given(
    word=st.text(LETTERS, min_size=1, max_size=12),
    sounds=st.lists(st.sampled_from(SOUNDS), min_size=1, max_size=12),
)
def test_sources_split_into_characters_and_targets_at_blanks(word: str, sounds: list[str]) -> None:
    """Both end with </s>, and decoding gives the blank-joined symbols back."""
    made = train_tokenizer([LETTERS], targets=[" ".join(SOUNDS)])
    assert made.convert_ids_to_tokens(made(word)["input_ids"]) == [*word, "</s>"]
    ids = made("  ".join(sounds))["input_ids"]
    assert made.convert_ids_to_tokens(ids) == [*sounds, "</s>"]
    assert made.decode(ids, skip_special_tokens=True) == " ".join(sounds)


def test_a_symbol_inside_a_word_is_characters() -> None:
    """Only between blanks or text ends does a symbol of several characters stand for itself."""
    made = train_tokenizer(["xaay", "a.b"], targets=["aa x. +"])
    assert made.convert_ids_to_tokens(made("xaay a.b aa x.")["input_ids"]) == [*"xaaya.b", "aa", "x.", "</s>"]


def test_symbols_that_collide_are_refused() -> None:
    """A source holding a target symbol alone, or a special token; a size; missing roles."""
    with pytest.raises(TokenizerError, match=r"source text 2 \('so ah'\) holds 'ah', also a target symbol"):
        train_tokenizer(["hahn", "so ah"], targets=["ah n"])
    with pytest.raises(TokenizerError, match="is a special token"):
        train_tokenizer(["a<unk>"], targets=["A"])
    with pytest.raises(TokenizerError, match="takes no size"):
        train_tokenizer(["a"], size=9)
    with pytest.raises(TokenizerError, match="needs a special token for unk_token"):
        train_tokenizer(["a"], special_tokens=["</s>", "<pad>"])
    with pytest.raises(TokenizerError, match="no known role"):
        train_tokenizer(["a"], special_tokens=["<end>"])
    with pytest.raises(TokenizerError, match="no text"):
        train_tokenizer([" "])
    with pytest.raises(TokenizerError, match="allowed are symbols, wordpiece, bpe, unigram"):
        train_tokenizer(["a"], kind="words")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("kind", ["symbols", "wordpiece", "bpe", "unigram"])
def test_the_folder_reads_back_with_and_without_transformers(
    kind: TokenizerKind, sentences: list[str], tmp_path: Path
) -> None:
    """AutoTokenizer and the tokenizers library alone give the same ids and the same text."""
    size = None if kind == "symbols" else 300 if kind == "bpe" else 90
    made = train_tokenizer(sentences, kind=kind, size=size, targets=["K AE T"])
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    bare = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("the cat", "K AE T", "red tea"):
        ids = made(text)["input_ids"]
        assert made.unk_token_id not in ids
        assert again(text)["input_ids"] == ids == bare.encode(text).ids
        said = made.decode(ids, skip_special_tokens=True)
        assert again.decode(ids, skip_special_tokens=True) == said == bare.decode(ids)
        assert re.sub(r"\s", "", said) == re.sub(r"\s", "", text)
    assert again.special_tokens_map == made.special_tokens_map
    if size:
        assert len(made) <= size


def test_the_symbols_folder_reads_back_beside_a_model(tmp_path: Path) -> None:
    """A Marian config in the folder does not make AutoTokenizer look for SentencePiece files."""
    made: PreTrainedTokenizerFast = train_tokenizer(["cat"], targets=["K AE T"])
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"model_type": "marian", "architectures": ["MarianMTModel"]}', encoding="utf-8"
    )
    assert AutoTokenizer.from_pretrained(tmp_path)("K AE T")["input_ids"] == made("K AE T")["input_ids"]
