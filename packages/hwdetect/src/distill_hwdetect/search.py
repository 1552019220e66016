"""Search for the least lossy settings that fit: storage, then optimizer, checkpointing, and batch last."""

import itertools
from dataclasses import dataclass, replace

from distill_hwdetect.devices import Target
from distill_hwdetect.memory import USABLE_SHARE, MemoryEstimate, estimate, weight_bytes
from distill_hwdetect.models import ModelFacts
from distill_hwdetect.policy import Requirements
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.workload import Workload

# Below half a billion parameters nf4 costs too much: measured 0.54 nats on a 135M model.
NF4_FLOOR = 500_000_000


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Overrides that limit the search; None leaves a field to the rules."""

    adapter: str | None = None
    quantization: str | None = None
    optimizer: str | None = None
    checkpointing: bool | None = None
    micro_batch: int | None = None
    storage_dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The settings that were found, and what stood before them in the order and did not fit."""

    workload: Workload
    memory: MemoryEstimate
    teacher_quantization: str
    passed_over: tuple[tuple[str, str, bool, int], ...]


def budget_of(target: Target) -> int | None:
    """Return the bytes that a policy may use."""
    return None if target.free_bytes is None else int(target.free_bytes * USABLE_SHARE)


def search_settings(
    profile: HardwareProfile,
    target: Target,
    requirements: Requirements,
    *,
    compute_dtype: str,
    teacher_dtype: str,
    bounds: Bounds,
) -> SearchResult:
    """Return the first settings, from least to most lossy, that fit, with the largest batch that does.

    When nothing fits, the most frugal settings come back with ``memory.fits`` False.
    """
    budget = budget_of(target)
    passed: list[tuple[str, str, bool, int]] = []
    least: tuple[Workload, MemoryEstimate, str] | None = None
    for workload, teacher_quantization in _candidates(profile, target, requirements, compute_dtype, bounds):
        teacher = _teacher_bytes(requirements, teacher_dtype, teacher_quantization)
        tried = [
            (sized, _needs(requirements, sized, teacher, budget), teacher_quantization)
            for sized in _sizes(workload, requirements, bounds)
        ]
        # The largest batch that fits; else the most frugal, which is not always the smallest: its gradients
        # wait for the rest of the effective batch.
        frugal = min(tried, key=lambda one: one[1].total_bytes)
        least = next((one for one in tried if one[1].fits), frugal)
        if least[1].fits:
            break
        passed.append(
            (workload.quantization, workload.optimizer, workload.checkpointing, frugal[1].total_bytes)
        )
    if least is None:
        raise AssertionError("the candidates are never empty")
    workload, memory, teacher_quantization = least
    return SearchResult(
        workload=workload, memory=memory, teacher_quantization=teacher_quantization, passed_over=tuple(passed)
    )


def quantizations(
    profile: HardwareProfile, target: Target, model: ModelFacts, *, adapter: str, training: bool
) -> tuple[str, ...]:
    """Return the storage kinds that the rules may choose, least lossy first."""
    if training and adapter == "full":
        return ("none",)
    if adapter == "qlora":
        return ("nf4",)
    if target.kind == "mps" or not _may_quantize(profile, target):
        return ("none",)
    kinds = ["none"]
    if allows_int8(target) and (target.kind == "cpu" or not training or adapter == "lora"):
        kinds.append("int8")
    if model.parameters >= NF4_FLOOR and (not training or adapter == "auto"):
        kinds.append("nf4")
    return tuple(kinds)


def allows_int8(target: Target) -> bool:
    """LLM.int8 needs compute capability 7.5 on NVIDIA."""
    capability = target.accelerator.capability if target.accelerator else None
    return not (target.kind == "cuda" and capability is not None and capability < (7, 5))


