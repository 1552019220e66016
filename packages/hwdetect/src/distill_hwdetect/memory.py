"""What a model needs in memory, by a closed form over its configuration."""

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from distill_hwdetect.blocks import Case, blocks_of

if TYPE_CHECKING:
    from typing import Literal

    from distill_hwdetect.models import ModelFacts, Task

    Distillation = Literal["none", "chunked", "full", "cached"]

# The rest is left to fragmentation and to what other processes do meanwhile.
USABLE_SHARE = 0.85
# Measured: the constant that makes the form fit six cells on a CPU; a CUDA context is a few hundred MB.
CPU_RUNTIME_BYTES = 110 * 2**20
DEVICE_RUNTIME_BYTES = 600 * 2**20
# float32 copies of the logits alive at once: cross-entropy; distillation (two softmaxes and their gradients).
LOGITS_COPIES = 3
DISTILLATION_LOGITS_COPIES = 7
# What distill-kd's chunked objective takes for the scores of student and teacher by default.
CHUNK_BYTES = 128 * 2**20
# A cached teacher: an id and a log-probability for each of the likeliest tokens of a position.
CACHED_TOKENS, CACHED_ENTRY_BYTES = 64, 12

BYTES_OF = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
# int8 keeps a float32 scale a row; nf4 with double quantization 0.516 bytes a weight (QLoRA,
# arXiv:2305.14314).
QUANTIZED_BYTES = {"int8": 1.01, "nf4": 0.516}
# Measured: 8-bit AdamW 2.04 bytes a parameter, AdamW 8.
STATE_BYTES = {"adamw_torch_fused": 8.0, "adamw_torch": 8.0, "adamw_8bit": 2.04, "paged_adamw_8bit": 2.04}


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes at the peak of a training step, or of a forward pass.

    Gradients with optimizer states and activations with logits do not peak together:
    ``total = weights + teacher + cache + runtime + max(gradients + optimizer step, optimizer + activations
    + logits)``.

    Args:
        weights_bytes: The model, adapters included.
        gradients_bytes: Of what is trained.
        optimizer_bytes: Its states.
        activations_bytes: What the backward pass needs again.
        logits_bytes: float32 scores over the vocabulary and their copies.
        teacher_bytes: The teacher's weights.
        cache_bytes: Keys and values while generating.
        runtime_bytes: Library and allocator, measured or a constant.
        budget_bytes: What may be used: 0.85 of what is free; None when that is not known.
    """

    weights_bytes: int
    gradients_bytes: int = 0
    optimizer_bytes: int = 0
    activations_bytes: int = 0
    logits_bytes: int = 0
    teacher_bytes: int = 0
    cache_bytes: int = 0
    runtime_bytes: int = CPU_RUNTIME_BYTES
    budget_bytes: int | None = None

    @property
    def total_bytes(self) -> int:
        """The peak."""
        fixed = self.weights_bytes + self.teacher_bytes + self.cache_bytes + self.runtime_bytes
        moving = max(self.gradients_bytes, self.activations_bytes + self.logits_bytes)
        return fixed + self.optimizer_bytes + moving

    @property
    def fits(self) -> bool:
        """True when the peak is within the budget, or no budget is known."""
        return self.budget_bytes is None or self.total_bytes <= self.budget_bytes

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types, with ``total_bytes`` and ``fits``."""
        return {**dataclasses.asdict(self), "total_bytes": self.total_bytes, "fits": self.fits}


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
    """

    task: "Task"
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
    distillation: "Distillation" = "none"
    lora_dropout: float = 0.05


class PolicyValues(Protocol):
    """What ``estimate_memory`` reads of a policy."""

    def value(self, name: str) -> object:
        """Return the value of one field."""


def estimate_memory(
    facts: "ModelFacts",
    policy: PolicyValues,
    *,
    task: "Task | None" = None,
    training: bool = True,
    source_length: int = 128,
    target_length: int = 128,
    teacher: "ModelFacts | None" = None,
    teacher_policy: PolicyValues | None = None,
    distillation: "Distillation | None" = None,
    lora_dropout: float = 0.05,
    budget_bytes: int | None = None,
) -> MemoryEstimate:
    """Estimate what a model needs under a policy.

    Args:
        facts: The model.
        policy: How it is run: an ``ExecutionPolicy``.
        task: Overrides the facts' task.
        training: False for a forward pass.
        source_length: Tokens of an input.
        target_length: Tokens of an output.
        teacher: A teacher beside it, in distillation.
        teacher_policy: How the teacher is kept; the student's storage type, not quantized, without one.
        distillation: How the teacher's scores are met; ``chunked`` with a teacher, ``none`` without one.
        lora_dropout: Of the adapters.
        budget_bytes: What may be used, carried into the result.

    Returns:
        The estimate, at the policy's micro-batch.

    Source:
        The form was fitted to measured peaks of small Llama-like models on a CPU (within 6 % on seven cells).
    """
    workload = Workload(
        task=task or facts.task or "causal",
        training=training,
        micro_batch=int(str(policy.value("micro_batch"))),
        source_length=source_length,
        target_length=target_length,
        device=str(policy.value("device")),
        storage_dtype=str(policy.value("storage_dtype")),
        compute_dtype=str(policy.value("compute_dtype")),
        quantization=str(policy.value("quantization")),
        adapter=str(policy.value("adapter")),
        optimizer=str(policy.value("optimizer")),
        checkpointing=policy.value("gradient_checkpointing") is True,
        distillation=distillation or ("none" if teacher is None else "chunked"),
        lora_dropout=lora_dropout,
    )
    kept = teacher_policy or policy
    teacher_bytes = 0
    if teacher is not None and distillation != "cached":
        quantization = "none" if teacher_policy is None else str(kept.value("quantization"))
        teacher_bytes = weight_bytes(
            teacher, storage_dtype=str(kept.value("storage_dtype")), quantization=quantization
        )
    return estimate(facts, workload, teacher_bytes=teacher_bytes, budget_bytes=budget_bytes)


def weight_bytes(facts: "ModelFacts", *, storage_dtype: str, quantization: str) -> int:
    """Return the bytes of frozen weights; embeddings, heads and norms are never quantized."""
    plain = BYTES_OF[storage_dtype]
    if quantization == "none":
        return int(facts.parameters * plain)
    kept = facts.unquantized_parameters
    return int(kept * plain + (facts.parameters - kept) * QUANTIZED_BYTES[quantization])


def estimate(
    facts: "ModelFacts", workload: Workload, *, teacher_bytes: int = 0, budget_bytes: int | None = None
) -> MemoryEstimate:
    """Estimate one workload; ``estimate_memory`` is the same from a policy."""
    weights = weight_bytes(facts, storage_dtype=workload.storage_dtype, quantization=workload.quantization)
    runtime = CPU_RUNTIME_BYTES if workload.device == "cpu" else DEVICE_RUNTIME_BYTES
    if not workload.training:
        return MemoryEstimate(
            weights_bytes=weights,
            activations_bytes=int(max(_layer_bytes(facts, replace(workload, adapter="full")))),
            logits_bytes=_scored(workload) * facts.vocab_size * 4,
            teacher_bytes=teacher_bytes,
            cache_bytes=_cache_bytes(facts, workload),
            runtime_bytes=runtime,
            budget_bytes=budget_bytes,
        )
    full = workload.adapter == "full"
    trainable = facts.parameters if full else _lora_parameters(facts)
    return MemoryEstimate(
        weights_bytes=weights + (0 if full else 4 * trainable),
        gradients_bytes=4 * trainable,
        optimizer_bytes=int(STATE_BYTES[workload.optimizer] * trainable),
        activations_bytes=_activation_bytes(facts, workload),
        logits_bytes=_logits_bytes(facts, workload),
        teacher_bytes=teacher_bytes,
        runtime_bytes=runtime,
        budget_bytes=budget_bytes,
    )


def _tokens(workload: Workload) -> tuple[int, int]:
    """Return the tokens that pass the first stack, and those that pass the decoder behind an encoder."""
    source = workload.micro_batch * workload.source_length
    return source, workload.micro_batch * workload.target_length if workload.task == "seq2seq" else 0


def _lora_parameters(facts: "ModelFacts", rank: int = 8) -> int:
    """Return the adapters' parameters when every linear layer of a block is adapted."""
    h, kv, inner = facts.hidden_size, facts.kv_width, facts.intermediate_size
    per_block = rank * (2 * (h + h) + 2 * (h + kv) + 3 * (h + inner))
    cross = rank * 4 * (h + h) * (facts.decoder_layers if facts.decoder_layers < facts.layers else 0)
    return facts.layers * per_block + cross


