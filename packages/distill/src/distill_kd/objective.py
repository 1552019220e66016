"""The loss of a distillation: cross-entropy on the labels and a divergence from the teacher."""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_adapters import IGNORE_INDEX, Task
from distill_kd import closed_forms
from distill_kd.built_in import resolve
from distill_kd.config import (
    DistillConfig,
    Labels,
    check_kd_weight,
    check_labels,
    check_positive,
    check_task,
    check_temperature,
)
from distill_kd.errors import ConfigError, ShapeError
from distill_kd.fused_divergence import check_target, chosen_rows, divergence_value_and_grad, rows_of
from distill_kd.fused_loss import DEFAULT_BUDGET_BYTES, ValueAndGrad, chunked_value_and_grad
from distill_kd.lm_head import OutputHead
from distill_kd.registry import Divergence, DivergenceFunction

if TYPE_CHECKING:
    from distill_kd.teachers import Target


@dataclass(frozen=True)
class LossParts:
    """One batch's loss and what it is made of, each already divided by the effective batch's tokens.

    Attributes:
        total: ``(1 - kd_weight) * ce + kd_weight * kd``; scalar with a gradient.
        ce: Cross-entropy on the labels; scalar without a gradient.
        kd: Divergence, times the squared temperature where it scales with it; scalar without a gradient.
        tokens: Valid positions in this batch.
    """

    total: Tensor
    ce: Tensor
    kd: Tensor
    tokens: int


