"""What each divergence computes at each position, and its gradient, written out.

A closed form takes log-probabilities of student and teacher, ``(rows, vocab)``, and returns values
``(rows,)`` and their gradient with respect to the student's scores before normalisation, ``(rows, vocab)``.
Below, p is the teacher's distribution and q the student's; a loss whose derivative by q is w has the gradient
``q * (w - sum(q * w))``, since ``dq_i / dz_j = q_i (delta_ij - q_j)``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

ClosedForm = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_NOTHING = -1e4  # a log-probability whose probability is 0, and whose product with 0 is 0


def forward_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q)."""
    p = teacher.exp()
    return (p * (teacher - student)).sum(-1), student.exp().sub_(p)


def reverse_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q || p)."""
    ratio = student - teacher
    return _by_log_ratio(student.exp(), ratio)


def jensen_shannon(student: Tensor, teacher: Tensor, *, beta: float = 0.5) -> tuple[Tensor, Tensor]:
    """Beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q; dL/dq = (1 - beta) log(q / m)."""
    p, q = teacher.exp(), student.exp()
    mixture = _log_mixture(p, q, beta)
    of_student, gradient = _by_log_ratio(q, student - mixture)
    of_teacher = p.mul_(teacher - mixture).sum(-1)
    return beta * of_teacher + (1 - beta) * of_student, gradient.mul_(1 - beta)


def skew_kl(student: Tensor, teacher: Tensor, *, alpha: float = 0.1) -> tuple[Tensor, Tensor]:
    """KL(p || m), m = alpha p + (1 - alpha) q; dL/dq = -(1 - alpha) p / m."""
    p, q = teacher.exp(), student.exp()
    mixture = _log_mixture(p, q, alpha)
    weighted = q * (teacher - mixture).exp().mul_(alpha - 1)
    return (p * (teacher - mixture)).sum(-1), weighted - q * weighted.sum(-1, keepdim=True)


def skew_reverse_kl(student: Tensor, teacher: Tensor, *, alpha: float = 0.1) -> tuple[Tensor, Tensor]:
    """KL(q || m), m = alpha q + (1 - alpha) p; dL/dq = log(q / m) + 1 - alpha q / m."""
    p, q = teacher.exp(), student.exp()
    ratio = student - _log_mixture(q, p, alpha)
    weighted = q * (ratio - alpha * ratio.exp())
    return (q * ratio).sum(-1), weighted - q * weighted.sum(-1, keepdim=True)


def alpha_beta(
    student: Tensor, teacher: Tensor, *, alpha: float = 0.2, beta: float = 0.7
) -> tuple[Tensor, Tensor]:
    """Alpha-beta divergence; dL/dq = -(p^alpha q^(beta - 1) - q^(alpha + beta - 1)) / alpha."""
    both, dtype = alpha + beta, student.dtype
    if student.device.type != "mps":  # three large terms leave a small one: in float32 it has 6 digits
        student, teacher = student.double(), teacher.double()
    mixed = (alpha * teacher + beta * student).exp()
    of_teacher, of_student = (both * teacher).exp(), (both * student).exp()
    # Summed as differences from the mixed term, so that equal distributions cancel at each token.
    rows = (alpha * (of_teacher - mixed) + beta * (of_student - mixed)).sum(-1) / (alpha * beta * both)
    weighted = (of_student - mixed) / alpha
    return rows, (weighted - student.exp() * weighted.sum(-1, keepdim=True)).to(dtype)


def total_variation(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Half the sum of ``|q - p|``; dL/dq = sign(q - p) / 2."""
    q = student.exp()
    difference = q - teacher.exp()
    weighted = q * difference.sign().mul_(0.5)
    return difference.abs().sum(-1) / 2, weighted - q * weighted.sum(-1, keepdim=True)


