"""Every architecture that CTranslate2's exporter takes arrives whole; any other is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_deploy import ExportError, export, load_runtime, save
from distill_deploy.ctranslate2_export import ARCHITECTURES

pytestmark = pytest.mark.extra("export")  # noqa: S610
Tokenizers = Callable[[str], Any]
Texts = Callable[[str], list[str]]
# The default tests take these, whose loaders are corrected, beside the families of conftest; ``nox -s edge``
# takes all.
QUICK = ("m2m_100", "mbart", "pegasus", "mt5", "gemma")
FORCED = 30  # as a target language's token is: the first that is generated
SIZES = {
    "d_model": 32, "hidden_size": 32, "n_embd": 32, "num_layers": 1, "num_hidden_layers": 1, "n_layer": 1,
    "encoder_layers": 1, "decoder_layers": 1, "num_heads": 2, "num_attention_heads": 2, "n_head": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "word_embed_proj_dim": 32, "intermediate_size": 64, "ffn_dim": 64, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "d_ff": 64,
    "d_kv": 16, "rotary_dim": 8, "n_positions": 64, "max_position_embeddings": 64,
}  # fmt: skip


def saved(model_type: str, tokenizer: Any, folder: Path, **fields: Any) -> Path:
    """A tiny model of an architecture with random weights, wide enough to answer unlike texts unlike."""
    import torch
    import transformers

    seq2seq = model_type in ARCHITECTURES["seq2seq"]
    start = tokenizer.pad_token_id if model_type in ("marian", "pegasus", "t5") else tokenizer.eos_token_id
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"bos_token_id": tokenizer.bos_token_id, "vocab_size": len(tokenizer)}
    ids |= {"decoder_start_token_id": start, "forced_eos_token_id": None} if seq2seq else {}
    kind: Any = type(transformers.AutoConfig.for_model(model_type))
    known = {*kind.__dataclass_fields__, *kind.attribute_map}
    sizes = {name: value for name, value in SIZES.items() if name in known}
    config = kind(**ids, **sizes, **fields)
    torch.manual_seed(1)
    auto: Any = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    model = auto.from_config(config)
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.3)
    if model_type in ("m2m_100", "mbart"):
        model.generation_config.forced_bos_token_id = FORCED
    return save(model, tokenizer, folder)


@pytest.mark.parametrize(
    "model_type",
    [
        one if one in QUICK else pytest.param(one, marks=pytest.mark.slow)
        for task in ARCHITECTURES.values()
        for one in task
    ],
)
def test_an_architecture_arrives_whole(
    model_type: str, tokenizer: Tokenizers, held_out: Texts, tmp_path: Path
) -> None:
    """In fp32 nothing differs: every logit within its tolerance, every greedy output the model's own."""
    seq2seq = model_type in ARCHITECTURES["seq2seq"]
    texts = held_out("marian" if seq2seq else "llama")[:24]
    folder = saved(model_type, tokenizer("bart" if seq2seq else "gpt2"), tmp_path / "m")
    done = export(folder, tmp_path / "e", precision="fp32", held_out=texts, max_new_tokens=8)
    assert done.certificate["failures"] == []
    assert done.certificate["equal_outputs"] == 1.0
    if model_type in ("m2m_100", "mbart"):
        runtime = load_runtime(done.path, threads=1)
        first = runtime.tokenizer.decode([FORCED])
        outputs = runtime.answer(["abcdef", "uvwxyz"], max_new_tokens=3, beams=2)
        assert all(output.split()[0] == first and len(output.split()) <= 3 for output in outputs)


def test_nllb_in_int8_keeps_most_of_its_tokens(
    tokenizer: Tokenizers, held_out: Texts, tmp_path: Path
) -> None:
    """NLLB is an M2M100 too; its int8 export is compared with it like any other."""
    folder = saved("m2m_100", tokenizer("bart"), tmp_path / "m", scale_embedding=True)
    done = export(folder, tmp_path / "e", held_out=held_out("marian"), max_new_tokens=8, allow_failed=True)
    assert isinstance(done.certificate["token_agreement"], float)
    assert done.certificate["token_agreement"] >= 0.9


def test_an_m2m100_that_starts_from_padding_is_refused(tokenizer: Tokenizers, tmp_path: Path) -> None:
    """Transformers counts its positions in two ways; the error names what to train it with instead."""
    made = tokenizer("bart")
    folder = saved("m2m_100", made, tmp_path / "m")
    config = folder / "config.json"
    for path in (config, folder / "generation_config.json"):
        path.write_text(
            path.read_text().replace(
                f'"decoder_start_token_id": {made.eos_token_id}',
                f'"decoder_start_token_id": {made.pad_token_id}',
            )
        )
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(ExportError) as refused:
        export(folder, tmp_path / "e")
    found = refused.value
    assert (found.field, found.found) == ("decoder_start_token_id", made.pad_token_id)
    assert found.suggestion == made.eos_token_id


@pytest.mark.parametrize("model_type", ["gpt_neox", "blenderbot"])
def test_another_architecture_is_one_line(model_type: str, tokenizer: Tokenizers, tmp_path: Path) -> None:
    """Refused before anything is recorded, with the architectures that there are."""
    import transformers

    made = tokenizer("gpt2")
    seq2seq = model_type == "blenderbot"
    kind: Any = type(transformers.AutoConfig.for_model(model_type))
    known = {*kind.__dataclass_fields__, *kind.attribute_map}
    config = kind(vocab_size=len(made), **{k: v for k, v in SIZES.items() if k in known})
    auto: Any = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    folder = save(auto.from_config(config), made, tmp_path / "m")
    with pytest.raises(ExportError) as refused:
        export(folder, tmp_path / "e")
    assert "\n" not in str(refused.value)
    assert refused.value.found == model_type
    assert refused.value.allowed == ARCHITECTURES["seq2seq" if seq2seq else "causal"]
