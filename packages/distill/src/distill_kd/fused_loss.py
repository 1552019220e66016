"""A sum over positions and its gradient, a chunk at a time, so that the full logits never exist.

For each chunk of positions: student and teacher scores into two buffers; in each, a block of rows that fits
the processor's cache goes through loss and gradient, and the gradient takes the place of the scores; two
products make of it the gradients of hidden states and weights. Nothing is computed twice: four products
``2 * positions * width * vocab``, three where the head is frozen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from distill_kd.errors import NonFiniteLogitsError
from distill_kd.lm_head import OutputHead

DEFAULT_BUDGET_BYTES = 128 * 2**20
_CACHED_BYTES = {"cpu": 2**19}  # a block: several of its size fit beside each other in a core's cache
_BLOCK_BYTES = 2**26  # elsewhere, where a launch costs more than a trip to memory

TeacherRows = Callable[[slice], tuple[Tensor, ...]]
# Scores (rows, vocab), teacher's rows, place of the first -> parts (n,), and the gradient of their total.
ValueAndGrad = Callable[[Tensor, tuple[Tensor, ...], int], tuple[Tensor, Tensor]]


def wide_dtype(scores: Tensor) -> torch.dtype:
    """float64 for float64, else float32: what sums and softmaxes are computed in."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def chunked_value_and_grad(
    value_and_grad: ValueAndGrad,
    hidden: Tensor,
    head: OutputHead | None,
    teacher: TeacherRows,
    *,
    coefficients: Sequence[float],
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
) -> tuple[Tensor, Tensor]:
    """Sum a loss over rows, with its gradient for hidden states and head.

    Args:
        value_and_grad: Loss and gradient of a block of rows.
        hidden: What the head reads, ``(rows, width)``; the logits themselves, ``(rows, vocab)``, without one.
        head: Computes the logits; its weights get a gradient where they require one.
        teacher: The teacher's view of some of the rows.
        coefficients: Of the parts in the total; ``value_and_grad``'s gradient has them already.
        budget_bytes: For the scores of both models; a chunk of one row is the least there can be.

    Returns:
        The weighted total, a scalar with a gradient, and the parts, ``(n,)``, without.

    Raises:
        NonFiniteLogitsError: Scores of a row are not finite, or the sum overflows.
    """
    weights = () if head is None else head.weights
    bias = None if head is None else head.bias
    wanted = [each is not None and each.requires_grad for each in (hidden, bias, *weights)]
    wanted = [each and torch.is_grad_enabled() for each in wanted]
    job = _Job(value_and_grad, head, teacher, tuple(coefficients), budget_bytes, tuple(wanted))
    total, parts = _FusedLoss.apply(job, hidden, bias, *weights)
    if not torch.isfinite(total):
        job.refuse(hidden.detach())
    return total, parts


