"""From a configuration and a policy to ``transformers.TrainingArguments``, every precision flag explicit."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.config import Task, TrainConfig, check_task
from distill_adapters.errors import ConfigError
from distill_adapters.spelling import did_you_mean, near

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from distill_hwdetect import ExecutionPolicy

_LOG_EVERY = 10
_KEPT_CHECKPOINTS = 2
# What ``extra`` may decide otherwise.
_OPEN = ("report_to", "logging_steps", "eval_strategy", "save_strategy", "save_total_limit")
_ALWAYS: Mapping[str, object] = {
    "logging_steps": _LOG_EVERY,
    "logging_first_step": True,
    # A loss that is not finite stops the run; it is never logged as 0.0.
    "logging_nan_inf_filter": False,
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "report_to": "none",
    "disable_tqdm": True,
}


def training_arguments(
    config: TrainConfig, policy: "ExecutionPolicy", output_dir: str | Path, *, task: Task, seed: int
) -> "TrainingArguments":
    """Build the arguments of a :class:`SafeTrainer`.

    Args:
        config: How to train.
        policy: What the machine allows. The largest micro-batch that it allows and that divides the batch is
            taken.
        output_dir: The folder for checkpoints.
        task: The task of the model; seq2seq models get the arguments that generation in evaluation needs.
        seed: Seed of data order, dropout and masking.

    Raises:
        ConfigError: ``config.extra`` holds an argument that ``TrainingArguments`` does not have, or one that
            the policy or another field decides.

    Example:
        >>> from distill_adapters import TrainConfig, training_arguments
        >>> from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts
        >>> needs = Requirements(task="causal", model=read_model_facts("writer"), effective_batch=8)
        >>> config = TrainConfig(steps=100, batch_size=8, warmup=0.1)
        >>> made = training_arguments(config, choose_policy(detect(), needs), "work", task="causal", seed=1)
        >>> made.per_device_train_batch_size * made.gradient_accumulation_steps, made.warmup_steps
        (8, 10)
    """
    from transformers import Seq2SeqTrainingArguments, TrainingArguments

    made = Seq2SeqTrainingArguments if check_task(task) == "seq2seq" else TrainingArguments
    known = {field.name for field in dataclasses.fields(made)}
    options = {
        "output_dir": str(output_dir),
        **_decided(config, policy),
        **_ALWAYS,
        "seed": seed,
        "data_seed": seed,
    }
    checkpointing = (
        "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    )
    options[checkpointing] = policy.gradient_checkpointing.value
    options |= _warmup(config, known)
    _check_extra(config, known, options)
    return made(**{**options, **config.extra})


def _decided(config: TrainConfig, policy: "ExecutionPolicy") -> dict[str, Any]:
    """The arguments that the configuration and the policy decide."""
    micro, accumulation = _micro_batches(config.batch_size, policy)
    return {
        "max_steps": config.steps or -1,
        "num_train_epochs": config.epochs or 3.0,
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "label_smoothing_factor": config.label_smoothing,
        "optim": policy.optimizer.value,
        "bf16": policy.compute_dtype.value == "bfloat16",
        "fp16": policy.compute_dtype.value == "float16",
        "use_cpu": policy.device.value == "cpu",
        "torch_compile": policy.compile.value,
        "dataloader_num_workers": policy.workers.value,
        "dataloader_pin_memory": policy.device.value != "cpu",
        "eval_strategy": "steps" if config.evaluate_every else "no",
        "eval_steps": config.evaluate_every,
        "save_strategy": "steps" if config.save_every else "no",
        "save_steps": config.save_every or 500,
        "save_total_limit": _KEPT_CHECKPOINTS,
    }


def _micro_batches(batch_size: int, policy: "ExecutionPolicy") -> tuple[int, int]:
    """Micro-batch and accumulation whose product is the effective batch, nearest to the policy's."""
    asked = policy.micro_batch.value
    limit = min(asked, batch_size) if isinstance(asked, int) and asked > 0 else batch_size
    micro = next(size for size in range(limit, 0, -1) if batch_size % size == 0)
    return micro, batch_size // micro


def _warmup(config: TrainConfig, known: set[str]) -> dict[str, float]:
    if config.steps is not None:
        return {"warmup_steps": round(config.warmup * config.steps)}
    # transformers 5 reads a number below 1 as a share; before, the share had a field of its own.
    return {"warmup_ratio" if "warmup_ratio" in known else "warmup_steps": config.warmup}


def _check_extra(config: TrainConfig, known: set[str], taken: dict[str, Any]) -> None:
    for name, value in config.extra.items():
        field = f"extra.{name}"
        if name not in known:
            suggestion = near(name, known)
            raise ConfigError(
                f"extra: {name!r} is not a field of TrainingArguments.{did_you_mean(suggestion)}",
                field=field,
                found=name,
                suggestion=suggestion,
            )
        if name in taken and name not in _OPEN:
            raise ConfigError(
                f"extra: {name!r} is decided by another field or by the policy; set it there.",
                field=field,
                found=value,
            )