def logit_mse(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared difference of centred scores."""
    difference = student - teacher
    difference -= difference.mean(-1, keepdim=True)
    return difference.square().mean(-1), difference.mul_(2 / student.shape[-1])


def top_k_kl(student: Tensor, teacher: Tensor, *, k: int = 64) -> tuple[Tensor, Tensor]:
    """KL(p || q) over the ``k`` most likely tokens of the teacher, and the rest as one token."""
    if k >= student.shape[-1]:
        return forward_kl(student, teacher)
    log_probs, ids = teacher.topk(k, dim=-1)
    return on_buckets(forward_kl, student, ids, log_probs, _rest(teacher, ids)[0][:, 0])


def on_buckets(
    form: ClosedForm, student: Tensor, ids: Tensor, log_probs: Tensor, tail: Tensor
) -> tuple[Tensor, Tensor]:
    """A closed form on ``k`` tokens and one that stands for all others.

    Args:
        form: What to compute on ``k + 1`` log-probabilities.
        student: Log-probabilities, ``(rows, vocab)``.
        ids: Which tokens, ``(rows, k)``, none twice in a row.
        log_probs: The teacher's of those, ``(rows, k)``.
        tail: The teacher's of all others together, ``(rows,)``; may be minus infinity.

    Returns:
        As a closed form; the gradient reaches all ``vocab`` scores, the others' share by probability.
    """
    rest, others = _rest(student, ids)
    student_buckets = torch.cat([student.gather(-1, ids), rest], dim=-1)
    teacher_buckets = torch.cat([log_probs, tail[:, None]], dim=-1).clamp_min(_NOTHING).log_softmax(-1)
    rows, gradient = form(student_buckets, teacher_buckets)
    spread = (others - rest).exp_().mul_(gradient[:, -1:])
    return rows, spread.scatter_(-1, ids, gradient[:, :-1])


def cross_entropy(scores: Tensor, labels: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Sum of the labels' cross-entropy over rows, and its gradient with respect to ``scores``.

    Args:
        scores: Logits, ``(rows, vocab)``, float32 or float64.
        labels: ``(rows,)``, int64, below ``vocab``.
        smoothing: Share of each label's probability that all tokens get alike.
    """
    log_probs = scores.log_softmax(-1)
    places = labels[:, None]
    rows = -(1 - smoothing) * log_probs.gather(-1, places)[:, 0]
    if smoothing:
        rows = rows - smoothing * log_probs.mean(-1)
    gradient = log_probs.exp_()
    if smoothing:
        gradient -= smoothing / scores.shape[-1]
    gradient.scatter_add_(-1, places, torch.full_like(places, smoothing - 1, dtype=gradient.dtype))
    return exact_sum(rows), gradient


def value_and_grad(
    form: ClosedForm, scores: Tensor, teacher: tuple[Tensor, ...], temperature: float
) -> tuple[Tensor, Tensor]:
    """Sum of a closed form over rows, and its gradient with respect to ``scores``, ``(rows, vocab)``.

    Args:
        form: What to compute.
        scores: The student's logits, ``(rows, vocab)``, float32 or float64.
        teacher: Logits ``(rows, vocab)``; or ids, log-probabilities and tail as :func:`on_buckets` takes
            them, softened already.
        temperature: Softening, > 0.
    """
    student = _softened(scores, temperature)
    if len(teacher) == 1:
        rows, gradient = form(student, _softened(teacher[0], temperature))
    else:
        rows, gradient = on_buckets(form, student, *teacher)
    return exact_sum(rows), gradient if temperature == 1 else gradient.div_(temperature)


def exact_sum(rows: Tensor) -> Tensor:
    """Sum in float64 where the device has it: thousands of float32 terms cost digits."""
    return rows.sum(dtype=rows.dtype if rows.device.type == "mps" else torch.float64)


def _softened(scores: Tensor, temperature: float) -> Tensor:
    return (scores if temperature == 1 else scores / temperature).log_softmax(-1)


def _by_log_ratio(q: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """``sum(q * ratio)`` and its gradient, where the derivative by q is ``ratio`` but for a constant."""
    rows = (q * ratio).sum(-1)
    return rows, q * ratio.sub_(rows[:, None])


def _log_mixture(first: Tensor, second: Tensor, share: float) -> Tensor:
    """``log(share * first + (1 - share) * second)``, finite where both have vanished."""
    tiny = torch.finfo(first.dtype).tiny
    return torch.lerp(second, first, share).clamp_min_(tiny).log_()


def _rest(log_probs: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of all but ``ids`` together, ``(rows, 1)``, and ``log_probs`` without ``ids``."""
    others = log_probs.scatter(-1, ids, -math.inf)
    return others.logsumexp(-1, keepdim=True).clamp_min(_NOTHING), others
