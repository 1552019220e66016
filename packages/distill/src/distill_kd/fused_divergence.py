"""One function that compares two models without ever holding their logits."""

from collections.abc import Callable

import torch
from torch import Tensor

from distill_kd import closed_forms
from distill_kd.built_in import resolve
from distill_kd.config import check_positive, check_temperature
from distill_kd.divergences import check_mask
from distill_kd.errors import ConfigError, ShapeError
from distill_kd.fused_loss import (
    DEFAULT_BUDGET_BYTES,
    TeacherRows,
    ValueAndGrad,
    chunked_value_and_grad,
    wide_dtype,
)
from distill_kd.lm_head import OutputHead
from distill_kd.registry import Divergence, DivergenceFunction
from distill_kd.teachers import Target, TopKTarget


def chunked_divergence(
    student_hidden: Tensor,
    student_head: OutputHead,
    target: Target,
    *,
    mask: Tensor,
    divergence: str | Divergence | DivergenceFunction = "forward_kl",
    temperature: float = 1.0,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
) -> Tensor:
    """Sum of a divergence over the positions in ``mask``, in bounded memory.

    Positions outside the mask are never projected; the others a chunk at a time, with the gradient in the
    same pass, in place. Equal to the divergence of the full logits, whatever the chunk.

    Args:
        student_hidden: What the student's head reads, ``(batch, seq, width)``, any float dtype.
        student_head: The student's head; :func:`distill_kd.hidden_and_head` gives both. Frozen weights cost
            nothing.
        target: The teacher's: :class:`HiddenTarget`, :class:`DenseTarget` or :class:`TopKTarget`, the last
            with its own temperature only, for divergences between probabilities.
        mask: True where a position counts, ``(batch, seq)``.
        divergence: A name, or a callable with the signature of :func:`forward_kl`. One of your own is given
            ``(1, rows, vocab)`` logits and differentiated by autograd, some rows at a time.
        temperature: Softening, > 0. The square of it is not multiplied in.
        budget_bytes: For the scores of both models, > 0. Beside it there are the gradients of the hidden
            states and of the weights.

    Returns:
        Scalar, float32 (float64 for float64 hidden states). 0, with a zero gradient, when ``mask`` selects
        nothing.

    Raises:
        ShapeError: ``mask``, hidden states, head and target do not line up.
        TypeError: ``mask`` is not boolean.
        ValueError: ``temperature`` or ``budget_bytes`` is not positive, the divergence is unknown, or the
            target cannot serve it.
        NonFiniteLogitsError: A position that counts is not finite.

    Source:
        The method of chunks with fused gradients: Hsu et al. 2024 (Liger Kernel), section 3.2,
        arXiv:2410.10989; here for any divergence, in place.

    Example:
        >>> import torch
        >>> from distill_kd import DenseTarget, OutputHead, chunked_divergence
        >>> hidden, head = torch.zeros(1, 1, 3, requires_grad=True), OutputHead((torch.ones(2, 3),))
        >>> target = DenseTarget(torch.tensor([[[0.75, 0.25]]]).log())
        >>> loss = chunked_divergence(hidden, head, target, mask=torch.ones(1, 1, dtype=torch.bool))
        >>> f"{loss:.4f}"
        '0.1308'
    """
    shape = tuple(student_hidden.shape[:-1])
    check_mask(mask, shape)
    chosen = resolve(divergence)
    check_target(target, shape, chosen, temperature)
    check_positive("budget_bytes", budget_bytes)
    check_width(student_hidden, student_head)
    index = mask.to(student_hidden.device).flatten().nonzero().squeeze(1)
    total, _ = chunked_value_and_grad(
        _value_and_grad(chosen, temperature),
        chosen_rows(student_hidden, index),
        student_head,
        rows_of(target, index, student_hidden),
        coefficients=(1.0,),
        budget_bytes=budget_bytes,
    )
    return total


def chosen_rows(values: Tensor, index: Tensor) -> Tensor:
    """Some of the ``batch * seq`` rows of ``(batch, seq, width)``; all of them are not copied."""
    rows = values.flatten(0, 1)
    return rows if len(index) == len(rows) else rows[index.to(rows.device)]