def optimizers(target: Target, *, quantization: str, adapter: str, training: bool) -> tuple[str, ...]:
    """Return the optimizers that the rules may choose, preferred first."""
    if not training:
        return ("adamw_torch_fused",)
    if target.kind == "mps":
        return ("adamw_torch",)
    if target.kind == "cpu":
        return ("adamw_torch_fused", "adamw_8bit") if adapter == "full" else ("adamw_torch_fused",)
    small = "adamw_8bit" if target.kind == "xpu" else "paged_adamw_8bit"
    unified = target.accelerator is not None and target.accelerator.unified
    if quantization == "nf4" and not unified:
        return (small,)
    return ("adamw_torch_fused", "adamw_8bit" if unified else small)


def _may_quantize(profile: HardwareProfile, target: Target) -> bool:
    if target.kind == "cpu" and not profile.cpu.has_vectors:
        return False
    return profile.packages is None or profile.torch is None or "bitsandbytes" in profile.packages


def _candidates(
    profile: HardwareProfile, target: Target, requirements: Requirements, compute_dtype: str, bounds: Bounds
) -> list[tuple[Workload, str]]:
    asked = bounds.adapter or requirements.adapter
    training = requirements.training
    kinds = quantizations(profile, target, requirements.model, adapter=asked, training=training)
    if bounds.quantization is not None:
        kinds = (bounds.quantization,)
    teacher_kinds: tuple[str, ...] = ("none",)
    if requirements.teacher is not None and requirements.distillation != "cached":
        teacher_kinds = quantizations(profile, target, requirements.teacher, adapter="auto", training=False)
    found = []
    # The teacher is quantized before the student: one chain, so that more memory never makes either lossier.
    pairs = [(kinds[0], kind) for kind in teacher_kinds] + [(kind, teacher_kinds[-1]) for kind in kinds[1:]]
    for kind, teacher_kind in pairs:
        adapter = _adapter(asked, kind, training=training)
        names = optimizers(target, quantization=kind, adapter=adapter, training=training)
        if bounds.optimizer is not None:
            names = (bounds.optimizer,)
        steps = (
            ((False, True) if bounds.checkpointing is None else (bounds.checkpointing,))
            if training
            else (False,)
        )
        for optimizer, checkpointing in itertools.product(names, steps):
            workload = Workload(
                task=requirements.task,
                training=training,
                source_length=requirements.source_length,
                target_length=requirements.target_length,
                device=target.kind,
                storage_dtype=bounds.storage_dtype
                or storage_dtype(compute_dtype, adapter, training=training),
                compute_dtype=compute_dtype,
                quantization=kind,
                adapter=adapter,
                optimizer=optimizer,
                checkpointing=checkpointing,
                distillation="none" if requirements.teacher is None else requirements.distillation,
            )
            found.append((workload, teacher_kind))
    return found


def storage_dtype(compute_dtype: str, adapter: str, *, training: bool) -> str:
    """Return the type of weights at rest: float32 where they are trained, else what is computed in."""
    return "float32" if training and adapter == "full" else compute_dtype


def _adapter(asked: str, kind: str, *, training: bool) -> str:
    if not training:
        return "full"
    if asked == "auto":
        return "qlora" if kind == "nf4" else "lora"
    return "qlora" if asked == "lora" and kind == "nf4" else asked


def _teacher_bytes(requirements: Requirements, dtype: str, quantization: str) -> int:
    if requirements.teacher is None or requirements.distillation == "cached":
        return 0
    return weight_bytes(requirements.teacher, storage_dtype=dtype, quantization=quantization)


def _sizes(workload: Workload, requirements: Requirements, bounds: Bounds) -> list[Workload]:
    """Return the micro-batches that divide the effective batch, largest first; or the one asked for."""
    batch = requirements.effective_batch
    sizes = [size for size in range(batch, 0, -1) if batch % size == 0]
    if bounds.micro_batch is not None:
        sizes = [bounds.micro_batch]
    training = workload.training
    return [replace(workload, micro_batch=size, accumulating=training and size < batch) for size in sizes]


def _needs(
    requirements: Requirements, workload: Workload, teacher_bytes: int, budget: int | None
) -> MemoryEstimate:
    return estimate(
        requirements.model,
        workload,
        teacher=requirements.teacher,
        teacher_bytes=teacher_bytes,
        budget_bytes=budget,
    )
