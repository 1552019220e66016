"""The largest workload that fits a machine, and which adjustments were turned to make it fit."""

from dataclasses import dataclass, replace

from distill_hwdetect.decision import choose_policy
from distill_hwdetect.policy import ExecutionPolicy, Requirements
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.rules import gib

SHORTEST = 16


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """One thing that is set otherwise than it would be with memory to spare.

    Args:
        name: A field of the policy, ``distillation``, ``source_length`` or ``target_length``.
        wanted: What it would be.
        taken: What it is.
        reason: Why.
    """

    name: str
    requested: object
    chosen: object
    reason: str


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A workload that fits, or the smallest one where nothing does.

    Args:
        policy: The plan of it; ``policy.memory.fits`` tells whether it fits.
        requirements: What the plan is for: lengths and the kind of distillation may be smaller than asked.
        turned: The adjustments, in the order in which they were turned; empty where all fits as it is.
    """

    policy: ExecutionPolicy
    requirements: Requirements
    adjustments: tuple[Adjustment, ...]


def shrink_to_fit(profile: HardwareProfile, requirements: Requirements) -> FitResult:
    """Choose the largest workload that fits.

    Storage, optimizer, checkpointing and micro-batch are turned by ``plan``; where that is not enough, the
    scores of a distillation are met in chunks, and then texts are cut to the longest that fit.

    Args:
        profile: The machine.
        requirements: What is wanted; lengths are upper bounds.

    Returns:
        The workload with its plan and what was turned.

    Raises:
        UnsupportedPolicyError: As ``plan``.
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
    """Return the fields that the memory search set otherwise than first choice; the user's own are none."""
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
