"""M2M100 and NLLB, which have no method for decoder inputs, are distilled like other encoder-decoders."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, M2M100Config, M2M100ForConditionalGeneration

from distill_kd import CacheConfig, CachedTeacher, DistillationTrainer, LiveTeacher, Objective, write_cache

EOS, LANGUAGE = 1, 5
SHAPE: dict[str, Any] = {
    "vocab_size": 24,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "eos_token_id": EOS,
    "decoder_start_token_id": EOS,
    "init_std": 0.3,
    **dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0),
}


def m2m100(seed: int) -> Any:
    """A tiny M2M100."""
    torch.manual_seed(seed)
    return M2M100ForConditionalGeneration(M2M100Config(**SHAPE))


def nllb(seed: int) -> Any:
    """A tiny NLLB: its configuration says model_type m2m_100 and names its own tokenizer."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model("m2m_100", tokenizer_class="NllbTokenizer", scale_embedding=True, **SHAPE)
    return AutoModelForSeq2SeqLM.from_config(config)  # type: ignore[no-untyped-call]  # untyped there


def rows_of(make_rows: Any) -> list[dict[str, Any]]:
    """Rows whose labels begin with the token of the target language."""
    return [{**row, "labels": [LANGUAGE, *row["labels"]]} for row in make_rows("seq2seq", count=6)]


@pytest.mark.parametrize("make", [m2m100, nllb])
def test_live_and_cached_teachers_train_alike(
    make: Any, make_rows: Any, make_arguments: Any, collate: Any, tmp_path: Any
) -> None:
    """Equal losses, which fall; both decoders read the end token, the language and the answer."""
    rows, live = rows_of(make_rows), LiveTeacher(make(1))
    assert not hasattr(live.model, "prepare_decoder_input_ids_from_labels"), "or this test shows nothing"
    write_cache(live, rows, collate, tmp_path / "cache", task="seq2seq")
    read: list[Tensor] = []
    live.model.register_forward_pre_hook(
        lambda _, args, options: read.append(options["decoder_input_ids"].clone()), with_kwargs=True
    )
    losses = []
    for teacher in (live, CachedTeacher(tmp_path / "cache")):
        trainer = DistillationTrainer(
            make(0),
            teacher=teacher,
            objective=Objective("seq2seq", temperature=2.0),
            args=make_arguments(max_steps=12),
            train_dataset=rows,
            data_collator=collate,
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert losses[0][-1] < losses[0][0]
    assert all(ids[:, 0].eq(EOS).all() and ids[:, 1].eq(LANGUAGE).all() for ids in read)


@pytest.mark.parametrize("make", [m2m100, nllb])
def test_a_truncated_cache_trains_as_well(
    make: Any, make_rows: Any, make_arguments: Any, collate: Any, tmp_path: Any
) -> None:
    """With the k most likely tokens and the tail the loss falls too."""
    rows = rows_of(make_rows)
    config = CacheConfig(k=8)
    write_cache(LiveTeacher(make(1)), rows, collate, tmp_path / "cache", task="seq2seq", config=config)
    trainer = DistillationTrainer(
        make(0),
        teacher=CachedTeacher(tmp_path / "cache"),
        objective=Objective("seq2seq"),
        args=make_arguments(max_steps=12),
        train_dataset=rows,
        data_collator=collate,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
