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
Labels = Literal["data", "teacher"]
LABELS: tuple[str, ...] = get_args(Labels)
DIVERGENCE_NAMES: tuple[str, ...] = (
    "alpha_beta",
    "forward_kl",
    "jensen_shannon",
    "logit_mse",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "top_k_kl",
    "total_variation",
)
_ARGUMENTS = {  # of each divergence, among the fields of DistillConfig
    "alpha_beta": ("alpha", "beta"),
    "jensen_shannon": ("beta",),
    "skew_kl": ("alpha",),
    "skew_reverse_kl": ("alpha",),
    "top_k_kl": ("k",),
}


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How strongly, and by which measure, the student follows the teacher.

    Attributes:
        kd_weight: Share of the divergence in the loss, 0 to 1; the labels' cross-entropy has the rest.
        temperature: Softens both distributions, > 0; the divergence is multiplied by its square.
        divergence: A name in ``DIVERGENCE_NAMES``: ``"alpha_beta"``, ``"forward_kl"``, ``"jensen_shannon"``,
            ``"logit_mse"``, ``"reverse_kl"``, ``"skew_kl"``, ``"skew_reverse_kl"``, ``"top_k_kl"``,
            ``"total_variation"``.
        alpha: Share of the mixture, between 0 and 1: the teacher's in ``skew_kl``, the student's in
            ``skew_reverse_kl``, where None takes 0.1; the teacher's exponent in ``alpha_beta``, > 0, where
            None takes 0.2. Not used otherwise.
        beta: The teacher's share of the mixture in ``jensen_shannon``, between 0 and 1, where None takes 0.5;
            the student's exponent in ``alpha_beta``, > 0, where None takes 0.7. Not used otherwise.
        k: Tokens told apart in ``top_k_kl``, > 0. Not used otherwise.
        labels: ``"data"`` takes the data's labels; ``"teacher"`` puts the teacher's likeliest token in the
            place of each: hard labels.

    Raises:
        ValueError: A value is outside its range, or the divergence is unknown.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kd_weight: float = 0.5
    temperature: float = 1.0
    divergence: str = "forward_kl"
    alpha: float | None = None
    beta: float | None = None
    k: int = 64
    labels: Labels = "data"

    def __post_init__(self) -> None:
        """Check every field."""
        check_kd_weight(self.kd_weight)
        check_temperature(self.temperature)
        check_divergence_name(self.divergence)
        check_labels(self.labels)
        check_k(self.k)
        if self.divergence == "alpha_beta":
            check_exponents(*(1.0 if given is None else given for given in (self.alpha, self.beta)))
            return
        if self.alpha is not None:
            check_alpha(self.alpha)
        if self.beta is not None:
            check_beta(self.beta)

    def objective(self, task: Task) -> "Objective":
        """The objective these settings describe, for models of ``task``."""
        from functools import partial

        from distill_kd.divergences import divergence_named
        from distill_kd.objective import Objective

        named = {name: getattr(self, name) for name in _ARGUMENTS.get(self.divergence, ())}
        arguments = {name: value for name, value in named.items() if value is not None}
        return Objective(
            task,
            divergence=partial(divergence_named(self.divergence), **arguments)
            if arguments
            else self.divergence,
            kd_weight=self.kd_weight,
            temperature=self.temperature,
            labels=self.labels,
        )


def check_kd_weight(kd_weight: float) -> None:
    """Refuse a weight outside 0 to 1."""
    if not 0 <= kd_weight <= 1:
        raise ValueError(
            f"kd_weight = {kd_weight} was asked for; it is the divergence's share of the loss, 0 to 1."
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


def check_alpha(alpha: float) -> None:
    """Refuse a skew that is one of the two distributions alone."""
    if not 0 < alpha < 1:
        raise ValueError(
            f"alpha = {alpha} was asked for; it must lie between 0 and 1. "
            "For no skew use forward_kl or reverse_kl."
        )


def check_exponents(alpha: float, beta: float) -> None:
    """Refuse exponents at which the alpha-beta divergence is another, or a limit."""
    if not (alpha > 0 and beta > 0 and math.isfinite(alpha + beta)):
        raise ValueError(
            f"alpha = {alpha} and beta = {beta} were asked for; both must be positive. "
            "For the limits use forward_kl (1 and 0) or reverse_kl (0 and 1)."
        )


def check_k(k: int) -> None:
    """Refuse to tell no token apart."""
    if k < 1:
        raise ValueError(f"k = {k} was asked for; it must be at least 1.")


def check_labels(labels: str) -> None:
    """Refuse a source of labels this package does not know."""
    if labels not in LABELS:
        raise ValueError(f"labels = {labels!r} is unknown; there are {', '.join(LABELS)}.")


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
