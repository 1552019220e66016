"""Each divergence is the closed form of its source, at chosen positions and nowhere else."""

import math
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from distill_kd import (
    DistillError,
    DivergenceFunction,
    NonFiniteLogitsError,
    ShapeError,
    VocabularyError,
    alpha_beta,
    forward_kl,
    jensen_shannon,
    logit_mse,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    top_k_kl,
    total_variation,
)
from distill_kd.built_in import BUILT_IN, resolve
from distill_kd.registry import BUILT_IN_NAMES

DIVERGENCES: dict[str, DivergenceFunction] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
    "jensen_shannon_0.1": partial(jensen_shannon, beta=0.1),
    "jensen_shannon_0.9": partial(jensen_shannon, beta=0.9),
    "skew_kl": skew_kl,
    "skew_reverse_kl": partial(skew_reverse_kl, alpha=0.3),
    "alpha_beta": alpha_beta,
    "alpha_beta_2_1": partial(alpha_beta, alpha=2.0, beta=1.0),
    "total_variation": total_variation,
    "logit_mse": logit_mse,
    "top_k_kl": partial(top_k_kl, k=3),
    "top_k_kl_all": top_k_kl,
}
each = pytest.mark.parametrize("name", DIVERGENCES)


def kl(p: list[float], q: list[float]) -> float:
    """KL(p || q) of two plain lists."""
    return math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def mixed(beta: float) -> Callable[[list[float], list[float]], float]:
    """Closed form of the generalised Jensen-Shannon divergence."""

    def closed(s: list[float], t: list[float]) -> float:
        m = [beta * a + (1 - beta) * b for a, b in zip(t, s, strict=True)]
        return beta * kl(t, m) + (1 - beta) * kl(s, m)

    return closed


def skewed(p: list[float], q: list[float], alpha: float) -> float:
    """KL(p || alpha p + (1 - alpha) q)."""
    return kl(p, [alpha * a + (1 - alpha) * b for a, b in zip(p, q, strict=True)])


def powers(alpha: float, beta: float) -> Callable[[list[float], list[float]], float]:
    """Closed form of the alpha-beta divergence, as Cichocki et al. print it."""

    def closed(s: list[float], t: list[float]) -> float:
        total = alpha + beta
        terms = (
            p**alpha * q**beta - alpha / total * p**total - beta / total * q**total
            for p, q in zip(t, s, strict=True)
        )
        return -math.fsum(terms) / (alpha * beta)

    return closed


def squared(s: list[float], t: list[float]) -> float:
    """Mean squared difference of centred log-probabilities."""
    ratios = [math.log(a) - math.log(b) for a, b in zip(s, t, strict=True)]
    mean = math.fsum(ratios) / len(ratios)
    return math.fsum((ratio - mean) ** 2 for ratio in ratios) / len(ratios)


def bucketed(s: list[float], t: list[float]) -> float:
    """KL(t || s) over the three most likely tokens of ``t`` and the sum of the others."""
    order = sorted(range(len(t)), key=lambda token: -t[token])
    teacher, student = ([p[token] for token in order] for p in (t, s))
    return kl([*teacher[:3], math.fsum(teacher[3:])], [*student[:3], math.fsum(student[3:])])


CLOSED: dict[str, Callable[[list[float], list[float]], float]] = {
    "forward_kl": lambda s, t: kl(t, s),
    "reverse_kl": kl,
    "jensen_shannon": mixed(0.5),
    "jensen_shannon_0.1": mixed(0.1),
    "jensen_shannon_0.9": mixed(0.9),
    "skew_kl": lambda s, t: skewed(t, s, 0.1),
    "skew_reverse_kl": lambda s, t: skewed(s, t, 0.3),
    "alpha_beta": powers(0.2, 0.7),
    "alpha_beta_2_1": powers(2.0, 1.0),
    "total_variation": lambda s, t: math.fsum(abs(a - b) for a, b in zip(s, t, strict=True)) / 2,
    "logit_mse": squared,
    "top_k_kl": bucketed,
    "top_k_kl_all": lambda s, t: kl(t, s),
}


