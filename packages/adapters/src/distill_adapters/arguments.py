"""From a configuration and a policy to ``transformers.TrainingArguments``, every precision flag explicit."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.config import Task, TrainConfig, check_task

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
        config: What the user chose.
        policy: What the machine allows; its micro-batch is used where it divides the batch.
        output_dir: Where checkpoints go.
        task: For generation during evaluation (seq2seq).
        seed: Of data order, dropout and masking.

    Raises:
        ValueError: ``config.extra`` holds what ``TrainingArguments`` does not know, or what the policy
            or another setting decides.
    """
    from transformers import Seq2SeqTrainingArguments, TrainingArguments

    made = Seq2SeqTrainingArguments if check_task(task) == "seq2seq" else TrainingArguments
    known = {field.name for field in dataclasses.fields(made)}
    micro, accumulation = _micro_batches(config.batch_size, policy)
    options: dict[str, Any] = {
        "output_dir": str(output_dir),
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
    for name in config.extra:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"extra: {name!r} is no field of TrainingArguments.{hint}")
        if name in taken and name not in _OPEN:
            raise ValueError(f"extra: {name!r} is decided by another field or the policy; set it there.")