def _layer_bytes(facts: "ModelFacts", workload: Workload) -> tuple[float, float]:
    """Return what one encoder block (or the only kind there is) and one decoder block keep."""
    first, second = blocks_of(facts.family, workload.task)
    case: Case = (workload.adapter, workload.lora_dropout)
    source, target = _tokens(workload)
    # Attention that drops out or adds a bias keeps its scores, one for each head and pair of tokens.
    scores = facts.score_copies * facts.heads
    encoder = source * (first.elements(facts, case) + scores * workload.source_length)
    pairs = scores * (workload.target_length + workload.source_length)
    decoder = target * (second.elements(facts, case) + pairs) + source * second.crossed(facts, case)
    size = BYTES_OF[workload.compute_dtype]
    return size * encoder, size * decoder


def _activation_bytes(facts: "ModelFacts", workload: Workload) -> int:
    source, target = _tokens(workload)
    encoder, decoder = _layer_bytes(facts, workload)
    behind = facts.decoder_layers if workload.task == "seq2seq" else 0
    width = BYTES_OF[workload.compute_dtype] * facts.hidden_size
    # Embeddings, their dropout and the last norm.
    ends = 3 * width * (source + target)
    if workload.checkpointing:
        passed = width * (source * (facts.layers - behind) + target * behind)
        return int(ends + passed + max(encoder, decoder if behind else 0.0))
    return int(ends + encoder * (facts.layers - behind) + decoder * behind)


def _scored(workload: Workload) -> int:
    """Return the positions that get scores: all in training, the last of a prompt when a model is run."""
    source, target = _tokens(workload)
    if not workload.training and workload.task != "masked":
        return workload.micro_batch
    return target if workload.task == "seq2seq" else source


def _logits_bytes(facts: "ModelFacts", workload: Workload) -> int:
    scores = _scored(workload) * facts.vocab_size * 4
    if workload.distillation == "none":
        return scores * LOGITS_COPIES
    if workload.distillation == "full":
        return scores * DISTILLATION_LOGITS_COPIES
    kept = 0
    if workload.distillation == "cached":
        kept = _scored(workload) * CACHED_TOKENS * CACHED_ENTRY_BYTES
    # The student's and the teacher's scores of one chunk; the gradient takes the place of the former.
    return min(2 * scores, CHUNK_BYTES) + kept


def _cache_bytes(facts: "ModelFacts", workload: Workload) -> int:
    if workload.task == "masked":
        return 0
    depth = facts.decoder_layers or facts.layers
    tokens = workload.micro_batch * (workload.source_length + workload.target_length)
    return int(2 * depth * facts.kv_width * tokens * BYTES_OF[workload.compute_dtype])