def probabilities(row: Tensor, temperature: float) -> list[float]:
    """Softmax of one row in Python floats."""
    scores = [float(x) / temperature for x in row.double()]
    top = max(scores)
    weights = [math.exp(x - top) for x in scores]
    return [w / math.fsum(weights) for w in weights]


def pair(*, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher logits ``(3, 5, 17)`` and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, 3, 5, 17, generator=generator, dtype=torch.float64)
    mask = torch.rand(3, 5, generator=generator) < 0.6
    return student.to(dtype), teacher.to(dtype), mask


@each
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
@pytest.mark.parametrize("kept", ["some", "all", "one"])
def test_equals_the_float64_closed_form(name: str, temperature: float, kept: str) -> None:
    """Loss within 1e-6 and gradient within 1e-5 of Python arithmetic, in float32."""
    student, teacher, mask = pair()
    if kept != "some":
        mask = torch.full_like(mask, kept == "all")
        mask[1, 2] = True
    student.requires_grad_()
    loss = DIVERGENCES[name](student, teacher, mask=mask, temperature=temperature)
    expected = math.fsum(
        CLOSED[name](
            probabilities(student[i, j].detach(), temperature), probabilities(teacher[i, j], temperature)
        )
        for i, j in mask.nonzero().tolist()
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]  # torch publishes no type for it
    wide = student.detach().double().requires_grad_()
    DIVERGENCES[name](wide, teacher.double(), mask=mask, temperature=temperature).backward()  # type: ignore[no-untyped-call]  # as above
    assert student.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(student.grad.double(), wide.grad, rtol=1e-5, atol=1e-5)


def test_every_divergence_with_a_name_is_tested() -> None:
    """A new one does not slip past the closed forms."""
    tested = {resolve(one).name for one in DIVERGENCES.values()}
    assert tested == set(BUILT_IN) == set(BUILT_IN_NAMES)


@each
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradient_is_the_derivative(name: str, temperature: float) -> None:
    """Finite differences in float64 agree with backward."""
    student, teacher, mask = pair(dtype=torch.float64)
    student = student[..., :6].clone().requires_grad_()

    def loss(logits: Tensor) -> Tensor:
        return DIVERGENCES[name](logits, teacher[..., :6], mask=mask, temperature=temperature)

    assert torch.autograd.gradcheck(loss, (student,))


@each
def test_equal_models_diverge_by_nothing(name: str) -> None:
    """Zero, within rounding, whatever constant either adds to its logits."""
    student, _, mask = pair(dtype=torch.float64)
    assert DIVERGENCES[name](student, student + 3.0, mask=mask, temperature=1.0).item() == pytest.approx(
        0, abs=1e-12
    )


@each
def test_kl_over_padding_is_not_counted(name: str) -> None:
    """Whatever stands outside the mask, NaN included, changes neither loss nor gradient."""
    student, teacher, mask = pair()
    clean = student.clone().requires_grad_()
    soiled = student.masked_fill(~mask[..., None], float("nan")).requires_grad_()
    wild = teacher.masked_fill(~mask[..., None], float("inf"))
    a = DIVERGENCES[name](clean, teacher, mask=mask, temperature=1.0)
    b = DIVERGENCES[name](soiled, wild, mask=mask, temperature=1.0)
    assert a.item() == b.item()
    (first,) = torch.autograd.grad(a, clean)
    (second,) = torch.autograd.grad(b, soiled)
    assert torch.equal(first, second)
    assert not first[~mask].any()


