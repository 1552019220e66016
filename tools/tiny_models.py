"""Tiny models of the three families, and a training step whose state is recorded, for the hardware checks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from distill_adapters import LoadedModel
    from distill_hwdetect import ExecutionPolicy

WORDS = tuple(f"w{number}" for number in range(91))
# Widths are multiples of 64, the block of 4-bit quantization.
CONFIGS: Mapping[str, Mapping[str, object]] = {
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    },
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    "marian": {
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "max_position_embeddings": 64,
    },
    "bert": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
}
TASKS = {"llama": "causal", "t5": "seq2seq", "marian": "seq2seq", "bert": "masked"}


def tokenizer() -> Any:
    """A tokenizer of words, with every special token that a family needs."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    special = ("<pad>", "</s>", "<unk>", "<s>", "[MASK]")
    vocabulary = {word: number for number, word in enumerate((*special, *WORDS))}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - no password
    inner.pre_tokenizer = Whitespace()
    names = ("pad_token", "eos_token", "unk_token", "bos_token", "mask_token")
    made: Any = PreTrainedTokenizerFast  # untyped in transformers
    return made(tokenizer_object=inner, **dict(zip(names, special, strict=True)))


def save_tiny(family: str, folder: Path, **fields: object) -> Path:
    """Make a model of a family with a fixed seed, and save it as a user would.

    Args:
        family: A key of ``CONFIGS``.
        folder: Where.
        fields: What shall differ from ``CONFIGS``.
    """
    from distill_adapters import new_model, save_model

    task: Any = TASKS[family]
    config = {"model_type": family, **CONFIGS[family], **fields}
    return save_model(new_model(config, tokenizer(), task=task, seed=7), folder)


def rows(task: str, count: int) -> list[dict[str, object]]:
    """Tokenized rows of one length: copying for seq2seq, continuing for the others."""
    made: list[dict[str, object]] = []
    for number in range(count):
        ids = [5 + (number * 7 + place * 3) % len(WORDS) for place in range(11)] + [1]
        row: dict[str, object] = {"input_ids": ids, "attention_mask": [1] * len(ids), "row_id": number}
        if task != "masked":
            row["labels"] = ids
        made.append(row)
    return made


@dataclass
class Observed(TrainerCallback):
    """Record the state of a step: arguments, kinds of parameters, optimizer, losses."""

    arguments: Any = None
    optimizer: str = ""
    checkpointing: bool = False
    trainable: set[str] = field(default_factory=set)
    layers: set[str] = field(default_factory=set)
    dtypes: set[str] = field(default_factory=set)
    losses: list[float] = field(default_factory=list)
    changed: bool = False
    _before: dict[str, Any] = field(default_factory=dict)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Copy the trainable parameters, to compare them later."""
        named = kwargs["model"].named_parameters()
        self._before = {name: one.detach().cpu().clone() for name, one in named if one.requires_grad}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the model and the optimizer after a step."""
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        self.arguments = args
        inner = getattr(optimizer, "optimizer", optimizer)
        self.optimizer = f"{type(inner).__module__.partition('.')[0]}.{type(inner).__name__}"
        # transformers 5.23 renamed it, and warns at the old name.
        new = hasattr(model, "is_activation_checkpointing")
        name = "is_activation_checkpointing" if new else "is_gradient_checkpointing"
        self.checkpointing = bool(getattr(model, name, False))
        self.layers = {type(one).__name__ for one in model.modules()}
        for name, one in model.named_parameters():
            if one.requires_grad:
                self.trainable.add("lora" if "lora_" in name else "base")
                self.changed |= not bool((one.detach().cpu() == self._before[name]).all())
            elif one.is_floating_point():
                self.dtypes.add(str(one.dtype).removeprefix("torch."))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keep the losses."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def train(
    folder: Path, policy: ExecutionPolicy, out: Path, *, task: Any, steps: int, effective_batch: int
) -> tuple[Observed, LoadedModel]:
    """Load a folder under a policy, attach its adapter, train, and return the record.

    Raises:
        RuntimeError: The loss is not finite, or nothing that is trainable changed.
    """
    from datasets import Dataset

    from distill_adapters import AdapterConfig, FineTuner, TrainConfig, attach, load_model

    loaded = load_model(folder, policy, task)
    adapter = policy.adapter.value
    if adapter != "full":
        loaded = attach(loaded, AdapterConfig(kind=adapter))
    observed = Observed()
    settings = TrainConfig(steps=steps, batch_size=effective_batch, learning_rate=1e-3, warmup=0.0)
    tuner = FineTuner(loaded, config=settings, policy=policy, output_dir=out, seed=7, callbacks=[observed])
    outcome = tuner.train({"train": Dataset.from_list(rows(task, effective_batch * min(steps, 4)))})
    if not math.isfinite(outcome.loss) or not observed.changed or outcome.steps != steps:
        raise RuntimeError(f"loss {outcome.loss} after {outcome.steps} steps; changed: {observed.changed}")
    return observed, loaded