def _value_and_grad(divergence: Divergence, temperature: float) -> ValueAndGrad:
    """A divergence as the one part of a sum."""
    measure = divergence_value_and_grad(divergence, temperature)

    def value_and_grad(scores: Tensor, teacher: tuple[Tensor, ...], _: int) -> tuple[Tensor, Tensor]:
        if len(teacher) == 1 and teacher[0].shape[-1] != scores.shape[-1]:
            raise ShapeError(
                f"the student scores {scores.shape[-1]} tokens and the teacher {teacher[0].shape[-1]}; both "
                "must be the same. If one is padded, use Objective(vocab_size=...) of check_vocabularies.",
                field="target",
                found=teacher[0].shape[-1],
                allowed=(scores.shape[-1],),
            )
        loss, gradient = measure(scores, teacher)
        return loss[None], gradient

    return value_and_grad


def divergence_value_and_grad(
    divergence: Divergence, temperature: float
) -> Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, Tensor]]:
    """A divergence's sum over rows of scores and teacher, and its gradient."""
    form = divergence.closed_form
    if form is None:
        function = divergence.function
        return lambda scores, teacher: _by_autograd(function, scores, teacher, temperature)
    return lambda scores, teacher: closed_forms.value_and_grad(form, scores, teacher, temperature)


def rows_of(target: Target, index: Tensor, like: Tensor) -> TeacherRows:
    """The teacher's rows at some of the positions ``index``, where ``like`` is and in the sums' dtype."""
    dtype = wide_dtype(like)

    def rows(piece: slice) -> tuple[Tensor, ...]:
        found = (each.to(like.device) for each in target.rows(index[piece]))
        return tuple(each.to(dtype) if each.is_floating_point() else each for each in found)

    return rows


def check_target(target: Target, shape: tuple[int, ...], divergence: Divergence, temperature: float) -> None:
    """Refuse a target of other positions, or one that cannot serve the divergence at the temperature.

    Raises:
        ShapeError: Batch or length differ.
        ValueError: The temperature is not positive or not the target's, or the divergence needs all logits.
    """
    check_temperature(temperature)
    if tuple(target.shape) != shape:
        raise ShapeError(
            f"the student's positions are {shape} and the teacher's {tuple(target.shape)}; batch and seq "
            "must be equal, nothing is broadcast. Give both the same inputs.",
            field="target",
            found=tuple(target.shape),
            allowed=(shape,),
        )
    if not isinstance(target, TopKTarget):
        return
    if target.temperature != temperature:
        raise ConfigError(
            f"the cached teacher was softened with temperature {target.temperature:g}, and {temperature:g} "
            "was asked for; what is left of it cannot be softened again. Use its own, or write the "
            "cache again.",
            field="temperature",
            found=temperature,
            allowed=(target.temperature,),
            suggestion=target.temperature,
        )
    if divergence.needs_all_logits:
        raise ConfigError(
            f"{divergence.name} compares all logits, and a truncated teacher has k of them and the "
            "probability of the rest. Use a divergence between probabilities (forward_kl), or a dense cache.",
            field="divergence",
            found=divergence.name,
            suggestion="forward_kl",
        )


def check_width(hidden: Tensor, head: OutputHead) -> None:
    """Refuse hidden states that the head does not read."""
    if hidden.shape[-1] != sum(head.widths):
        raise ShapeError(
            f"the hidden states are {hidden.shape[-1]} wide, and the head reads {sum(head.widths)}; take "
            "both from hidden_and_head(model, inputs).",
            field="student_hidden",
            found=hidden.shape[-1],
            allowed=(sum(head.widths),),
        )


def _by_autograd(
    function: DivergenceFunction, scores: Tensor, teacher: tuple[Tensor, ...], temperature: float
) -> tuple[Tensor, Tensor]:
    """A callable's own sum, and the gradient that autograd finds; a truncated teacher as ``k + 1`` tokens."""

    def summed(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        mask = torch.ones(1, len(student), dtype=torch.bool, device=student.device)
        with torch.enable_grad():
            leaf = student.detach().requires_grad_()
            constant = teacher.clone() if teacher.is_inference() else teacher
            loss = function(leaf[None], constant[None], mask=mask, temperature=temperature)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient

    if len(teacher) == 1:
        return summed(scores, teacher[0], temperature)
    total: list[Tensor] = []

    def form(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = summed(student, teacher, 1.0)
        total.append(loss)
        return loss.expand(len(student)), gradient

    _, gradient = closed_forms.value_and_grad(form, scores, teacher, temperature)
    return total[0], gradient
