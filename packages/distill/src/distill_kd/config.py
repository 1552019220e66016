"""Configuration of a distillation. Loads no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from distill_adapters import Task
from distill_kd.errors import ConfigError, unknown
from distill_kd.registry import BUILT_IN_NAMES, check_divergence_name, installed_divergence

Labels = Literal["data", "teacher"]


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How strongly, and by which divergence, the student follows the teacher.

    Attributes:
        kd_weight: Share of the divergence in the loss, from 0 to 1. The cross-entropy on the labels has the
            rest.
        temperature: Number above 0 that both models' logits are divided by before the softmax. The divergence
            is multiplied by its square, so that the gradient keeps its size.
        divergence: Name of the divergence between teacher and student: ``"alpha_beta"``, ``"forward_kl"``,
            ``"jensen_shannon"``, ``"logit_mse"``, ``"reverse_kl"``, ``"skew_kl"``, ``"skew_reverse_kl"``,
            ``"top_k_kl"``, ``"total_variation"``, or one that an installed package registers.
        alpha: Share of one model in the mixture, between 0 and 1: the teacher's share in ``skew_kl`` and the
            student's in ``skew_reverse_kl``, both 0.1 by default. In ``alpha_beta`` it is the exponent of the
            teacher, above 0 and 0.2 by default. Other divergences do not use it.
        beta: The teacher's share of the mixture in ``jensen_shannon``, between 0 and 1 and 0.5 by default. In
            ``alpha_beta`` it is the exponent of the student, above 0 and 0.7 by default. Other divergences do
            not use it.
        k: Number of teacher tokens that ``top_k_kl`` keeps separate at each position. All others count as one
            token. Other divergences do not use it.
        divergence_arguments: Further arguments, by name, of a divergence that an installed package registers.
            The built-in divergences take none.
        labels: Labels that the cross-entropy uses. ``"data"`` takes those of the data; ``"teacher"`` replaces
            each by the teacher's most likely token (hard labels).

    Raises:
        ConfigError: A value is outside its range, or the divergence is unknown.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kd_weight: float = 0.5
    temperature: float = 1.0
    divergence: str = "forward_kl"
    alpha: float | None = None
    beta: float | None = None
    k: int = 64
    divergence_arguments: Mapping[str, float] = field(default_factory=dict, hash=False)
    labels: Labels = "data"

    def __post_init__(self) -> None:
        """Check every field."""
        check_kd_weight(self.kd_weight)
        check_temperature(self.temperature)
        check_divergence_name(self.divergence)
        check_labels(self.labels)
        check_positive("k", self.k)
        self._check_arguments()

    def _check_arguments(self) -> None:
        """Check the arguments of the divergence; those of a registered one are its own affair."""
        if self.divergence not in BUILT_IN_NAMES:
            if self.divergence_arguments:
                installed_divergence(self.divergence).bind(**self.divergence_arguments)
            return
        for name in self.divergence_arguments:
            raise ConfigError(
                f"divergence_arguments holds {name!r}, but {self.divergence} takes no further arguments; "
                "alpha, beta and k are fields of their own. Remove it.",
                field="divergence_arguments",
                found=name,
            )
        if self.divergence == "alpha_beta":
            check_exponents(*(1.0 if given is None else given for given in (self.alpha, self.beta)))
            return
        if self.alpha is not None:
            check_alpha(self.alpha)
        if self.beta is not None:
            check_beta(self.beta)


def check_kd_weight(kd_weight: float) -> None:
    """Refuse a weight outside 0 to 1."""
    if not 0 <= kd_weight <= 1:
        raise ConfigError(
            f"kd_weight = {kd_weight} was asked for; it is the divergence's share of the loss, 0 to 1.",
            field="kd_weight",
            found=kd_weight,
            suggestion=1.0 if kd_weight > 1 else 0.0 if kd_weight < 0 else 0.5,
        )


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not a positive number."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(
            f"temperature = {temperature} was asked for; it must be positive, and 1 changes nothing.",
            field="temperature",
            found=temperature,
            suggestion=1.0,
        )


def check_beta(beta: float) -> None:
    """Refuse a mixture that is one of the two distributions alone."""
    if not 0 < beta < 1:
        raise ConfigError(
            f"beta = {beta} was asked for; it must lie between 0 and 1. "
            "For the limits use forward_kl (beta towards 0) or reverse_kl (beta towards 1).",
            field="beta",
            found=beta,
            suggestion=0.5,
        )


def check_alpha(alpha: float) -> None:
    """Refuse a skew that is one of the two distributions alone."""
    if not 0 < alpha < 1:
        raise ConfigError(
            f"alpha = {alpha} was asked for; it must lie between 0 and 1. "
            "For no skew use forward_kl or reverse_kl.",
            field="alpha",
            found=alpha,
            suggestion=0.1,
        )


def check_exponents(alpha: float, beta: float) -> None:
    """Refuse exponents at which the alpha-beta divergence is another, or a limit."""
    for name, value, default in (("alpha", alpha, 0.2), ("beta", beta, 0.7)):
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(
                f"alpha = {alpha} and beta = {beta} were asked for; both must be positive. "
                "For the limits use forward_kl (1 and 0) or reverse_kl (0 and 1).",
                field=name,
                found=value,
                suggestion=default,
            )


def check_positive(name: str, value: int) -> None:
    """Refuse a number below 1."""
    if value < 1:
        raise ConfigError(
            f"{name} = {value} was asked for; it must be at least 1.", field=name, found=value, suggestion=1
        )


def check_labels(labels: str) -> None:
    """Refuse a source of labels this package does not know."""
    if labels not in get_args(Labels):
        raise unknown("labels", labels, get_args(Labels))


def check_task(task: str) -> None:
    """Refuse a task this package does not know."""
    if task not in get_args(Task):
        raise unknown("task", task, get_args(Task))