@each
def test_empty_mask_gives_zero_with_zero_gradient(name: str) -> None:
    """A batch of ignored positions stays attached to the graph, so several processes keep in step."""
    student, teacher, mask = pair()
    student.requires_grad_()
    loss = DIVERGENCES[name](student, teacher, mask=torch.zeros_like(mask), temperature=2.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not gradient.any()


@each
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    """The teacher is a constant, even if it asks for a gradient."""
    student, teacher, mask = pair()
    student.requires_grad_()
    teacher.requires_grad_()
    DIVERGENCES[name](student, teacher, mask=mask, temperature=1.0).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    assert teacher.grad is None


@each
def test_a_teacher_that_would_broadcast_is_refused(name: str) -> None:
    """Batch 1 or length 1 is an error, not a copy for everyone."""
    student, teacher, mask = pair()
    for small in (teacher[:1], teacher[:, :1], teacher[..., :1]):
        with pytest.raises(ShapeError, match="Nothing is broadcast"):
            DIVERGENCES[name](student, small, mask=mask, temperature=1.0)
    for short in (mask[:1], mask[:, :1], mask[..., None]):
        with pytest.raises(ShapeError, match=r"mask is \("):
            DIVERGENCES[name](student, teacher, mask=short, temperature=1.0)


@each
def test_an_integer_mask_is_refused(name: str) -> None:
    """0 and 1 would select rows 0 and 1."""
    student, teacher, mask = pair()
    with pytest.raises(TypeError, match=r"torch\.bool"):
        DIVERGENCES[name](student, teacher, mask=mask.long(), temperature=1.0)


@each
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_non_finite_logits_are_refused(name: str, bad: float, side: str) -> None:
    """The message names the side and counts the positions; minus infinity rules a token out."""
    student, teacher, _ = pair()
    (student if side == "student" else teacher)[1, 2, 3] = bad
    with pytest.raises(NonFiniteLogitsError, match=f"the {side}'s logits .* 1 of the 15 positions"):
        DIVERGENCES[name](student, teacher, mask=torch.ones(3, 5, dtype=torch.bool), temperature=1.0)


def test_finite_logits_that_overflow_are_refused() -> None:
    """A loss of infinity is never returned."""
    student = torch.tensor([[[3e38, -3e38]]])
    with pytest.raises(NonFiniteLogitsError, match="too large"):
        forward_kl(student, -student, mask=torch.ones(1, 1, dtype=torch.bool))


@each
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(name: str, temperature: float) -> None:
    """The message says what 1 does."""
    student, teacher, mask = pair()
    with pytest.raises(ValueError, match="must be positive"):
        DIVERGENCES[name](student, teacher, mask=mask, temperature=temperature)


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, float("nan")])
def test_a_beta_outside_0_to_1_is_refused(beta: float) -> None:
    """The message names the divergences that the limits are."""
    student, teacher, mask = pair()
    with pytest.raises(ValueError, match="forward_kl"):
        jensen_shannon(student, teacher, mask=mask, beta=beta)


@pytest.mark.parametrize("function", [skew_kl, skew_reverse_kl])
@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_a_skew_outside_0_to_1_is_refused(function: Callable[..., Tensor], alpha: float) -> None:
    """The message names the divergences without skew."""
    student, teacher, mask = pair()
    with pytest.raises(ValueError, match="forward_kl or reverse_kl"):
        function(student, teacher, mask=mask, alpha=alpha)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 2.0), (float("inf"), 1.0)])
def test_exponents_that_are_not_positive_are_refused(alpha: float, beta: float) -> None:
    """The message names the divergences that the limits are."""
    student, teacher, mask = pair()
    with pytest.raises(ValueError, match="forward_kl \\(1 and 0\\)"):
        alpha_beta(student, teacher, mask=mask, alpha=alpha, beta=beta)


def test_keeping_no_token_separate_is_refused() -> None:
    """``k`` counts from 1."""
    student, teacher, mask = pair()
    with pytest.raises(ValueError, match="at least 1"):
        top_k_kl(student, teacher, mask=mask, k=0)


