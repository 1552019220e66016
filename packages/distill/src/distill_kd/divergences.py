"""Divergences between two models' next-token distributions, as pure sums over chosen positions.

Each takes ``(student_logits, teacher_logits, *, mask, temperature)`` and returns one scalar. None multiplies
by the square of the temperature and none divides: :class:`distill_kd.Objective` does both, once. Positions
outside the mask are dropped before anything is computed on them, so whatever is there - padding, NaN - is
without effect. What each computes is in :mod:`distill_kd.closed_forms`, with its gradient; second derivatives
are not offered.
"""

from functools import partial

import torch
from torch import Tensor

from distill_kd import closed_forms
from distill_kd.closed_forms import ClosedForm
from distill_kd.config import check_alpha, check_beta, check_exponents, check_positive, check_temperature
from distill_kd.errors import ShapeError
from distill_kd.fused_loss import chunked_value_and_grad, wide_dtype


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

    Example:
        >>> import torch
        >>> from distill_kd import forward_kl
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{forward_kl(student, teacher, mask=mask):.4f}"
        '0.1308'
    """
    return _summed(closed_forms.forward_kl, student_logits, teacher_logits, mask, temperature)


def reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Sum of KL(student || teacher) over the positions in ``mask``, in nats.

    Arguments, result and errors are those of :func:`forward_kl`.

    Source:
        Gu et al. 2024, section 2.1, arXiv:2306.08543.

    Example:
        >>> import torch
        >>> from distill_kd import reverse_kl
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{reverse_kl(student, teacher, mask=mask):.4f}"
        '0.1438'
    """
    return _summed(closed_forms.reverse_kl, student_logits, teacher_logits, mask, temperature)


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

    Example:
        >>> import torch
        >>> from distill_kd import jensen_shannon
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{jensen_shannon(student, teacher, mask=mask, beta=0.5):.4f}"
        '0.0338'
    """
    check_beta(beta)
    form = partial(closed_forms.jensen_shannon, beta=beta)
    return _summed(form, student_logits, teacher_logits, mask, temperature)


def skew_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor,
    temperature: float = 1.0,
    alpha: float = 0.1,
) -> Tensor:
    """Sum of KL(teacher || alpha * teacher + (1 - alpha) * student) over the positions in ``mask``, in nats.

    Further arguments, result and errors are those of :func:`forward_kl`.

    Args:
        student_logits: Unnormalised scores, ``(batch, seq, vocab)``.
        teacher_logits: Same shape.
        mask: True where a position counts, ``(batch, seq)``.
        temperature: Softening, > 0.
        alpha: The teacher's share of the mixture, between 0 and 1.

    Raises:
        ValueError: ``alpha`` is not between 0 and 1.

    Source:
        Ko et al. 2024 (DistiLLM), section 3.1, arXiv:2402.03898.

    Example:
        >>> import torch
        >>> from distill_kd import skew_kl
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{skew_kl(student, teacher, mask=mask, alpha=0.1):.4f}"
        '0.1070'
    """
    check_alpha(alpha)
    form = partial(closed_forms.skew_kl, alpha=alpha)
    return _summed(form, student_logits, teacher_logits, mask, temperature)


def skew_reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor,
    temperature: float = 1.0,
    alpha: float = 0.1,
) -> Tensor:
    """Sum of KL(student || alpha * student + (1 - alpha) * teacher) over the positions in ``mask``, in nats.

    Further arguments, result and errors are those of :func:`skew_kl`; ``alpha`` is the student's share.

    Source:
        Ko et al. 2024 (DistiLLM), section 3.1, arXiv:2402.03898.

    Example:
        >>> import torch
        >>> from distill_kd import skew_reverse_kl
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{skew_reverse_kl(student, teacher, mask=mask, alpha=0.1):.4f}"
        '0.1131'
    """
    check_alpha(alpha)
    form = partial(closed_forms.skew_reverse_kl, alpha=alpha)
    return _summed(form, student_logits, teacher_logits, mask, temperature)


def alpha_beta(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor,
    temperature: float = 1.0,
    alpha: float = 0.2,
    beta: float = 0.7,
) -> Tensor:
    """Sum of the alpha-beta divergence over the positions in ``mask``.

    Of teacher p and student q: ``-1 / (alpha * beta) * sum(p^alpha q^beta - alpha / (alpha + beta) *
    p^(alpha + beta) - beta / (alpha + beta) * q^(alpha + beta))``. Towards alpha 1 and beta 0 it is
    :func:`forward_kl`, towards alpha 0 and beta 1 :func:`reverse_kl`. Further arguments, result and errors
    are those of :func:`forward_kl`.

    Args:
        student_logits: Unnormalised scores, ``(batch, seq, vocab)``.
        teacher_logits: Same shape.
        mask: True where a position counts, ``(batch, seq)``.
        temperature: Softening, > 0.
        alpha: Exponent of the teacher, > 0.
        beta: Exponent of the student, > 0.

    Raises:
        ValueError: ``alpha`` or ``beta`` is not positive.

    Source:
        Cichocki et al. 2011, equation 18, doi:10.3390/e13010134; Wang et al. 2025 (ABKD), arXiv:2505.04560.

    Example:
        >>> import torch
        >>> from distill_kd import alpha_beta
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{alpha_beta(student, teacher, mask=mask):.4f}"
        '0.1520'
    """
    check_exponents(alpha, beta)
    form = partial(closed_forms.alpha_beta, alpha=alpha, beta=beta)
    return _summed(form, student_logits, teacher_logits, mask, temperature)


def total_variation(
    student_logits: Tensor, teacher_logits: Tensor, *, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Sum of ``1/2 * sum |teacher - student|`` over the positions in ``mask``; each position has 0 to 1.

    Arguments, result and errors are those of :func:`forward_kl`.

    Source:
        Wen et al. 2023, section 3, arXiv:2307.15190.

    Example:
        >>> import torch
        >>> from distill_kd import total_variation
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{total_variation(student, teacher, mask=mask):.4f}"
        '0.2500'
    """
    return _summed(closed_forms.total_variation, student_logits, teacher_logits, mask, temperature)