@dataclass(frozen=True)
class Objective:
    """``(1 - kd_weight) * cross-entropy + kd_weight * temperature^2 * divergence``, per valid token.

    A position is valid where its label is not -100, and for no other reason: an end-of-sequence token that
    shares its id with padding counts if it has a label. Causal logits meet the label of the next
    position; seq2seq logits that of their own decoder position; masked ones that of their own, masked,
    position.

    Attributes:
        task: "causal", "seq2seq" or "masked".
        divergence: A name, a :class:`distill_kd.Divergence`, or a callable with the signature of
            :func:`distill_kd.forward_kl`.
        kd_weight: Share of the divergence, 0 to 1.
        temperature: > 0. Its square keeps the gradient's size as it rises (Hinton et al. 2015, section 2).
        vocab_size: Number of tokens that both models share. Logits beyond it are padding of a model's
            embedding and stay out of the divergence; None takes all and requires equal sizes.
        label_smoothing: Share of the labels' probability that is spread over all tokens, 0 to below 1. It
            changes the cross-entropy only.
        labels: "data", or "teacher" for hard labels: where there is a label, the teacher's most likely token
            takes its place.
        budget_bytes: Memory for the scores of both models, where they are computed chunk by chunk.
        resolved: The divergence with all that is known about it.

    Raises:
        ConfigError: A value is outside its range, or a name is unknown.
    """

    task: Task
    _: KW_ONLY
    divergence: str | Divergence | DivergenceFunction = "forward_kl"
    kd_weight: float = 0.5
    temperature: float = 1.0
    vocab_size: int | None = None
    label_smoothing: float = 0.0
    labels: Labels = "data"
    budget_bytes: int = DEFAULT_BUDGET_BYTES
    resolved: Divergence = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every field."""
        check_task(self.task)
        check_kd_weight(self.kd_weight)
        check_temperature(self.temperature)
        check_labels(self.labels)
        check_positive("budget_bytes", self.budget_bytes)
        object.__setattr__(self, "resolved", resolve(self.divergence))
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing = {self.label_smoothing} was asked for; it must be in [0, 1).",
                field="label_smoothing",
                found=self.label_smoothing,
                suggestion=0.0,
            )
        if self.vocab_size is not None:
            check_positive("vocab_size", self.vocab_size)

    @classmethod
    def from_config(cls, config: DistillConfig, task: Task) -> "Objective":
        """The objective that a configuration describes, for models of ``task``.

        Raises:
            ConfigError: The divergence does not take an argument that is given, or an argument is outside its
                range.

        Example:
            >>> from distill_kd import DistillConfig, Objective
            >>> objective = Objective.from_config(DistillConfig(kd_weight=0.9), "causal")
            >>> objective.kd_weight, objective.resolved.name
            (0.9, 'forward_kl')
        """
        divergence = resolve(config.divergence)
        arguments: dict[str, float] = {
            name: getattr(config, name)
            for name in ("alpha", "beta", "k")
            if name in divergence.arguments and getattr(config, name) is not None
        }
        arguments |= config.divergence_arguments
        return cls(
            task,
            divergence=divergence.bind(**arguments) if arguments else config.divergence,
            kd_weight=config.kd_weight,
            temperature=config.temperature,
            labels=config.labels,
        )

    def __call__(
        self, student_logits: Tensor, target: "Target", labels: Tensor, *, num_items: float | Tensor
    ) -> LossParts:
        """Loss of one batch whose logits are there.

        Args:
            student_logits: ``(batch, seq, vocab)``, any float dtype.
            target: The teacher's distributions at the same positions.
            labels: ``(batch, seq)``, -100 where there is nothing to learn; never shifted beforehand.
            num_items: Valid tokens of the whole effective batch: all its micro-batches, on all processes.

        Returns:
            The loss and its parts. All 0, with a zero gradient, when no position is valid.

        Raises:
            ShapeError: Student, teacher and labels do not line up, or a vocabulary is smaller than
                ``vocab_size``.
            ConfigError: ``num_items`` is smaller than this batch's own tokens, or the target cannot serve the
                divergence.
            NonFiniteLogitsError: A valid position is not finite.
        """
        return self._parts(student_logits, None, target, labels, num_items)

    def from_hidden(
        self,
        hidden: Tensor,
        head: OutputHead,
        target: "Target",
        labels: Tensor,
        *,
        num_items: float | Tensor,
    ) -> LossParts:
        """Loss of one batch in bounded memory: logits are made chunk by chunk, and only where a label is.

        Args:
            hidden: What the student's head reads, ``(batch, seq, width)``.
            head: The student's head; :func:`distill_kd.hidden_and_head` gives both.
            target: As in a call, and so are the others, the result and the errors.
            labels: ``(batch, seq)``.
            num_items: Valid tokens of the whole effective batch.
        """
        return self._parts(hidden, head, target, labels, num_items)

    def _parts(
        self,
        student: Tensor,
        head: OutputHead | None,
        target: "Target",
        labels: Tensor,
        num_items: float | Tensor,
    ) -> LossParts:
        """Both ways in one: ``student`` is what the head reads, or logits without one."""
        shape = tuple(student.shape[:-1])
        if tuple(labels.shape) != shape:
            raise ShapeError(
                f"labels are {tuple(labels.shape)}; they must be {shape}, (batch, seq).",
                field="labels",
                found=tuple(labels.shape),
                allowed=(shape,),
            )
        check_target(target, shape, self.resolved, self.temperature)
        index, wanted = self.labelled(labels)
        tokens = len(index)
        if tokens > num_items:
            raise ConfigError(
                f"num_items = {int(num_items)}, but this batch alone holds {tokens} valid tokens; num_items "
                "counts those of the whole effective batch (Objective.count_tokens does so).",
                field="num_items",
                found=int(num_items),
                suggestion=tokens,
            )
        scale = max(float(num_items), 1.0)
        factor = self.temperature**2 if self.resolved.scales_with_temperature else 1.0
        coefficients = ((1 - self.kd_weight) / scale, self.kd_weight * factor / scale)
        total, parts = chunked_value_and_grad(
            self._value_and_grad(wanted.to(student.device), coefficients),
            chosen_rows(student, index),
            head,
            rows_of(target, index, student),
            coefficients=coefficients,
            budget_bytes=self.budget_bytes,
        )
        ce, kd = parts[0] / scale, parts[1] * (factor / scale)
        return LossParts(total=total, ce=ce, kd=kd, tokens=tokens)

    def count_tokens(self, labels: Tensor | Iterable[Tensor]) -> int:
        """Valid tokens in one batch of labels, or in several: the ``num_items`` of a call."""
        several = [labels] if isinstance(labels, Tensor) else labels
        return sum(int((self._shifted(batch) != IGNORE_INDEX).sum()) for batch in several)

    def _shifted(self, labels: Tensor) -> Tensor:
        """The labels that have a logit."""
        return labels[:, 1:] if self.task == "causal" else labels

    def labelled(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Places, of ``batch * seq``, whose logit has a label, and those labels; both ``(valid,)``."""
        shifted = self._shifted(labels)
        valid = torch.zeros_like(labels, dtype=torch.bool)
        valid[:, : shifted.shape[1]] = shifted != IGNORE_INDEX
        return valid.flatten().nonzero().squeeze(1), shifted[shifted != IGNORE_INDEX]

    def _value_and_grad(self, labels: Tensor, coefficients: tuple[float, float]) -> ValueAndGrad:
        """Cross-entropy and divergence of a block of rows, and the gradient of their weighted sum."""
        measure = divergence_value_and_grad(self.resolved, self.temperature)
        of_ce, of_kd = coefficients

        def value_and_grad(scores: Tensor, teacher: tuple[Tensor, ...], first: int) -> tuple[Tensor, Tensor]:
            shared = self._shared(scores.shape[-1], teacher)
            if len(teacher) == 1:
                teacher = (teacher[0][:, :shared],)
            own = labels[first : first + len(scores)] if self.labels == "data" else likeliest(teacher)
            ce, gradient = closed_forms.cross_entropy(scores, own, self.label_smoothing)
            kd, towards = measure(scores[:, :shared], teacher)
            gradient *= of_ce
            gradient[:, :shared].add_(towards, alpha=of_kd)
            return torch.stack([ce, kd.to(ce.dtype)]), gradient

        return value_and_grad

    def _shared(self, student: int, teacher: tuple[Tensor, ...]) -> int:
        """How many tokens both score; refuses sizes that differ unexplained."""
        scored = teacher[0].shape[-1] if len(teacher) == 1 else self.vocab_size or student
        if self.vocab_size is None and student != scored:
            raise ShapeError(
                f"the student scores {student} tokens and the teacher {scored}. If they share a tokenizer "
                "and one is padded, pass Objective(vocab_size=check_vocabularies(...).tokens); if not, they "
                "cannot be compared.",
                field="vocab_size",
            )
        if self.vocab_size is not None and min(student, scored) < self.vocab_size:
            raise ShapeError(
                f"vocab_size = {self.vocab_size} tokens are shared, but the student scores {student} and "
                f"the teacher {scored}.",
                field="vocab_size",
                found=self.vocab_size,
                suggestion=min(student, scored),
            )
        return self.vocab_size or student


def likeliest(teacher: tuple[Tensor, ...]) -> Tensor:
    """The teacher's most likely token in each of some rows: hard labels."""
    if len(teacher) == 1:
        return teacher[0].argmax(-1)
    ids, log_probs, _ = teacher
    return ids.gather(-1, log_probs.argmax(-1, keepdim=True)).squeeze(-1)
