"""What a run file may say about distillation. Loads no torch."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

if TYPE_CHECKING:
    from distill_kd.objective import Objective

Task = Literal["causal", "seq2seq", "masked"]
TASKS: tuple[str, ...] = get_args(Task)
DIVERGENCE_NAMES: tuple[str, ...] = ("forward_kl", "jensen_shannon", "reverse_kl")


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """How strongly, and by which measure, the student follows the teacher.

    Attributes:
        weight: Share of the divergence in the loss, 0 to 1; the labels' cross-entropy has the rest.
        temperature: Softens both distributions, > 0; the divergence is multiplied by its square.
        divergence: A name in ``DIVERGENCE_NAMES``.
        beta: The teacher's share of the mixture in ``jensen_shannon``, between 0 and 1; not used otherwise.

    Raises:
        ValueError: A value is outside its range, or the divergence is unknown.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    weight: float = 0.5
    temperature: float = 1.0
    divergence: str = "forward_kl"
    beta: float = 0.5

    def __post_init__(self) -> None:
        """Check every field."""
        check_weight(self.weight)
        check_temperature(self.temperature)
        check_divergence_name(self.divergence)
        check_beta(self.beta)

    def objective(self, task: Task) -> "Objective":
        """The objective these settings describe, for models of ``task``."""
        from functools import partial

        from distill_kd.divergences import Divergence, jensen_shannon
        from distill_kd.objective import Objective

        divergence: str | Divergence = self.divergence
        if divergence == "jensen_shannon":
            divergence = partial(jensen_shannon, beta=self.beta)
        return Objective(task, divergence=divergence, weight=self.weight, temperature=self.temperature)


def check_weight(weight: float) -> None:
    """Refuse a weight outside 0 to 1."""
    if not 0 <= weight <= 1:
        raise ValueError(
            f"weight = {weight} was asked for; it is the divergence's share of the loss, 0 to 1."
        )


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not a positive number."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(
            f"temperature = {temperature} was asked for; it must be positive, and 1 changes nothing."
        )


def check_beta(beta: float) -> None:
    """Refuse a mixture that is one of the two distributions alone."""
    if not 0 < beta < 1:
        raise ValueError(
            f"beta = {beta} was asked for; it must lie between 0 and 1. "
            "For the limits use forward_kl (beta towards 0) or reverse_kl (beta towards 1)."
        )


def check_divergence_name(name: str) -> None:
    """Refuse a name that is no divergence, with the nearest one."""
    if name not in DIVERGENCE_NAMES:
        near = difflib.get_close_matches(name, DIVERGENCE_NAMES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"divergence = {name!r} is unknown; there are {', '.join(DIVERGENCE_NAMES)}.{hint}")


def check_task(task: str) -> None:
    """Refuse a task this package does not know."""
    if task not in TASKS:
        raise ValueError(f"task = {task!r} is unknown; there are {', '.join(TASKS)}.")
