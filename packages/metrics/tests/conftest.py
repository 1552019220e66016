"""Tiny models made on the spot, for the metrics that need one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TEXT = "the cat sat on mat a dog ran red sun is big old man saw house tree green café кошка γάτα 猫"
WORDS = TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BERT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES: dict[str, dict[str, object]] = {
    # Wider than usual, so that different tokens get clearly different vectors.
    "bert": {**BERT, "max_position_embeddings": 48, "initializer_range": 0.3},
    "roberta": {**BERT, "max_position_embeddings": 48},
    "albert": {**BERT},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 48, "initializer_range": 0.3},
    "t5": {
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 48,
        "num_layers": 3,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "marian": {
        "d_model": 32,
        "encoder_layers": 3,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
    },
    "m2m_100": {
        "d_model": 32,
        "encoder_layers": 3,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "pad_token_id": 0,
        "decoder_start_token_id": 1,
    },
}


def word_tokenizer(*, frame: bool) -> Any:
    """Words as tokens, 40 at most; ``frame`` puts CLS and SEP around them."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    inner: Any = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    inner.pre_tokenizer = WhitespaceSplit()
    if frame:
        ends = [("[CLS]", 2), ("[SEP]", 3)]
        inner.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    made: Any = PreTrainedTokenizerFast  # untyped in transformers
    return made(tokenizer_object=inner, model_max_length=40, **dict(zip(names, SPECIAL, strict=True)))


@pytest.fixture(scope="session")
def words() -> list[str]:
    """What the tiny tokenizer knows."""
    return WORDS


@pytest.fixture(scope="session")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Folder of a model of a family with the head of an Auto class, weights drawn under a fixed seed."""

    @cache
    def build(family: str, head: str = "AutoModel") -> Path:
        import torch
        import transformers

        config: Any = transformers.AutoConfig
        made: Any = getattr(transformers, head)
        torch.manual_seed(0)
        size = len(SPECIAL) + len(WORDS)
        model = made.from_config(config.for_model(family, vocab_size=size, **FAMILIES[family]))
        folder = tmp_path_factory.mktemp(family)
        model.save_pretrained(folder)
        word_tokenizer(frame=family not in ("gpt2", "t5", "marian", "m2m_100")).save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def encoder(save: Callable[[str, str], Path]) -> Path:
    """A BERT of three layers that has learnt nothing."""
    return save("bert", "AutoModel")
