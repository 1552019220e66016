"""The arguments of transformers are what settings and policy say, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from distill_adapters import ConfigError, TrainConfig, training_arguments


def test_batches_keep_their_size(make_policy: Any, tmp_path: Path) -> None:
    """Micro-batch times accumulation is the batch that was asked for, whatever the policy planned for."""
    for size in (1, 4, 6, 7, 32):
        policy = make_policy("marian", batch=4, micro_batch=4, accumulation=1)
        made = training_arguments(TrainConfig(batch_size=size), policy, tmp_path, task="seq2seq", seed=1)
        assert made.per_device_train_batch_size * made.gradient_accumulation_steps == size
        assert made.per_device_train_batch_size <= 4


def test_every_field_arrives(make_policy: Any, tmp_path: Path) -> None:
    """Steps, rates, intervals; explicit device and types; nobody is reported to."""
    settings = TrainConfig(
        steps=50, learning_rate=0.5, warmup=0.1, schedule="linear", evaluate_every=7, save_every=9
    )
    made = training_arguments(settings, make_policy("marian"), tmp_path / "x", task="seq2seq", seed=3)
    assert isinstance(made, Seq2SeqTrainingArguments)
    assert (made.max_steps, made.learning_rate, made.warmup_steps) == (50, 0.5, 5)
    assert (made.eval_steps, made.save_steps, made.seed) == (7, 9, 3)
    assert (made.use_cpu, made.bf16, made.fp16) == (True, False, False)
    assert made.report_to == []
    assert made.disable_tqdm
    assert not made.logging_nan_inf_filter
    assert not (tmp_path / "x").exists()
    plain = training_arguments(TrainConfig(epochs=2), make_policy("bert"), tmp_path, task="masked", seed=0)
    assert type(plain) is TrainingArguments
    assert (plain.num_train_epochs, plain.max_steps) == (2, -1)
    assert plain.get_warmup_steps(1000) == 60
    assert plain.save_strategy == "no"


def test_extra_goes_through_or_is_refused(make_policy: Any, tmp_path: Path) -> None:
    """What transformers knows and we do not decide; else with the nearest name."""
    policy = make_policy("marian")
    made = training_arguments(
        TrainConfig(extra={"adam_beta2": 0.98}), policy, tmp_path, task="seq2seq", seed=0
    )
    assert made.adam_beta2 == 0.98
    for extra, suggestion in (({"adam_betta2": 1}, "adam_beta2"), ({"learning_rate": 1}, None)):
        with pytest.raises(ConfigError) as caught:
            training_arguments(TrainConfig(extra=extra), policy, tmp_path, task="seq2seq", seed=0)
        assert caught.value.field == f"extra.{next(iter(extra))}"
        assert caught.value.suggestion == suggestion
