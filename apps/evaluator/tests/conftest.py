"""A tiny model that always says the same, and files to ask it about."""

import json
from pathlib import Path

import pytest

VOCABULARY = ["a", "b", "c", "d", "e", "</s>", "<unk>", "<pad>"]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Four rows, of which a model that says "a a a a" gets one right."""
    rights = ["a a a a", "a a a b", "b b b b", "a c d e"]
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps({"source": "b c d", "target": right}) + "\n" for right in rights))
    return path


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian model of two layers whose bias makes it say "a" until it is stopped."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = WhitespaceSplit()
    special = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **special)  # type: ignore[no-untyped-call] # transformers has no types here
    config = MarianConfig(
        vocab_size=len(VOCABULARY),
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=1,
        decoder_attention_heads=1,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        max_position_embeddings=128,
        pad_token_id=7,
        eos_token_id=5,
        decoder_start_token_id=7,
        forced_eos_token_id=None,
    )
    torch.manual_seed(0)
    model = MarianMTModel(config)
    model.final_logits_bias[0, 0] = 100.0
    folder = tmp_path_factory.mktemp("models") / "marian"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
