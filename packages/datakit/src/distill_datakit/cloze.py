"""Cloze tests for masked models: texts with one word hidden, which the model has to find."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_datakit.columns import Reference, inputs_of
from distill_datakit.errors import TokenizerError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def cloze_texts(part: "Dataset") -> list[str]:
    """Take the texts in which a word can be hidden.

    Args:
        part: Raw rows with a column ``source``, ``prompt`` or ``text``.

    Returns:
        The texts that have words, with one blank between the words.

    Raises:
        DataError: The data has no such column.

    Example:
        >>> from distill_datakit import cloze_texts, load_data
        >>> cloze_texts(load_data([{"text": " the  cat sat "}, {"text": " "}]))
        ['the cat sat']
    """
    return [" ".join(text.split()) for text in inputs_of(part) if text.split()]


def cloze_questions(
    part: "Dataset", tokenizer: "PreTrainedTokenizerBase", *, seed: int
) -> tuple[list[str], list[Reference]]:
    """Hide one word of each text, and say what the whole text is.

    Args:
        part: Raw rows with a column ``source``, ``prompt`` or ``text``.
        tokenizer: The tokenizer of the masked model. A hidden word becomes as many mask tokens as the
            word has tokens.
        seed: Chooses the words. The same seed hides the same words, whatever the model.

    Returns:
        The texts with masks, and the whole texts as the tokenizer decodes them.

    Raises:
        DataError: The data has no such column.
        TokenizerError: The tokenizer has no mask token.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_datakit import cloze_questions, load_data
        >>> tokenizer = AutoTokenizer.from_pretrained("filler")
        >>> questions, answers = cloze_questions(load_data("texts.jsonl"), tokenizer, seed=0)
        >>> questions[0].count(tokenizer.mask_token), answers[0]
        (1, 'w0 w1 w2 w3')
    """
    if tokenizer.mask_token is None:
        raise TokenizerError(
            "a word cannot be hidden: this tokenizer has no mask token. Set tokenizer.mask_token.",
            field="tokenizer.mask_token",
        )
    texts = cloze_texts(part)
    pieces = [
        [
            len(tokenizer(" " * (at > 0) + word, add_special_tokens=False)["input_ids"])
            for at, word in enumerate(text.split())
        ]
        for text in texts
    ]
    hidden = hide_words(texts, str(tokenizer.mask_token), pieces=pieces, seed=seed)
    ids = tokenizer(texts)["input_ids"] if texts else []
    whole: list[Reference] = [str(text) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return hidden, whole


def hide_words(texts: Sequence[str], mask: str, *, pieces: Sequence[Sequence[int]], seed: int) -> list[str]:
    """Replace one word of each text by masks. Seed and row alone choose the word.

    Args:
        texts: Whole texts, each with at least one word.
        mask: The mask token.
        pieces: For each text the number of tokens of each of its words.
        seed: Another seed hides other words.

    Returns:
        The texts with masks.

    Example:
        >>> from distill_datakit import hide_words
        >>> hide_words(["the cat sat"], "[MASK]", pieces=[[1, 2, 1]], seed=1)
        ['the cat [MASK]']
    """
    hidden = []
    for index, (text, counts) in enumerate(zip(texts, pieces, strict=True)):
        words = text.split()
        place = random.Random(f"{seed}-{index}").randrange(len(words))  # noqa: S311 - not for secrets
        words[place] = " ".join([mask] * max(1, counts[place]))
        hidden.append(" ".join(words))
    return hidden
