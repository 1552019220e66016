"""The loss of a distillation: cross-entropy on the labels and a divergence from the teacher."""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from distill_kd.divergences import Divergence, check_shapes, divergence_named
from distill_kd.errors import NonFiniteLogitsError, ShapeError
from distill_kd.settings import Task, check_task, check_temperature, check_weight

if TYPE_CHECKING:
    from distill_kd.teachers import DenseTarget, TopKTarget

IGNORED = -100  # the label that transformers' losses skip


@dataclass(frozen=True)
class LossParts:
    """One batch's loss and what it is made of, each already divided by the effective batch's tokens.

    Attributes:
        total: ``(1 - weight) * ce + weight * kd``; scalar with a gradient.
        ce: Cross-entropy on the labels; scalar without a gradient.
        kd: Divergence times the squared temperature; scalar without a gradient.
        tokens: Valid positions in this batch.
    """

    total: Tensor
    ce: Tensor
    kd: Tensor
    tokens: int


@dataclass(frozen=True)
class Objective:
    """``(1 - weight) * cross-entropy + weight * temperature^2 * divergence``, per valid token.

    A position is valid where its label is not -100, and for no other reason: an end-of-sequence token that
    shares its id with padding counts when its label says so. Causal logits meet the label of the next
    position; seq2seq logits that of their own decoder position; masked ones that of their own, masked,
    position.

    Attributes:
        task: "causal", "seq2seq" or "masked".
        divergence: A name, or a callable with the signature of :func:`distill_kd.forward_kl`.
        weight: Share of the divergence, 0 to 1.
        temperature: > 0. Its square keeps the gradient's size as it rises (Hinton et al. 2015, section 2).
        vocab_size: Tokens both models share. Logits beyond it are padding of a model's embedding and stay out
            of the divergence; None takes all and wants equal sizes.
        label_smoothing: Share of the labels' probability spread over all tokens, 0 to below 1; touches the
            cross-entropy only.

    Raises:
        ValueError: A value is outside its range, or a name is unknown.
    """

    task: Task
    _: KW_ONLY
    divergence: str | Divergence = "forward_kl"
    weight: float = 0.5
    temperature: float = 1.0
    vocab_size: int | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        check_task(self.task)
        check_weight(self.weight)
        check_temperature(self.temperature)
        if isinstance(self.divergence, str):
            divergence_named(self.divergence)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing = {self.label_smoothing} was asked for; it must be in [0, 1).")
        if self.vocab_size is not None and self.vocab_size < 1:
            raise ValueError(f"vocab_size = {self.vocab_size} was asked for; it must be at least 1, or None.")

    def __call__(
        self,
        student_logits: Tensor,
        target: "DenseTarget | TopKTarget",
        labels: Tensor,
        *,
        num_items: float | Tensor,
    ) -> LossParts:
        """Loss of one batch.

        Args:
            student_logits: ``(batch, seq, vocab)``, any float dtype.
            target: What the teacher says about the same positions.
            labels: ``(batch, seq)``, -100 where there is nothing to learn; never shifted beforehand.
            num_items: Valid tokens of the whole effective batch: all its micro-batches, on all processes.

        Returns:
            The loss and its parts. All 0, with a zero gradient, when no position is valid.

        Raises:
            ShapeError: Student, teacher and labels do not line up, or a vocabulary is smaller than
                ``vocab_size``.
            ValueError: ``num_items`` is smaller than this batch's own tokens.
            NonFiniteLogitsError: A valid position is not finite.
        """
        if labels.shape != student_logits.shape[:-1]:
            raise ShapeError(
                f"labels are {tuple(labels.shape)}; for logits of {tuple(student_logits.shape)} they must be "
                f"{tuple(student_logits.shape[:-1])}, (batch, seq)."
            )
        self._check_vocabulary(student_logits.shape[-1], target.log_probs.shape[-1])
        student, rows_of_teacher, kept = self._aligned(student_logits, target.log_probs, labels)
        valid = kept != IGNORED
        # (valid, vocab): selected once, before any softmax, so padding is never projected into the loss.
        rows, picked = student[valid], kept[valid]
        teacher = rows_of_teacher[valid.to(rows_of_teacher.device)].to(rows.device)
        tokens = int(picked.numel())
        if tokens > num_items:
            raise ValueError(
                f"num_items = {int(num_items)}, but this batch alone holds {tokens} valid tokens; num_items "
                "counts those of the whole effective batch (Objective.count_tokens does so)."
            )
        scale = max(float(num_items), 1.0)
        dtype = torch.promote_types(rows.dtype, torch.float32)
        ce = functional.cross_entropy(
            rows.to(dtype), picked, reduction="sum", label_smoothing=self.label_smoothing
        )
        ce = ce / scale
        kd = self._divergence(rows, teacher) * (self.temperature**2 / scale)
        total = (1 - self.weight) * ce + self.weight * kd
        if not torch.isfinite(total):
            raise NonFiniteLogitsError(
                f"the loss is not finite (cross-entropy {ce.detach():g}, divergence {kd.detach():g}): the "
                "student's logits hold NaN or infinity, perhaps beyond the shared vocabulary."
            )
        return LossParts(total=total, ce=ce.detach(), kd=kd.detach(), tokens=tokens)

    def count_tokens(self, labels: Tensor | Iterable[Tensor]) -> int:
        """Valid tokens in one batch of labels, or in several: the ``num_items`` of a call."""
        several = [labels] if isinstance(labels, Tensor) else labels
        return sum(int((self._shifted(batch) != IGNORED).sum()) for batch in several)

    def _shifted(self, labels: Tensor) -> Tensor:
        """The labels that have a logit."""
        return labels[:, 1:] if self.task == "causal" else labels

    def _aligned(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both models' logits, and the labels they predict, position by position (views, no copies)."""
        if student.shape[:-1] != teacher.shape[:-1]:
            raise ShapeError(
                f"the student's logits are {tuple(student.shape)} and the teacher's {tuple(teacher.shape)}; "
                "batch and seq must be equal, nothing is broadcast. Give both the same inputs."
            )
        if self.task == "causal":  # the last position predicts nothing that is known
            student, teacher = student[:, :-1], teacher[:, :-1]
        return student, teacher, self._shifted(labels)

    def _check_vocabulary(self, student: int, teacher: int) -> None:
        """Refuse sizes that differ unexplained, or hold fewer than the shared tokens."""
        if self.vocab_size is None and student != teacher:
            raise ShapeError(
                f"the student scores {student} tokens and the teacher {teacher}. If they share a tokenizer "
                "and one is padded, pass Objective(vocab_size=check_vocabularies(...).tokens); if not, they "
                "cannot be compared."
            )
        if self.vocab_size is not None and min(student, teacher) < self.vocab_size:
            raise ShapeError(
                f"vocab_size = {self.vocab_size} tokens are shared, but the student scores {student} and "
                f"the teacher {teacher}."
            )

    def _divergence(self, rows: Tensor, teacher: Tensor) -> Tensor:
        """Sum over ``(valid, vocab)`` rows, cut to the shared vocabulary."""
        student, teacher = rows[None, :, : self.vocab_size], teacher[None, :, : self.vocab_size]
        mask = torch.ones(student.shape[:-1], dtype=torch.bool, device=student.device)
        check_shapes(student, teacher, mask)
        function = divergence_named(self.divergence) if isinstance(self.divergence, str) else self.divergence
        return function(student, teacher, mask=mask, temperature=self.temperature)
