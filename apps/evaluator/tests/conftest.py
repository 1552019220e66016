"""Tiny models that always say the same, and files to ask them about."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

VOCABULARY = ["a", "b", "c", "d", "e", "</s>", "<unk>", "<pad>"]


WriteRows = Callable[[Path, Sequence[Mapping[str, object]]], Path]


@pytest.fixture(scope="session")
def write_rows() -> WriteRows:
    """``write_rows(path, rows)`` makes a JSON Lines file."""

    def write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def examples(tmp_path: Path, write_rows: WriteRows) -> Path:
    """Four rows, of which a model that says "a a a a" gets one right."""
    rights = ["a a a a", "a a a b", "b b b b", "a c d e"]
    return write_rows(tmp_path / "examples.jsonl", [{"source": "b c d", "target": right} for right in rights])


@pytest.fixture
def looks_like_a_model(tmp_path: Path) -> Path:
    """A folder with all that is looked at before a model is loaded."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}'
    )
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 1000)
    return folder


@pytest.fixture(scope="session")
def saying(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``saying("a")``: a Marian model of two layers whose bias makes it say "a" until it is stopped."""
    root, made = tmp_path_factory.mktemp("models"), dict[str, Path]()

    def make(word: str) -> Path:
        if word not in made:
            made[word] = root / f"says_{word.strip('</>')}"
            _save_marian(made[word], VOCABULARY.index(word))
        return made[word]

    return make


@pytest.fixture(scope="session")
def marian(saying: Callable[[str], Path]) -> Path:
    """The one that says "a"."""
    return saying("a")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer whose bias makes it fill every mask with "a"."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    words = [*VOCABULARY, "[CLS]", "[SEP]", "[MASK]"]
    ids = {word: i for i, word in enumerate(words)}
    fast = Tokenizer(WordLevel(ids, unk_token="<unk>"))  # noqa: S106
    fast.pre_tokenizer = WhitespaceSplit()
    fast.post_processor = BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    special = {
        "unk_token": "<unk>",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "pad_token": "<pad>",
    }
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # transformers has no types here
        tokenizer_object=fast,
        model_max_length=16,
        **special,
    )
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(words),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            max_position_embeddings=16,
            pad_token_id=7,
        )
    )
    model.cls.predictions.bias.data[0] = 100.0
    folder = tmp_path_factory.mktemp("models") / "bert"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _save_marian(folder: Path, says: int) -> None:
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
    model.final_logits_bias[0, says] = 100.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