@dataclass(frozen=True)
class _Job:
    """What to sum, and which gradients are wanted: of hidden states, bias and each weight."""

    value_and_grad: ValueAndGrad
    head: OutputHead | None
    teacher: TeacherRows
    coefficients: tuple[float, ...]
    budget_bytes: int
    wanted: tuple[bool, ...]

    def run(self, hidden: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Parts, in the sums' dtype, and the gradients of hidden states, bias and weights."""
        dtype = wide_dtype(hidden)
        sums = torch.float32 if hidden.device.type == "mps" else torch.float64
        parts = torch.zeros(len(self.coefficients), dtype=sums, device=hidden.device)
        sources = (hidden, None) if self.head is None else (hidden, self.head.bias, *self.head.weights)
        gradients = [
            None if source is None or not want else torch.zeros_like(source, dtype=dtype)
            for want, source in zip(self.wanted, sources, strict=True)
        ]
        buffer: Tensor | None = None
        for piece in self._pieces(hidden):
            read = hidden[piece]
            if self.head is None:
                scores = read
                place = gradients[0][piece] if gradients[0] is not None else None
            else:
                buffer = self._projected(read, buffer, dtype)
                scores = buffer[: len(read)]
                place = scores if any(self.wanted) else None
            parts += self._blocks(scores, place, piece.start, dtype)
            if self.head is not None and place is not None:
                self._back(place, read, piece, gradients)
        return parts, gradients

    def refuse(self, hidden: Tensor) -> None:
        """Raise the error that names whose scores are not finite, and at how many rows."""
        bad = {"student": 0, "teacher": 0}
        with torch.no_grad():
            for piece in self._pieces(hidden):
                read = hidden[piece]
                scores = read if self.head is None else self.head(read)
                bad["student"] += int((~torch.isfinite(scores).all(-1)).sum())
                teacher = self.teacher(piece)  # logits; or ids, log-probabilities and tail
                bad["teacher"] += int((~torch.isfinite(teacher[len(teacher) // 2]).all(-1)).sum())
        for name, count in bad.items():
            if count:
                raise NonFiniteLogitsError(
                    f"the {name}'s logits hold NaN or infinity at {count} of the {len(hidden)} positions "
                    "that count. Look at its weights and its dtype (float16 overflows in T5).",
                    field=name,
                )
        raise NonFiniteLogitsError("the loss overflowed although the logits are finite; they are too large.")

    def _pieces(self, hidden: Tensor) -> list[slice]:
        """Rows whose scores, the student's and the teacher's, fit the budget."""
        vocab = hidden.shape[-1] if self.head is None else self.head.weights[0].shape[0]
        size = 2 * vocab * wide_dtype(hidden).itemsize
        rows = max(1, self.budget_bytes // size)
        return [slice(start, min(start + rows, len(hidden))) for start in range(0, len(hidden), rows)]

    def _projected(self, read: Tensor, buffer: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What the weights give, ``(rows, vocab)``, in ``dtype`` and in the same memory each time."""
        assert self.head is not None  # noqa: S101 - asked by the caller
        if buffer is None:
            shape = (len(read), self.head.weights[0].shape[0])
            buffer = torch.empty(shape, dtype=dtype, device=read.device)
        rows = buffer[: len(read)]
        parts = torch.split(read, self.head.widths, dim=-1)
        for place, (part, weight) in enumerate(zip(parts, self.head.weights, strict=True)):
            across = weight.detach().to(part.dtype).t()
            if part.dtype != dtype:
                product = part @ across
                rows.copy_(product) if place == 0 else rows.add_(product)
            elif place == 0:
                torch.mm(part, across, out=rows)
            else:
                rows.addmm_(part, across)
        return buffer

    def _blocks(self, scores: Tensor, place: Tensor | None, first: int, dtype: torch.dtype) -> Tensor:
        """Parts of a chunk; the gradient is written to ``place``, which may be ``scores`` itself."""
        teacher = self.teacher(slice(first, first + len(scores)))
        size = _CACHED_BYTES.get(scores.device.type, _BLOCK_BYTES)
        step = max(1, size // (scores.shape[-1] * dtype.itemsize))
        parts = []
        for start in range(0, len(scores), step):
            block = slice(start, start + step)
            rows = scores[block].to(dtype)
            rows = rows if self.head is None else self.head.epilogue(rows)
            part, gradient = self.value_and_grad(rows, tuple(each[block] for each in teacher), first + start)
            parts.append(part)
            if place is not None:
                place[block] = gradient if self.head is None else self.head.epilogue_backward(gradient, rows)
        return torch.stack(parts).sum(0)

    def _back(self, scores: Tensor, read: Tensor, piece: slice, gradients: list[Tensor | None]) -> None:
        """Add what a chunk's scores, ``(rows, vocab)``, contribute to the gradients of all that made them."""
        assert self.head is not None  # noqa: S101 - asked by the caller
        of_hidden, of_bias, *of_weights = gradients
        if of_bias is not None:
            of_bias += scores.sum(0)
        narrow = scores.to(read.dtype)
        start = 0
        for weight, of_weight in zip(self.head.weights, of_weights, strict=True):
            columns = slice(start, start + weight.shape[1])
            start = columns.stop
            if of_hidden is not None:
                of_hidden[piece, columns] = narrow @ weight.detach().to(read.dtype)
            if of_weight is not None and of_weight.dtype == narrow.dtype:
                torch.addmm(of_weight, narrow.t(), read[:, columns], out=of_weight)
            elif of_weight is not None:
                of_weight.add_(narrow.t() @ read[:, columns])


class _FusedLoss(torch.autograd.Function):
    """The gradient is computed together with the sum, and waits for backward."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, job: _Job, hidden: Tensor, bias: Tensor | None, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        parts, gradients = job.run(hidden)
        sources = (hidden, bias, *weights)
        ready = [
            gradient.to(source.dtype) if gradient is not None and source is not None else None
            for gradient, source in zip(gradients, sources, strict=True)
        ]
        del gradients
        ctx.save_for_backward(*ready)  # type: ignore[arg-type]  # None is kept too
        weighted = parts * torch.tensor(job.coefficients, dtype=parts.dtype, device=parts.device)
        dtype = wide_dtype(hidden)
        parts = parts.to(dtype)
        ctx.mark_non_differentiable(parts)
        return weighted.sum().to(dtype), parts

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors  # type: ignore[attr-defined]  # what torch adds
        plain = bool(upstream == 1)  # then no second copy of the weights' gradient is made
        return (None, *(one if plain or one is None else one * upstream.to(one.dtype) for one in kept))
