"""Memory that a model needs, by a formula over its configuration."""

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distill_hwdetect.steps import (
    Trained,
    activation_bytes,
    layer_bytes,
    logits_bytes,
    parts_of,
    scored,
)
from distill_hwdetect.workload import BYTES_OF, Workload

if TYPE_CHECKING:
    from distill_hwdetect.models import ModelFacts

# The rest is left to fragmentation and to what other processes do meanwhile.
USABLE_SHARE = 0.85
# Measured (benchmarks/memory.py): what torch, transformers, peft, datasets and bitsandbytes hold once they
# are imported, torch built for CUDA as the index gives it on Linux; and what of the libraries is read while
# they run, with what is kept in small pieces.
IMPORTS_BYTES = 870 * 2**20
CPU_RUNTIME_BYTES = IMPORTS_BYTES + 90 * 2**20
# What bitsandbytes takes beside (measured in the same way).
QUANTIZED_RUNTIME_BYTES = 40 * 2**20
# A CUDA context is a few hundred MB, not measured here.
DEVICE_RUNTIME_BYTES = 600 * 2**20
# int8 keeps a float32 scale a row; nf4 with double quantization 0.516 bytes a weight (QLoRA,
# arXiv:2305.14314).
QUANTIZED_BYTES = {"int8": 1.01, "nf4": 0.516}
# Measured: 8-bit AdamW 2.04 bytes a parameter, AdamW 8.
STATE_BYTES = {"adamw_torch_fused": 8.0, "adamw_torch": 8.0, "adamw_8bit": 2.04, "paged_adamw_8bit": 2.04}


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes at the peak of a training run, or of a forward pass.

    Not all parts peak at the same time: ``total = weights + teacher + cache + runtime + working``, where
    ``working`` is the largest sum of optimizer states, gradients, activations and logits that are in memory
    at once (see ``distill_hwdetect.steps``).

    Args:
        weights_bytes: The model's weights, including adapters.
        gradients_bytes: Gradients of the trained weights.
        optimizer_bytes: States of the optimizer.
        activations_bytes: Activations that the backward pass needs.
        logits_bytes: Logits over the vocabulary, and their copies.
        teacher_bytes: The teacher's weights.
        cache_bytes: Keys and values during generation.
        runtime_bytes: Imported libraries and what they allocate to run, a measured constant.
        working_bytes: The most that is in memory at once in addition to weights, teacher, cache and runtime.
        peak: The part of the run with that maximum: ``loss``, ``head``, ``blocks``, ``update``, ``check`` or
            ``teacher`` in training, otherwise ``forward``.
        budget_bytes: Memory that may be used, 0.85 of what is free; None if that is not known.
    """

    weights_bytes: int
    gradients_bytes: int = 0
    optimizer_bytes: int = 0
    activations_bytes: int = 0
    logits_bytes: int = 0
    teacher_bytes: int = 0
    cache_bytes: int = 0
    runtime_bytes: int = CPU_RUNTIME_BYTES
    working_bytes: int
    peak: str = "forward"
    budget_bytes: int | None = None

    @property
    def total_bytes(self) -> int:
        """Bytes at the peak, all parts together."""
        fixed = self.weights_bytes + self.teacher_bytes + self.cache_bytes + self.runtime_bytes
        return fixed + self.working_bytes

    @property
    def fits(self) -> bool:
        """Whether the peak is within the budget; also True if no budget is known."""
        return self.budget_bytes is None or self.total_bytes <= self.budget_bytes

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types, with ``total_bytes`` and ``fits``."""
        return {**dataclasses.asdict(self), "total_bytes": self.total_bytes, "fits": self.fits}


def weight_bytes(facts: "ModelFacts", *, storage_dtype: str, quantization: str) -> int:
    """Return the bytes of frozen weights; embeddings, heads and norms are never quantized."""
    plain = BYTES_OF[storage_dtype]
    if quantization == "none":
        return int(facts.parameters * plain)
    kept = facts.unquantized_parameters
    return int(kept * plain + (facts.parameters - kept) * QUANTIZED_BYTES[quantization])


def estimate(
    facts: "ModelFacts",
    workload: Workload,
    *,
    teacher: "ModelFacts | None" = None,
    teacher_bytes: int = 0,
    budget_bytes: int | None = None,
) -> MemoryEstimate:
    """Estimate one workload; ``estimate_memory`` is the same from a policy."""
    weights = weight_bytes(facts, storage_dtype=workload.storage_dtype, quantization=workload.quantization)
    runtime = CPU_RUNTIME_BYTES if workload.device == "cpu" else DEVICE_RUNTIME_BYTES
    if workload.device == "cpu" and workload.quantization != "none":
        runtime += QUANTIZED_RUNTIME_BYTES
    if not workload.training:
        passing = int(max(layer_bytes(facts, replace(workload, adapter="full"))))
        scores = scored(workload) * facts.vocab_size * 4
        return MemoryEstimate(
            weights_bytes=weights,
            activations_bytes=passing,
            logits_bytes=scores,
            teacher_bytes=teacher_bytes,
            cache_bytes=_cache_bytes(facts, workload),
            runtime_bytes=runtime,
            working_bytes=passing + scores,
            budget_bytes=budget_bytes,
        )
    full = workload.adapter == "full"
    trainable = facts.parameters if full else _lora_parameters(facts)
    trained = Trained(
        gradients=4 * trainable,
        states=STATE_BYTES[workload.optimizer] * trainable,
        table=4 * facts.vocab_size * facts.hidden_size if full else 0,
        tied=facts.tied,
    )
    asked = None if workload.distillation in ("none", "cached") else teacher
    parts = parts_of(facts, workload, trained, teacher=asked)
    if workload.device == "cpu":  # a teacher's files are mapped, and not yet read when gradients are checked
        parts["check"] -= teacher_bytes
    peak = max(parts, key=lambda name: parts[name])
    return MemoryEstimate(
        weights_bytes=weights + (0 if full else 4 * trainable),
        gradients_bytes=int(trained.gradients),
        optimizer_bytes=int(trained.states),
        activations_bytes=activation_bytes(facts, workload),
        logits_bytes=logits_bytes(facts, workload),
        teacher_bytes=teacher_bytes,
        runtime_bytes=runtime,
        working_bytes=int(parts[peak]),
        peak=peak,
        budget_bytes=budget_bytes,
    )


def _lora_parameters(facts: "ModelFacts", rank: int = 8) -> int:
    """Return the adapters' parameters when every linear layer of a block is adapted."""
    h, kv, inner = facts.hidden_size, facts.kv_width, facts.intermediate_size
    per_block = rank * (2 * (h + h) + 2 * (h + kv) + 3 * (h + inner))
    cross = rank * 4 * (h + h) * (facts.decoder_layers if facts.decoder_layers < facts.layers else 0)
    return facts.layers * per_block + cross


def _cache_bytes(facts: "ModelFacts", workload: Workload) -> int:
    if workload.task == "masked":
        return 0
    depth = facts.decoder_layers or facts.layers
    tokens = workload.micro_batch * (workload.source_length + workload.target_length)
    return int(2 * depth * facts.kv_width * tokens * BYTES_OF[workload.compute_dtype])
