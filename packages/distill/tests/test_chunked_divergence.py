"""Any divergence from hidden states and a head: equal to that of the full logits, which never exist."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from distill_kd import (
    DenseTarget,
    HiddenTarget,
    NonFiniteLogitsError,
    OutputHead,
    ShapeError,
    TopKTarget,
    chunked_divergence,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    top_k_kl,
)
from distill_kd.built_in import BUILT_IN

BATCH, SEQ, WIDTH, RANK, VOCAB = 3, 5, 6, 2, 17
each = pytest.mark.parametrize("name", BUILT_IN)
Parts = dict[str, Tensor]


def material(dtype: torch.dtype = torch.float64) -> tuple[Parts, Tensor, Tensor]:
    """A student's hidden states and head with everything it may have, teacher's logits, and a mask."""
    draw = torch.Generator().manual_seed(0)
    shapes = {
        "hidden": (BATCH, SEQ, WIDTH),
        "weight": (VOCAB, WIDTH),
        "bias": (VOCAB,),
        "inner": (BATCH, SEQ, RANK),  # what a LoRA adapter's A made
        "outer": (VOCAB, RANK),
    }
    parts = {
        name: torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
        for name, shape in shapes.items()
    }
    teacher = 2 * torch.randn(BATCH, SEQ, VOCAB, generator=draw, dtype=torch.float64)
    return parts, teacher.to(dtype), torch.rand(BATCH, SEQ, generator=draw) < 0.7


def student_of(parts: Parts) -> tuple[Tensor, OutputHead]:
    """Hidden states and head, with bias, scale, soft cap and adapter."""
    head = OutputHead((parts["weight"], parts["outer"]), parts["bias"], scale=0.7, soft_cap=4.0)
    return torch.cat([parts["hidden"], parts["inner"]], -1), head


def loss_and_gradients(loss: Tensor, parts: Parts) -> list[Tensor]:
    """Both, to be compared."""
    return [loss.detach(), *torch.autograd.grad(loss, list(parts.values()))]


@each
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_equals_full_logits_in_float64_whatever_the_chunk(name: str, temperature: float) -> None:
    """Loss and gradients within 1e-6 and 1e-5 in float32, and within rounding in float64."""
    for dtype, of_loss, of_gradient in ((torch.float64, 1e-12, 1e-12), (torch.float32, 1e-6, 1e-5)):
        parts, teacher, mask = material(dtype)
        wide = {key: value.detach().double().requires_grad_() for key, value in parts.items()}
        hidden, head = student_of(wide)
        full = BUILT_IN[name].function(head(hidden), teacher.double(), mask=mask, temperature=temperature)
        expected = loss_and_gradients(full, wide)
        for budget in (1, 1000, 2**20):  # one position at a time; three or seven; all at once
            hidden, head = student_of(parts)
            loss = chunked_divergence(
                hidden,
                head,
                DenseTarget(teacher),
                mask=mask,
                divergence=name,
                temperature=temperature,
                budget_bytes=budget,
            )
            assert loss.dtype == dtype
            found = loss_and_gradients(loss, parts)
            assert found[0].item() == pytest.approx(expected[0].item(), rel=of_loss)
            for got, want in zip(found[1:], expected[1:], strict=True):
                torch.testing.assert_close(got.double(), want, rtol=of_gradient, atol=of_gradient)


@each
def test_gradient_is_the_derivative(name: str) -> None:
    """Finite differences in float64 agree with backward, for hidden states and all that the head holds."""
    parts, teacher, mask = material()

    def loss(*values: Tensor) -> Tensor:
        hidden, head = student_of(dict(zip(parts, values, strict=True)))
        return chunked_divergence(
            hidden, head, DenseTarget(teacher), mask=mask, divergence=name, budget_bytes=1000
        )

    assert torch.autograd.gradcheck(loss, tuple(parts.values()), fast_mode=True)


def test_a_teacher_of_hidden_states_is_its_logits() -> None:
    """Projected chunk by chunk, in its own width."""
    parts, _, mask = material()
    draw = torch.Generator().manual_seed(1)
    teacher = torch.randn(BATCH, SEQ, 9, generator=draw, dtype=torch.float64)
    head = OutputHead((torch.randn(VOCAB, 9, generator=draw, dtype=torch.float64),), scale=0.5)
    target = HiddenTarget(teacher, head)
    found = chunked_divergence(*student_of(parts), target, mask=mask, budget_bytes=1000)
    dense = chunked_divergence(*student_of(parts), DenseTarget(target.log_probs), mask=mask)
    assert found.item() == pytest.approx(dense.item(), rel=1e-12)


def test_masked_positions_are_not_projected_and_frozen_heads_cost_three_products() -> None:
    """4 products over valid positions, 3 where the head is frozen, 2 without gradient, by multiplications."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 20, WIDTH, generator=draw).requires_grad_()
    weight = torch.randn(VOCAB, WIDTH, generator=draw).requires_grad_()
    target = HiddenTarget(torch.randn(2, 20, WIDTH, generator=draw), OutputHead((weight.detach(),)))
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[0, 3:10] = True
    product = 2 * 7 * WIDTH * VOCAB

    def products() -> float:
        with FlopCounterMode(display=False) as counter:
            loss = chunked_divergence(hidden, OutputHead((weight,)), target, mask=mask, budget_bytes=1000)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]  # torch publishes no type for it
        return float(counter.get_total_flops()) / product

    assert products() == 4
    weight.requires_grad_(False)
    assert products() == 3
    with torch.no_grad():
        assert products() == 2


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch publishes no type for it
    """Notes the most elements that a tensor over the vocabulary had."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor) and tensor.shape[-1:] == (997,):
                self.elements = max(self.elements, tensor.numel())
        return out


@each
def test_no_tensor_of_all_logits_ever_exists(name: str) -> None:
    """Nothing over the vocabulary is larger than the chunk that the budget allows, whatever the length."""
    draw = torch.Generator().manual_seed(0)
    budget, rows = 2 * 4 * 997 * 8, 8
    weight = torch.randn(997, 4, generator=draw)
    for length in (20, 60):
        hidden = torch.randn(1, length, 4, generator=draw).requires_grad_()
        target = HiddenTarget(torch.randn(1, length, 4, generator=draw), OutputHead((weight,)))
        mask = torch.ones(1, length, dtype=torch.bool)
        with Largest() as seen:  # type: ignore[no-untyped-call]  # as above
            loss = chunked_divergence(
                hidden,
                OutputHead((weight,)),
                target,
                mask=mask,
                divergence=name,
                budget_bytes=budget,
            )
            loss.backward()  # type: ignore[no-untyped-call]  # torch publishes no type for it
        assert seen.elements == rows * 997


def top_k(teacher: Tensor, k: int, temperature: float) -> TopKTarget:
    """The ``k`` most likely tokens of each position, and the rest."""
    log_probs = (teacher / temperature).log_softmax(-1)
    kept, ids = log_probs.topk(k, dim=-1)
    tail = log_probs.scatter(-1, ids, float("-inf")).logsumexp(-1)
    return TopKTarget(ids, kept, tail, temperature=temperature)


def test_a_truncated_teacher_gives_the_top_k_divergence() -> None:
    """Forward KL over k tokens and the rest as one, with its gradients; with all tokens, the whole KL."""
    parts, teacher, mask = material()
    for k in (1, 4, VOCAB):
        hidden, head = student_of(parts)
        full = top_k_kl(head(hidden), teacher, mask=mask, temperature=2.0, k=k)
        expected = loss_and_gradients(full, parts)
        hidden, head = student_of(parts)
        loss = chunked_divergence(
            hidden, head, top_k(teacher, k, 2.0), mask=mask, temperature=2.0, budget_bytes=1000
        )
        for got, want in zip(loss_and_gradients(loss, parts), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"logit_mse"}))
def test_every_divergence_of_probabilities_takes_a_truncated_teacher(name: str) -> None:
    """Equal to the divergence of k + 1 summed probabilities, with the derivative for a gradient."""
    parts, teacher, mask = material()
    target = top_k(teacher, 4, 1.0)
    hidden, head = student_of(parts)
    log_probs = head(hidden).log_softmax(-1)
    rest = log_probs.scatter(-1, target.ids, float("-inf")).logsumexp(-1, keepdim=True)
    buckets = torch.cat([log_probs.gather(-1, target.ids), rest], -1)
    teacher = torch.cat([target.log_probs, target.tail[..., None]], -1)
    expected = loss_and_gradients(
        BUILT_IN[name].function(buckets, teacher, mask=mask, temperature=1.0), parts
    )
    loss = chunked_divergence(*student_of(parts), target, mask=mask, divergence=name)
    for found, wanted in zip(loss_and_gradients(loss, parts), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_a_truncated_teacher_serves_its_own_temperature_and_probabilities_only() -> None:
    """Another temperature, and a divergence that needs every logit, are refused."""
    parts, teacher, mask = material()
    target = top_k(teacher, 4, 2.0)
    with pytest.raises(ValueError, match="softened with temperature 2, and 1 was asked for"):
        chunked_divergence(*student_of(parts), target, mask=mask)
    with pytest.raises(ValueError, match="logit_mse compares all logits"):
        chunked_divergence(*student_of(parts), target, mask=mask, divergence="logit_mse", temperature=2.0)


def test_a_divergence_of_ones_own_is_differentiated() -> None:
    """A callable that autograd can follow equals the built-in divergence, truncated teachers included."""
    parts, teacher, mask = material()

    def own(student: Tensor, teacher: Tensor, /, *, mask: Tensor, temperature: float) -> Tensor:
        own_log_probs, other = (x[mask].div(temperature).log_softmax(-1) for x in (student, teacher))
        return (own_log_probs.exp() * (own_log_probs - other)).sum()

    for target, temperature in ((DenseTarget(teacher), 2.0), (top_k(teacher, 4, 2.0), 2.0)):
        losses = [
            chunked_divergence(
                *student_of(parts),
                target,
                mask=mask,
                divergence=divergence,
                temperature=temperature,
                budget_bytes=1000,
            )
            for divergence in (own, reverse_kl)
        ]
        mine, named = (loss_and_gradients(loss, parts) for loss in losses)
        for got, want in zip(mine, named, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_arguments_of_a_divergence_arrive_and_are_checked() -> None:
    """A ``partial`` carries them."""
    parts, teacher, mask = material()
    hidden, head = student_of(parts)
    expected = jensen_shannon(head(hidden), teacher, mask=mask, beta=0.2)
    target = DenseTarget(teacher)
    found = chunked_divergence(hidden, head, target, mask=mask, divergence=partial(jensen_shannon, beta=0.2))
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    with pytest.raises(ValueError, match="beta = 3"):
        chunked_divergence(hidden, head, target, mask=mask, divergence=partial(jensen_shannon, beta=3))
    with pytest.raises(ValueError, match="Did you mean forward_kl"):
        chunked_divergence(hidden, head, target, mask=mask, divergence="forward_lk")


@each
def test_empty_mask_gives_zero_with_zero_gradient(name: str) -> None:
    """Attached to the graph, so that several processes keep in step."""
    parts, teacher, mask = material()
    loss = chunked_divergence(
        *student_of(parts), DenseTarget(teacher), mask=torch.zeros_like(mask), divergence=name
    )
    found = loss_and_gradients(loss, parts)
    assert not any(value.any() for value in found)


def test_backward_twice_and_scaled_is_backward_scaled() -> None:
    """The gradient waits for what comes from above, and may be asked for again."""
    parts, teacher, mask = material()
    loss = chunked_divergence(*student_of(parts), DenseTarget(teacher), mask=mask)
    values = list(parts.values())
    once = torch.autograd.grad(loss, values, retain_graph=True)
    for threefold, single in zip(torch.autograd.grad(3 * loss, values), once, strict=True):
        torch.testing.assert_close(threefold, 3 * single)


def test_bfloat16_is_summed_in_float32() -> None:
    """Products are rounded as the model's own would be; loss, softmax and sums are not."""
    parts, teacher, mask = material(torch.bfloat16)
    hidden, weight = parts["hidden"], parts["weight"]
    loss = chunked_divergence(hidden, OutputHead((weight,)), DenseTarget(teacher), mask=mask)
    expected = forward_kl((hidden @ weight.T).float(), teacher.float(), mask=mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    found = torch.autograd.grad(loss, (hidden, weight))
    for got, want in zip(found, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, want, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_non_finite_scores_are_refused(side: str) -> None:
    """The message names the side and counts its positions; masked ones are never looked at."""
    parts, teacher, mask = material()
    mask[:] = True
    mask[0, 0] = False
    with torch.no_grad():
        spoilt = parts["hidden"] if side == "student" else teacher
        spoilt[0, 0] = spoilt[1, 2, 3] = float("nan")
    with pytest.raises(NonFiniteLogitsError, match=f"the {side}'s logits .* 1 of the 14 positions"):
        chunked_divergence(*student_of(parts), DenseTarget(teacher), mask=mask)


def test_what_does_not_line_up_is_refused() -> None:
    """Batch 1, length 1, another width or vocabulary, an integer mask, an empty budget."""
    parts, teacher, mask = material()
    hidden, head = student_of(parts)
    for small in (teacher[:1], teacher[:, :1]):
        with pytest.raises(ShapeError, match="nothing is broadcast"):
            chunked_divergence(hidden, head, DenseTarget(small), mask=mask)
    with pytest.raises(ShapeError, match="the student scores 17 tokens and the teacher 16"):
        chunked_divergence(hidden, head, DenseTarget(teacher[..., :16]), mask=mask)
    target = DenseTarget(teacher)
    with pytest.raises(ShapeError, match=r"mask is \(1, 5\)"):
        chunked_divergence(hidden, head, target, mask=mask[:1])
    with pytest.raises(TypeError, match=r"torch\.bool"):
        chunked_divergence(hidden, head, target, mask=mask.long())
    with pytest.raises(ShapeError, match="6 wide, and the head reads 8"):
        chunked_divergence(parts["hidden"], head, target, mask=mask)
    with pytest.raises(ValueError, match="budget_bytes = 0"):
        chunked_divergence(hidden, head, target, mask=mask, budget_bytes=0)
    with pytest.raises(ValueError, match="must be positive"):
        chunked_divergence(hidden, head, target, mask=mask, temperature=0.0)