def logit_mse(
    student_logits: Tensor, teacher_logits: Tensor, *, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Sum over the positions in ``mask`` of the mean squared difference of the centred logits.

    Each position's logits less their mean: a softmax does not see that constant, and so log-probabilities,
    from a cache say, serve as well as logits. Arguments, result and errors are those of :func:`forward_kl`.

    Source:
        Kim et al. 2021, section 3, arXiv:2105.08919 (without centring).

    Example:
        >>> import torch
        >>> from distill_kd import logit_mse
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{logit_mse(student, teacher, mask=mask):.4f}"
        '0.3017'
    """
    return _summed(closed_forms.logit_mse, student_logits, teacher_logits, mask, temperature)


def top_k_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor,
    temperature: float = 1.0,
    k: int = 64,
) -> Tensor:
    """Sum of KL(teacher || student) over the teacher's ``k`` most likely tokens and all others as one.

    Never above :func:`forward_kl`, and equal to it where ``k`` is the vocabulary or more. Further arguments,
    result and errors are those of :func:`forward_kl`.

    Args:
        student_logits: Unnormalised scores, ``(batch, seq, vocab)``.
        teacher_logits: Same shape.
        mask: True where a position counts, ``(batch, seq)``.
        temperature: Softening, > 0.
        k: Number of tokens kept separate at each position, > 0.

    Raises:
        ValueError: ``k`` is below 1.

    Source:
        The data-processing inequality for f-divergences: Cover and Thomas 2006, section 2.8.

    Example:
        >>> import torch
        >>> from distill_kd import top_k_kl
        >>> student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log()
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> f"{top_k_kl(student, teacher, mask=mask, k=1):.4f}"
        '0.1308'
    """
    check_positive("k", k)
    form = partial(closed_forms.top_k_kl, k=k)
    return _summed(form, student_logits, teacher_logits, mask, temperature)


def check_shapes(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> None:
    """Refuse tensors that do not line up; nothing is ever broadcast.

    Raises:
        ShapeError: The logits differ in shape, or ``mask`` is not their ``(batch, seq)``.
        TypeError: ``mask`` is not boolean (an integer mask would be taken for indices).
    """
    if student_logits.ndim != 3 or student_logits.shape != teacher_logits.shape:  # (batch, seq, vocab)
        raise ShapeError(
            f"the student's logits are {tuple(student_logits.shape)} and the teacher's "
            f"{tuple(teacher_logits.shape)}; both must be the same (batch, seq, vocab). Nothing is "
            "broadcast.",
            field="teacher_logits",
            found=tuple(teacher_logits.shape),
            allowed=(tuple(student_logits.shape),),
        )
    check_mask(mask, tuple(student_logits.shape[:-1]))


def check_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a mask that is not boolean and ``(batch, seq)``."""
    if tuple(mask.shape) != shape:
        raise ShapeError(
            f"mask is {tuple(mask.shape)}; it must be {shape}, (batch, seq).",
            field="mask",
            found=tuple(mask.shape),
            allowed=(shape,),
        )
    if mask.dtype != torch.bool:
        raise TypeError(f"mask is {mask.dtype}; it must be torch.bool: pass labels != -100, for instance.")


def _summed(
    form: ClosedForm, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, temperature: float
) -> Tensor:
    """Sum of a closed form over the positions in ``mask``, with its gradient."""
    check_shapes(student_logits, teacher_logits, mask)
    check_temperature(temperature)
    index = mask.to(student_logits.device).flatten().nonzero().squeeze(1)
    teacher = teacher_logits.detach().flatten(0, 1)
    dtype = wide_dtype(student_logits)

    def rows(piece: slice) -> tuple[Tensor, ...]:
        return (teacher[index[piece].to(teacher.device)].to(student_logits.device, dtype),)

    def value_and_grad(scores: Tensor, block: tuple[Tensor, ...], _: int) -> tuple[Tensor, Tensor]:
        loss, gradient = closed_forms.value_and_grad(form, scores, block, temperature)
        return loss[None], gradient

    student = student_logits.flatten(0, 1)
    chosen = student if len(index) == len(student) else student[index]
    return chunked_value_and_grad(value_and_grad, chosen, None, rows, coefficients=(1.0,))[0]