def test_limits_and_bounds_between_divergences() -> None:
    """Exponents near their limits give the KLs, a bucket never adds, and total variation stays below 1."""
    student, teacher, mask = pair(dtype=torch.float64)
    near = alpha_beta(student, teacher, mask=mask, alpha=1.0, beta=1e-6)
    assert near.item() == pytest.approx(forward_kl(student, teacher, mask=mask).item(), rel=1e-4)
    near = alpha_beta(student, teacher, mask=mask, alpha=1e-6, beta=1.0)
    assert near.item() == pytest.approx(reverse_kl(student, teacher, mask=mask).item(), rel=1e-4)
    coarse = [top_k_kl(student, teacher, mask=mask, k=k).item() for k in (1, 3, 9, 16, 17)]
    assert coarse == pytest.approx(sorted(coarse), rel=1e-12)
    assert coarse[-1] == pytest.approx(forward_kl(student, teacher, mask=mask).item(), rel=1e-12)
    assert 0 < total_variation(student, teacher, mask=mask).item() < int(mask.sum())


# GKDTrainer.generalized_jsd_loss(..., reduction="sum") of TRL 1.16.0 on the logits of the test below, float64
TRL = [
    (0.0, 1.0, 0.31700123368803534),
    (0.0, 2.0, 0.08167606843684512),
    (0.1, 1.0, 0.028444063906355718),
    (0.1, 2.0, 0.007345462088850702),
    (0.5, 1.0, 0.07884372613752277),
    (0.5, 2.0, 0.02039407025946276),
    (0.9, 1.0, 0.028772407473446636),
    (0.9, 2.0, 0.007366919699024318),
    (1.0, 1.0, 0.3216700133215022),
    (1.0, 2.0, 0.08197583182723651),
]


@pytest.mark.parametrize(("beta", "temperature", "value"), TRL)
def test_equals_what_trl_computes(beta: float, temperature: float, value: float) -> None:
    """Its generalised Jensen-Shannon divergence, whose ends are the two KLs; neither has the squared T."""
    places = torch.arange(70, dtype=torch.float64) / 69
    student = (3 * (-2 + 5 * places).sin()).reshape(1, 10, 7)
    teacher = (2 * (1 + 8 * places).cos()).reshape(1, 10, 7)
    ends: dict[float, DivergenceFunction] = {0.0: forward_kl, 1.0: reverse_kl}
    function = ends.get(beta) or partial(jensen_shannon, beta=beta)
    mask = torch.ones(1, 10, dtype=torch.bool)
    assert function(student, teacher, mask=mask, temperature=temperature).item() == pytest.approx(
        value, rel=1e-9
    )


@each
def test_certain_and_opposite_models_stay_finite(name: str) -> None:
    """Probabilities that vanish in float32 make large losses, never NaN."""
    student = torch.full((1, 1, 5), -150.0)
    teacher = student.clone()
    student[..., 0] = teacher[..., 1] = 150.0
    student.requires_grad_()
    loss = DIVERGENCES[name](student, teacher, mask=torch.ones(1, 1, dtype=torch.bool), temperature=1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert loss.item() > 0.3


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    """Equal to the same rounded logits given in float32."""
    student, teacher, mask = pair(dtype=dtype)
    half = DIVERGENCES[name](student, teacher, mask=mask, temperature=1.0)
    full = DIVERGENCES[name](student.float(), teacher.float(), mask=mask, temperature=1.0)
    assert half.dtype == torch.float32
    assert half.item() == full.item()


@each
def test_inference_tensors_of_a_teacher_are_taken(name: str) -> None:
    """Logits made under inference mode serve a loss that is differentiated."""
    student, teacher, mask = pair()
    student.requires_grad_()
    with torch.inference_mode():
        frozen = teacher * 1
    for chosen in (mask, torch.ones_like(mask)):
        DIVERGENCES[name](student, frozen, mask=chosen, temperature=1.0).backward()  # type: ignore[no-untyped-call]  # untyped in torch


@pytest.mark.parametrize("kind", [ShapeError, NonFiniteLogitsError, VocabularyError])
def test_errors_are_built_in_ones_and_survive_pickling(kind: type[DistillError]) -> None:
    """They cross process borders whole."""
    error = pickle.loads(pickle.dumps(kind("what")))  # noqa: S301 - our own bytes
    assert isinstance(error, ValueError)
    assert isinstance(error, DistillError)
    assert str(error) == "what"
