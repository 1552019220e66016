"""The divergence ``hellinger``: the squared Hellinger distance of the whole distributions."""

from typing import TYPE_CHECKING

from distill_kd import Divergence

if TYPE_CHECKING:
    from torch import Tensor


def hellinger(
    student_logits: "Tensor", teacher_logits: "Tensor", *, mask: "Tensor", temperature: float = 1.0
) -> "Tensor":
    """Sum over the positions in ``mask``; logits ``(batch, seq, vocab)``, mask ``(batch, seq)``."""
    student, teacher = ((one / temperature).softmax(-1) for one in (student_logits, teacher_logits))
    return (0.5 * (student.sqrt() - teacher.sqrt()).square().sum(-1))[mask].sum()


HELLINGER = Divergence(name="hellinger", function=hellinger, needs_all_logits=True)
