"""A tokenizer that is only a sentencepiece model reads and writes the same without sentencepiece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill_deploy import TextGenerator, export, load_runtime, save

pytestmark = [pytest.mark.slow, pytest.mark.extra("sentencepiece")]  # noqa: S610
ENGLISH = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8").splitlines()
GERMAN = ["der große Löwe süßt über ähnliche Flüsse", "das Maß ist voll, öffne die Tür", "ein Haus am See"]
# "www" is left out: its two ways to be cut have one score, and sentencepiece takes the other of two equals.
TEXTS = [
    *(line for line in ENGLISH if line.strip() and "www" not in line), "", "  two  blanks ",
    "ﬁne ligature", "tab\tand\u3000wide", "naïve café", "größe 漢字 x", ">>de<< a house", ">>de<<a house",
    "UPPER lower 12,345.67 (a) [b] {c}", "e\u0301 combined",
]  # fmt: skip


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A MarianTokenizer of two sentencepiece models and a vocabulary of both, as Marian has them."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from transformers import MarianTokenizer

    folder = tmp_path_factory.mktemp("marian")
    pieces: list[str] = []
    for name, texts, size in (("source", ENGLISH, 400), ("target", GERMAN * 20, 60)):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_prefix=str(folder / name), vocab_size=size,
            hard_vocab_limit=False, character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
        (folder / f"{name}.model").rename(folder / f"{name}.spm")
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
        pieces += [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
    words = ["</s>", "<unk>", *sorted(set(pieces)), ">>de<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    return MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"),
        source_lang="en", target_lang="de",
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marians_tokenizer_becomes_one_file_that_gives_the_same_ids(marian: Any) -> None:
    """Every text, awkward ones too: the same ids, and the same text back."""
    from distill_deploy.fast_tokenizers import fast_tokenizer

    fast = fast_tokenizer(marian)
    assert fast is not None
    assert len(fast) == len(marian)
    for text in TEXTS:
        ids = marian(text).input_ids
        assert fast(text).input_ids == ids, text
        assert fast.decode(ids, skip_special_tokens=True) == marian.decode(ids, skip_special_tokens=True)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_a_model_with_it_is_exported_and_reads_texts_without_it(marian: Any, tmp_path: Path) -> None:
    """The export carries tokenizer.json, and its runtime makes the ids that MarianTokenizer makes."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 16, "init_std": 0.5}
    size, pad = len(marian), marian.pad_token_id
    ids = {"vocab_size": size, "pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad}
    config = MarianConfig(**ids, **layers, **heads, forced_eos_token_id=None, bos_token_id=None)  # type: ignore[arg-type]  # one of several types
    folder = save(MarianMTModel(config), marian, tmp_path / "m")
    texts = [text for text in TEXTS if text.strip()][:80]
    done = export(folder, tmp_path / "e", precision="fp32", held_out=texts, max_new_tokens=8)
    assert done.certificate["failures"] == []
    runtime = load_runtime(done.path, threads=1)
    assert isinstance(runtime, TextGenerator)
    assert [runtime.encode(text) for text in texts] == [marian(text).input_ids for text in texts]
