"""One training run or forward pass: the settings that memory depends on."""

from dataclasses import dataclass
from typing import Literal

from distill_hwdetect.tasks import Task

Distillation = Literal["none", "chunked", "full", "cached"]

BYTES_OF = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The settings that memory depends on.

    Args:
        task: The model's task.
        training: Whether the model is trained; False means a forward pass only.
        micro_batch: Examples per forward pass.
        source_length: Tokens of an input.
        target_length: Tokens of an output, used for ``seq2seq`` and for generation.
        device: Kind of the device; ``cpu`` takes more memory for libraries than others.
        storage_dtype: Type of the weights that are not quantized.
        compute_dtype: Type of the activations.
        quantization: Quantization of the frozen weights.
        adapter: What is trained: ``full``, ``lora`` or ``qlora``.
        optimizer: Name of the optimizer, as ``transformers.TrainingArguments(optim=...)`` takes it.
        checkpointing: Whether activations are recomputed in the backward pass.
        distillation: How the teacher's logits are obtained: ``none``, ``chunked`` (for a part of the
            positions at a time), ``full`` (for all at once), or ``cached`` (read from disk).
        lora_dropout: Dropout of the adapters. Above 0, each adapter keeps its input twice, and a mask.
        accumulating: Whether gradients of earlier micro-batches are kept while the next one is computed.
    """

    task: Task
    training: bool = True
    micro_batch: int = 8
    source_length: int = 128
    target_length: int = 128
    device: str = "cpu"
    storage_dtype: str = "float32"
    compute_dtype: str = "float32"
    quantization: str = "none"
    adapter: str = "lora"
    optimizer: str = "adamw_torch_fused"
    checkpointing: bool = False
    distillation: Distillation = "none"
    lora_dropout: float = 0.05
    accumulating: bool = False
