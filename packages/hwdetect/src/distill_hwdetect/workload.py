"""One training run or forward pass: the settings that memory depends on."""

from dataclasses import dataclass
from typing import Literal

from distill_hwdetect.tasks import Task

Distillation = Literal["none", "chunked", "full", "cached"]

BYTES_OF = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The settings that memory depends on; a policy's values, gathered.

    Args:
        task: The model's task.
        training: False for a forward pass.
        micro_batch: Examples per forward pass.
        source_length: Tokens of an input.
        target_length: Tokens of an output (``seq2seq``, generating).
        device: ``cpu`` or another, for the runtime constant.
        storage_dtype: Of weights that are not quantized.
        compute_dtype: Of activations.
        quantization: Of the frozen weights.
        adapter: What is trained.
        optimizer: Its name.
        checkpointing: Whether activations are recomputed.
        distillation: How a teacher's scores are met: ``none``, ``chunked`` (a part of the positions at a
            time), ``full`` (all logits at once), or ``cached`` (read from disk, without the teacher).
        lora_dropout: Of the adapters; above 0 each keeps its input a second time, and a mask.
        accumulating: Whether gradients of earlier micro-batches wait while one is passed.
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
