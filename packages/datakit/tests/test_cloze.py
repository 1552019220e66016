"""Texts with one word hidden."""

from typing import TYPE_CHECKING

import pytest

from distill_datakit import TokenizerError, cloze_questions, cloze_texts, hide_words, load_data

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def test_one_word_of_each_text_is_hidden_by_as_many_masks_as_it_has_tokens(
    sentences: list[str], wordpiece: "PreTrainedTokenizerFast"
) -> None:
    """The same words for a seed, others for another; filling in the hidden tokens gives the text again."""
    part = load_data([{"text": text} for text in [*sentences, " "]])
    questions, answers = cloze_questions(part, wordpiece, seed=1)
    assert cloze_texts(part) == sentences
    assert answers == sentences
    assert cloze_questions(part, wordpiece, seed=1)[0] == questions
    assert cloze_questions(part, wordpiece, seed=2)[0] != questions
    for question, text in zip(questions, sentences, strict=True):
        asked, whole = (wordpiece(one)["input_ids"] for one in (question, text))
        assert len(asked) == len(whole)
        masked = [n for n, token in enumerate(asked) if token == wordpiece.mask_token_id]
        assert masked == list(range(masked[0], masked[-1] + 1))
        assert all(asked[n] == whole[n] for n in range(len(whole)) if n not in masked)
        assert wordpiece.decode([whole[n] for n in masked]) in text.split()


def test_a_word_without_a_token_is_hidden_by_one_mask() -> None:
    """A text always asks something."""
    assert hide_words(["a"], "?", pieces=[[0]], seed=0) == ["?"]
    assert hide_words(["a"], "?", pieces=[[3]], seed=0) == ["? ? ?"]


def test_no_word_can_be_hidden_without_a_mask_token(symbols: "PreTrainedTokenizerFast") -> None:
    """The missing token is named."""
    with pytest.raises(TokenizerError) as caught:
        cloze_questions(load_data([{"text": "a"}]), symbols, seed=0)
    assert caught.value.field == "tokenizer.mask_token"
    assert cloze_questions(load_data([{"source": " "}]), _with_mask(symbols), seed=0) == ([], [])


def _with_mask(tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
    tokenizer.mask_token = "a"  # noqa: S105  # a token, not a password
    return tokenizer
