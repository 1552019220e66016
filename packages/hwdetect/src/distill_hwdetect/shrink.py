"""The largest workload that fits a machine, and what was adjusted to make it fit."""

from dataclasses import dataclass, replace

from distill_hwdetect.decision import choose_policy
from distill_hwdetect.policy import ExecutionPolicy, Requirements
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.rules import gib

SHORTEST = 16


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """A setting that differs from what was requested, because memory is short.

    Args:
        name: A field of the policy, ``distillation``, ``source_length`` or ``target_length``.
        requested: The value that it would have with enough memory.
        chosen: The value that it has.
        reason: Why it was changed.
    """

    name: str
    requested: object
    chosen: object
    reason: str


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A workload that fits, or the smallest one if none does.

    Args:
        policy: How it runs; ``policy.memory.fits`` says whether it fits.
        requirements: What the policy is for. Texts may be shorter, and the teacher's logits obtained in
            another way, than requested.
        adjustments: What was changed, in that order; empty if everything fits as requested.
    """

    policy: ExecutionPolicy
    requirements: Requirements
    adjustments: tuple[Adjustment, ...]


def shrink_to_fit(profile: HardwareProfile, requirements: Requirements) -> FitResult:
    """Choose the largest workload that fits a machine.

    ``choose_policy`` adjusts storage, optimizer, checkpointing and micro-batch. If that is not enough, the
    teacher's logits are computed in chunks, and then texts are cut to the greatest length that fits.

    Args:
        profile: The machine.
        requirements: What is requested; the lengths are upper bounds.

    Returns:
        The workload, its policy and the adjustments.

    Raises:
        UnsupportedPolicyError: An override is unknown, or cannot work on this machine.

    Example:
        >>> from distill_hwdetect import CpuFacts, HardwareProfile, MemoryFacts
        >>> from distill_hwdetect import Requirements, read_model_facts, shrink_to_fit
        >>> memory = MemoryFacts(total_bytes=2**32, available_bytes=2**32)
        >>> machine = HardwareProfile(cpu=CpuFacts(flags=("avx2",)), memory=memory)
        >>> model = read_model_facts({"model_type": "gpt2"})
        >>> result = shrink_to_fit(machine, Requirements(task="causal", model=model, source_length=1024))
        >>> [(one.name, one.requested, one.chosen) for one in result.adjustments]
        [('gradient_checkpointing', False, True), ('micro_batch', 8, 2)]
    """
    wanted = requirements
    policy = choose_policy(profile, requirements)
    if not policy.memory.fits and requirements.teacher and requirements.distillation == "full":
        requirements = replace(requirements, distillation="chunked")
        policy = choose_policy(profile, requirements)
    if not policy.memory.fits:
        requirements, policy = _shortened(profile, requirements)
    adjustments = [*_policy_adjustments(policy, wanted)]
    budget = policy.memory.budget_bytes
    room = "" if budget is None else f"{gib(budget)} may be used"
    for name in ("distillation", "source_length", "target_length"):
        before, after = getattr(wanted, name), getattr(requirements, name)
        if before != after:
            adjustments.append(Adjustment(name=name, requested=before, chosen=after, reason=room))
    return FitResult(policy=policy, requirements=requirements, adjustments=tuple(adjustments))


def _shortened(profile: HardwareProfile, requirements: Requirements) -> tuple[Requirements, ExecutionPolicy]:
    """Return the longest texts that fit, both lengths cut by the same share; the shortest where none do."""
    longest = max(requirements.source_length, requirements.target_length)
    low, high = min(SHORTEST, longest), longest
    best = _cut(requirements, low / longest)
    found = choose_policy(profile, best)
    if not found.memory.fits:
        return best, found
    while high - low > 1:
        middle = (low + high) // 2
        shorter = _cut(requirements, middle / longest)
        tried = choose_policy(profile, shorter)
        if tried.memory.fits:
            low, best, found = middle, shorter, tried
        else:
            high = middle
    return best, found


def _cut(requirements: Requirements, share: float) -> Requirements:
    return replace(
        requirements,
        source_length=max(1, int(requirements.source_length * share)),
        target_length=max(1, int(requirements.target_length * share)),
    )


def _policy_adjustments(policy: ExecutionPolicy, wanted: Requirements) -> list[Adjustment]:
    """Return the fields for which the memory search left the first choice; not those that the user set."""
    first: dict[str, object] = {
        "quantization": "none",
        "optimizer": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "micro_batch": wanted.effective_batch,
    }
    rules = ("quantization-to-fit", "optimizer-8bit", "checkpointing-to-fit", "batch-fits")
    adjustments = []
    for (name, value), rule in zip(first.items(), rules, strict=True):
        choice = policy.choice(name)
        if choice.rule == rule and choice.value != value:
            adjustments.append(
                Adjustment(name=name, requested=value, chosen=choice.value, reason=choice.reason)
            )
    if policy.teacher is not None and policy.teacher.quantization.rule == "quantization-to-fit":
        choice = policy.teacher.quantization
        adjustments.insert(
            0,
            Adjustment(
                name="teacher.quantization", requested="none", chosen=choice.value, reason=choice.reason
            ),
        )
    return adjustments
