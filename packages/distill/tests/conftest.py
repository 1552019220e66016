"""Tiny real models, tokenizers and batches, made on the spot from a fixed seed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainingArguments, set_seed

VOCAB = 24
PAD, EOS, MASK = 0, 1, 2
Batch = dict[str, Tensor]

_SEQ2SEQ = {"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": PAD, "vocab_size": VOCAB}
_BART = {
    **_SEQ2SEQ,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 32,
    "forced_eos_token_id": EOS,
    "init_std": 0.3,
}
_ENCODER = {
    "vocab_size": VOCAB,
    "pad_token_id": PAD,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "eos_token_id": EOS, "bos_token_id": EOS}
# name: (task, class, configuration)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "T5": (
        "seq2seq",
        "T5ForConditionalGeneration",
        {**_SEQ2SEQ, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
    ),
    "Marian": ("seq2seq", "MarianMTModel", _BART),
    "Bart": ("seq2seq", "BartForConditionalGeneration", _BART),
    "MBart": ("seq2seq", "MBartForConditionalGeneration", _BART),
    "Pegasus": ("seq2seq", "PegasusForConditionalGeneration", _BART),
    "Bert": ("masked", "BertForMaskedLM", _ENCODER),
    "Roberta": ("masked", "RobertaForMaskedLM", _ENCODER),
    "ModernBert": (
        "masked",
        "ModernBertForMaskedLM",
        {**_ENCODER, "bos_token_id": EOS, "eos_token_id": EOS, "cls_token_id": EOS, "sep_token_id": EOS},
    ),
    "DistilBert": (
        "masked",
        "DistilBertForMaskedLM",
        {
            "vocab_size": VOCAB,
            "pad_token_id": PAD,
            "dim": 16,
            "n_layers": 1,
            "n_heads": 2,
            "hidden_dim": 32,
            "max_position_embeddings": 32,
            "initializer_range": 0.3,
        },
    ),
    "GPT2": (
        "causal",
        "GPT2LMHeadModel",
        {
            "vocab_size": VOCAB,
            "n_embd": 16,
            "n_layer": 1,
            "n_head": 2,
            "n_positions": 32,
            "bos_token_id": EOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
            "initializer_range": 0.3,
        },
    ),
    "Llama": (
        "causal",
        "LlamaForCausalLM",
        _DECODER,
    ),
    "Qwen3": ("causal", "Qwen3ForCausalLM", {**_DECODER, "head_dim": 8}),
}
# Heads with a bound or a factor; not among those that are trained.
SCALED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Gemma2": ("causal", "Gemma2ForCausalLM", {**_DECODER, "head_dim": 8, "final_logit_softcapping": 0.5}),
    "Cohere": ("causal", "CohereForCausalLM", {**_DECODER, "logit_scale": 0.25}),
    "Granite": ("causal", "GraniteForCausalLM", {**_DECODER, "logits_scaling": 3.0}),
}
MakeModel = Callable[..., PreTrainedModel]


@pytest.fixture(name="make_model")
def _make_model() -> MakeModel:
    """``make_model(name, seed=0, **changes)``: a tiny model of an architecture, without dropout."""

    def make(name: str, *, seed: int = 0, **changes: object) -> PreTrainedModel:
        _, class_name, options = (ARCHITECTURES | SCALED)[name]
        model_class = getattr(transformers, class_name)
        config = model_class.config_class(**{**options, **changes})
        for field in list(vars(config)):
            if field.endswith(("dropout", "dropout_rate", "pdrop", "dropout_prob")):
                setattr(config, field, 0.0)
        set_seed(seed)
        model = model_class(config)
        assert isinstance(model, PreTrainedModel)
        return model

    return make


@pytest.fixture(name="make_rows")
def _make_rows() -> Callable[..., list[dict[str, list[int]]]]:
    """``make_rows(task, count=4)``: tokenized rows of unequal length, each with its ``row_id``."""

    def make(task: str, *, count: int = 4, seed: int = 0) -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed)
        rows = []
        for index in range(count):
            ids = [
                *torch.randint(3, VOCAB, (4 + index % 4,), generator=generator).tolist(),
                EOS,
            ]
            labels = [*ids[::-1][1:], EOS] if task == "seq2seq" else list(ids)
            if task == "masked":
                labels = [token if place % 2 == index % 2 else -100 for place, token in enumerate(ids)]
                ids = [MASK if label != -100 else token for token, label in zip(ids, labels, strict=True)]
            rows.append(
                {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, "row_id": index}
            )
        return rows

    return make


def collate(rows: list[dict[str, Any]]) -> Batch:
    """Pad on the right; labels with -100."""
    batch = {}
    for name, value in (("input_ids", PAD), ("attention_mask", 0), ("labels", -100)):
        longest = max(len(row[name]) for row in rows)
        batch[name] = torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
    batch["row_id"] = torch.tensor([row["row_id"] for row in rows])
    return batch


@pytest.fixture(name="collate")
def _collate() -> Callable[[list[dict[str, Any]]], Batch]:
    """The collator of these tests."""
    return collate


@pytest.fixture(name="make_tokenizer")
def _make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """``make_tokenizer(tokens=None)``: a word-level tokenizer of ``VOCAB`` tokens, one a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    def make(words: list[str] | None = None) -> PreTrainedTokenizerFast:
        words = words or [f"w{index}" for index in range(VOCAB - 3)]
        vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", "<mask>", *words])}
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<mask>"))  # noqa: S106 - a token's name
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", EOS)]
        )
        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # untyped in transformers
            tokenizer_object=backend,
            pad_token="<pad>",  # noqa: S106 - a token's name
            eos_token="</s>",  # noqa: S106 - a token's name
            mask_token="<mask>",  # noqa: S106 - names
        )

    return make


@pytest.fixture(name="make_arguments")
def _make_arguments(tmp_path: Path) -> Callable[..., TrainingArguments]:
    """``make_arguments(**changes)``: a quiet CPU run of one batch a step, logged at every step."""

    def make(**changes: object) -> TrainingArguments:
        options: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 1,
            "per_device_train_batch_size": 4,
            "learning_rate": 0.02,
            "lr_scheduler_type": "constant",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "remove_unused_columns": False,
            "dataloader_pin_memory": False,
            "weight_decay": 0.0,
            "seed": 0,
        }
        return TrainingArguments(**{**options, **changes})

    return make
