"""Small real tokenizers and data, made on the spot."""

from typing import TYPE_CHECKING

import pytest

from distill_datakit import load_data, train_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "the cat sat on the mat",
    "a dog saw the cat",
    "the bird sang to the dog",
    "rain fell on the red roof",
    "a man ran to the far hill",
    "the sun rose over the sea",
    "cold tea is not good tea",
    "we met at the old mill",
]
WORDS = [("cat", "K AE T"), ("dog", "D AO G"), ("it's", "IH T S"), ("bird", "B ER D"), ("cab", "K AE B")]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """Eight English sentences."""
    return SENTENCES


@pytest.fixture
def words() -> "Dataset":
    """Five spellings with their phonemes and references."""
    return load_data([{"source": word, "target": sounds, "references": [sounds]} for word, sounds in WORDS])


@pytest.fixture
def symbols() -> "PreTrainedTokenizerFast":
    """A symbols tokenizer of the words."""
    return train_tokenizer([w for w, _ in WORDS], targets=[s for _, s in WORDS])


@pytest.fixture
def bpe() -> "PreTrainedTokenizerFast":
    """A byte-level tokenizer whose padding token is its end."""
    made = train_tokenizer(SENTENCES, kind="bpe", size=320, special_tokens=["<|endoftext|>"])
    made.pad_token = made.eos_token
    return made


@pytest.fixture
def wordpiece() -> "PreTrainedTokenizerFast":
    """A tokenizer for masked models."""
    return train_tokenizer(SENTENCES, kind="wordpiece", size=120)
