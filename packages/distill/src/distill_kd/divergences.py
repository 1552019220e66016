"""Divergences between two models' next-token distributions, as pure sums over chosen positions.

Each takes ``(student_logits, teacher_logits, *, mask, temperature)`` and returns one scalar. None multiplies
by the square of the temperature and none divides: :class:`distill_kd.Objective` does both, once. Positions
outside the mask are dropped before anything is computed on them, so whatever stands there - padding, NaN - is
without effect.
"""

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from distill_kd.errors import NonFiniteLogitsError, ShapeError
from distill_kd.settings import check_beta, check_divergence_name, check_temperature

if TYPE_CHECKING:
    from collections.abc import Mapping


class Divergence(Protocol):
    """A sum over the positions in ``mask``; yours may be passed wherever one of ours may."""

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor, /, *, mask: Tensor, temperature: float
    ) -> Tensor:
        """See :func:`forward_kl` for the shapes."""


def forward_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Sum of KL(teacher || student) over the positions in ``mask``, in nats.

    A sum, not a mean: the caller divides once, by the tokens of the whole effective batch, so that
    accumulation and several processes give the same loss.

    Args:
        student_logits: Unnormalised scores, ``(batch, seq, vocab)``, any float dtype.
        teacher_logits: Same shape; log-probabilities will do. No gradient flows into it.
        mask: True where a position counts, ``(batch, seq)``.
        temperature: Softening, > 0. 1 changes nothing.

    Returns:
        float32 scalar (float64 for float64 logits). 0, with a zero gradient, when ``mask`` selects nothing.

    Raises:
        ShapeError: The logits differ in shape, or ``mask`` is not their ``(batch, seq)``.
        TypeError: ``mask`` is not boolean.
        ValueError: ``temperature`` is not positive.
        NonFiniteLogitsError: A position that counts is not finite.

    Source:
        Hinton et al. 2015, section 2, arXiv:1503.02531.
    """
    student, teacher = _log_probs(student_logits, teacher_logits, mask, temperature)
    rows = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return _finite_sum(rows, student_logits, teacher_logits, mask)


def reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Sum of KL(student || teacher) over the positions in ``mask``, in nats.

    Arguments, result and errors are those of :func:`forward_kl`.

    Source:
        Gu et al. 2024, section 2.1, arXiv:2306.08543.
    """
    student, teacher = _log_probs(student_logits, teacher_logits, mask, temperature)
    rows = (student.exp() * (student - teacher)).sum(-1)
    return _finite_sum(rows, student_logits, teacher_logits, mask)


def jensen_shannon(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor,
    temperature: float = 1.0,
    beta: float = 0.5,
) -> Tensor:
    """Sum of the generalised Jensen-Shannon divergence over the positions in ``mask``, in nats.

    ``beta * KL(teacher || mixture) + (1 - beta) * KL(student || mixture)``, where the mixture is
    ``beta * teacher + (1 - beta) * student``. Further arguments, result and errors are those of
    :func:`forward_kl`.

    Args:
        student_logits: Unnormalised scores, ``(batch, seq, vocab)``.
        teacher_logits: Same shape.
        mask: True where a position counts, ``(batch, seq)``.
        temperature: Softening, > 0.
        beta: The teacher's share of the mixture, between 0 and 1.

    Raises:
        ValueError: ``beta`` is not between 0 and 1.

    Source:
        Agarwal et al. 2024, section 2, arXiv:2306.13649.
    """
    check_beta(beta)
    student, teacher = _log_probs(student_logits, teacher_logits, mask, temperature)
    shares = torch.tensor([beta, 1 - beta], dtype=student.dtype, device=student.device).log()
    mixture = torch.logaddexp(teacher + shares[0], student + shares[1])
    from_teacher = (teacher.exp() * (teacher - mixture)).sum(-1)
    from_student = (student.exp() * (student - mixture)).sum(-1)
    return _finite_sum(beta * from_teacher + (1 - beta) * from_student, student_logits, teacher_logits, mask)


DIVERGENCES: "Mapping[str, Divergence]" = {
    "forward_kl": forward_kl,
    "jensen_shannon": jensen_shannon,
    "reverse_kl": reverse_kl,
}


def divergence_named(name: str) -> Divergence:
    """The divergence of that name.

    Raises:
        ValueError: There is none; the message has the nearest name.
    """
    check_divergence_name(name)
    return DIVERGENCES[name]


def check_shapes(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> None:
    """Refuse tensors that do not line up; nothing is ever broadcast.

    Raises:
        ShapeError: The logits differ in shape, or ``mask`` is not their ``(batch, seq)``.
        TypeError: ``mask`` is not boolean (an integer mask would be taken for indices).
    """
    if student_logits.ndim != 3 or student_logits.shape != teacher_logits.shape:  # (batch, seq, vocab)
        raise ShapeError(
            f"the student's logits are {tuple(student_logits.shape)} and the teacher's "
            f"{tuple(teacher_logits.shape)}; both must be the same (batch, seq, vocab). Nothing is broadcast."
        )
    if mask.shape != student_logits.shape[:-1]:
        raise ShapeError(
            f"mask is {tuple(mask.shape)}; it must be {tuple(student_logits.shape[:-1])}, (batch, seq)."
        )
    if mask.dtype != torch.bool:
        raise TypeError(f"mask is {mask.dtype}; it must be torch.bool: pass labels != -100, for instance.")


def _log_probs(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities ``(selected, vocab)`` of both, softened, in at least float32."""
    check_shapes(student_logits, teacher_logits, mask)
    check_temperature(temperature)
    dtype = torch.float64 if student_logits.dtype == torch.float64 else torch.float32
    student, teacher = _selected(student_logits, mask), _selected(teacher_logits.detach(), mask)
    student, teacher = student.to(dtype), teacher.to(student.device, dtype)
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    return student.log_softmax(-1), teacher.log_softmax(-1)


def _selected(logits: Tensor, mask: Tensor) -> Tensor:
    """Rows ``(selected, vocab)``: before any cast or softmax, so that padding costs neither."""
    mask = mask.to(logits.device)
    return logits.flatten(0, 1) if mask.all() else logits[mask]


def _finite_sum(rows: Tensor, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Tensor:
    """Sum of ``rows``, in float64 where the device has it: thousands of float32 terms cost digits."""
    wide = rows.dtype if rows.device.type == "mps" else torch.float64
    total = rows.sum(dtype=wide).to(rows.dtype)
    # Every NaN or infinity at a selected position reaches the sum, so the sum alone needs a look.
    if not torch.isfinite(total):
        for name, logits in (("student", student_logits), ("teacher", teacher_logits)):
            bad = ~torch.isfinite(_selected(logits, mask)).all(-1)
            if bad.any():
                raise NonFiniteLogitsError(
                    f"the {name}'s logits hold NaN or infinity at {int(bad.sum())} of the {int(mask.sum())} "
                    "positions that count. Look at its weights and its dtype (float16 overflows in T5)."
                )
        raise NonFiniteLogitsError(
            "the divergence overflowed although the logits are finite; they are too large."
        )
    return total
