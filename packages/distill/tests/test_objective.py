"""The objective aligns, weighs, softens and divides as it says."""

import pytest
import torch
from torch import Tensor

from distill_adapters import Task
from distill_kd import DenseTarget, NonFiniteLogitsError, Objective, ShapeError, forward_kl, reverse_kl

TASKS: tuple[Task, ...] = ("causal", "seq2seq", "masked")
every_task = pytest.mark.parametrize("task", TASKS)
EOS = PAD = 0


def batch(
    *, rows: int = 4, length: int = 6, vocab: int = 11, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Student logits, teacher logits and labels; row ``i`` has ``i`` ignored positions at its end."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, rows, length, vocab, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, vocab, (rows, length), generator=generator)
    for i in range(1, rows):
        labels[i, -i:] = -100
    return student.to(dtype), teacher.to(dtype), labels


def by_hand(
    task: Task, student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float
) -> tuple[float, float, int]:
    """Cross-entropy, softened forward KL with its square, and tokens: position by position, in float64."""
    ce, kd, tokens = 0.0, 0.0, 0
    offset = 1 if task == "causal" else 0
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1] - offset):
            label = int(labels[i, j + offset])
            if label == -100:
                continue
            s, t = student[i, j].double(), teacher[i, j].double()
            ce += float(s.logsumexp(0) - s[label])
            p, q = (t / temperature).softmax(0), (s / temperature).softmax(0)
            kd += temperature**2 * float((p * (p.log() - q.log())).sum())
            tokens += 1
    return ce, kd, tokens


@every_task
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_equals_the_sum_by_hand(task: Task, temperature: float, weight: float) -> None:
    """Every family meets its labels where it should, and the loss is divided once by ``num_items``."""
    student, teacher, labels = batch()
    ce, kd, tokens = by_hand(task, student, teacher, labels, temperature=temperature)
    objective = Objective(task, kd_weight=weight, temperature=temperature)
    parts = objective(student, DenseTarget(teacher), labels, num_items=50)
    assert parts.tokens == tokens == objective.count_tokens(labels)
    assert parts.ce.item() == pytest.approx(ce / 50, rel=1e-12)
    assert parts.kd.item() == pytest.approx(kd / 50, rel=1e-12)
    assert parts.total.item() == pytest.approx(((1 - weight) * ce + weight * kd) / 50, rel=1e-12)
    narrow = objective(student.float(), DenseTarget(teacher.float()), labels, num_items=50)
    assert narrow.total.item() == pytest.approx(parts.total.item(), rel=1e-6)


@every_task
def test_cross_entropy_alone_is_what_transformers_computes(task: Task) -> None:
    """Weight 0 equals the library's own loss for the family, label smoothing aside."""
    from transformers.loss.loss_utils import ForCausalLMLoss, ForMaskedLMLoss

    student, teacher, labels = batch(dtype=torch.float32)
    objective = Objective(task, kd_weight=0.0)
    tokens = objective.count_tokens(labels)
    parts = objective(student, DenseTarget(teacher), labels, num_items=tokens)
    library = ForCausalLMLoss if task == "causal" else ForMaskedLMLoss
    expected = library(student, labels, vocab_size=11, num_items_in_batch=torch.tensor(tokens))
    assert parts.total.item() == pytest.approx(float(expected), rel=1e-6)


@every_task
def test_denominator_under_accumulation_is_the_effective_batch(task: Task) -> None:
    """Micro-batches of unequal token counts add up to the loss and gradient of the whole batch."""
    student, teacher, labels = batch()
    objective = Objective(task, temperature=2.0)
    tokens = objective.count_tokens(labels)
    assert tokens == objective.count_tokens(torch.split(labels, 1))
    student.requires_grad_()
    whole = objective(student, DenseTarget(teacher), labels, num_items=tokens).total
    (whole_gradient,) = torch.autograd.grad(whole, student)
    pieces = [
        objective(s, DenseTarget(t), y, num_items=torch.tensor(tokens)).total
        for s, t, y in zip(
            torch.split(student, 1), torch.split(teacher, 1), torch.split(labels, 1), strict=True
        )
    ]
    (pieces_gradient,) = torch.autograd.grad(torch.stack(pieces).sum(), student)
    assert torch.stack(pieces).sum().item() == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(pieces_gradient, whole_gradient, rtol=1e-12, atol=1e-12)


@every_task
def test_padding_length_changes_nothing(task: Task) -> None:
    """Ten more columns of padding, with NaN in them, leave the loss as it was."""
    student, teacher, labels = batch()
    objective = Objective(task)
    tokens = objective.count_tokens(labels)
    before = objective(student, DenseTarget(teacher), labels, num_items=tokens)
    nan = torch.full((4, 10, 11), float("nan"), dtype=student.dtype)
    longer = torch.cat([labels, torch.full((4, 10), -100)], 1)
    if task == "causal":  # its last logit predicts nothing, so it may be anything
        student = student.clone()
        student[:, -1] = float("nan")
    after = objective(
        torch.cat([student, nan], 1), DenseTarget(torch.cat([teacher, nan], 1)), longer, num_items=tokens
    )
    assert after.tokens == before.tokens
    assert after.total.item() == before.total.item()


@every_task
def test_eos_is_kept_when_pad_equals_eos(task: Task) -> None:
    """A label that is the padding id counts: only -100 is ignored."""
    student, teacher, _ = batch(rows=1)
    labels = torch.tensor([[5, 4, 3, EOS, -100, -100]])
    objective = Objective(task)
    with_eos = objective(student, DenseTarget(teacher), labels, num_items=10)
    labels[0, 3] = -100
    without = objective(student, DenseTarget(teacher), labels, num_items=10)
    assert with_eos.tokens == without.tokens + 1
    assert with_eos.total.item() > without.total.item()


def test_temperature_squared_is_not_forgotten() -> None:
    """The divergence part is T^2 times the pure divergence at T, so its gradient keeps its size."""
    student, teacher, labels = batch(rows=1)
    mask = labels != -100
    for temperature in (1.0, 4.0):
        parts = Objective("masked", temperature=temperature)(
            student, DenseTarget(teacher), labels, num_items=6
        )
        pure = forward_kl(student, teacher, mask=mask, temperature=temperature)
        assert parts.kd.item() == pytest.approx(temperature**2 * pure.item() / 6, rel=1e-12)


@every_task
def test_a_batch_without_labels_gives_zero_with_zero_gradient(task: Task) -> None:
    """Not NaN, and not detached: other processes may have tokens."""
    student, teacher, labels = batch()
    student.requires_grad_()
    parts = Objective(task)(student, DenseTarget(teacher), torch.full_like(labels, -100), num_items=0)
    (gradient,) = torch.autograd.grad(parts.total, student)
    assert (parts.total.item(), parts.ce.item(), parts.kd.item(), parts.tokens) == (0, 0, 0, 0)
    assert not gradient.any()


@every_task
def test_a_teacher_that_would_broadcast_is_refused(task: Task) -> None:
    """Batch 1 or length 1 is an error, not a copy for everyone."""
    student, teacher, labels = batch()
    for small in (teacher[:1], teacher[:, :1]):
        with pytest.raises(ShapeError, match="nothing is broadcast"):
            Objective(task)(student, DenseTarget(small), labels, num_items=99)
    with pytest.raises(ShapeError, match="labels are"):
        Objective(task)(student, DenseTarget(teacher), labels[:1], num_items=99)


def test_num_items_below_the_batch_is_refused() -> None:
    """A per-batch mean passed as the denominator is noticed."""
    student, teacher, labels = batch()
    with pytest.raises(ValueError, match="num_items = 1, but this batch alone holds"):
        Objective("seq2seq")(student, DenseTarget(teacher), labels, num_items=1)


def test_padded_vocabulary_is_left_out_of_the_divergence() -> None:
    """Logits beyond the shared tokens have no effect on it, whichever model has them."""
    student, teacher, labels = batch()
    plain = Objective("causal")(student, DenseTarget(teacher), labels, num_items=30)
    more = torch.full((4, 6, 5), 9.0, dtype=student.dtype)
    wide = torch.cat([teacher, more], -1)
    with pytest.raises(ShapeError, match="the student scores 11 tokens and the teacher 16"):
        Objective("causal")(student, DenseTarget(wide), labels, num_items=30)
    trimming = Objective("causal", vocab_size=11)
    assert trimming(student, DenseTarget(wide), labels, num_items=30).total.item() == plain.total.item()
    both = trimming(torch.cat([student, more], -1), DenseTarget(wide), labels, num_items=30)
    assert both.kd.item() == plain.kd.item()
    assert both.ce.item() > plain.ce.item()
    with pytest.raises(ShapeError, match="vocab_size = 12 tokens are shared"):
        Objective("causal", vocab_size=12)(student, DenseTarget(teacher), labels, num_items=30)


def test_non_finite_student_is_refused_beyond_the_shared_vocabulary_too() -> None:
    """The cross-entropy sees what the divergence does not."""
    student, teacher, labels = batch()
    student[0, 1, 10] = float("nan")
    with pytest.raises(NonFiniteLogitsError, match="the student's logits hold NaN"):
        Objective("masked", vocab_size=10)(student, DenseTarget(teacher), labels % 10, num_items=30)
    with pytest.raises(NonFiniteLogitsError, match="the student's logits"):
        Objective("masked")(student, DenseTarget(teacher), labels, num_items=30)


def test_a_divergence_of_ones_own_is_called_with_selected_positions() -> None:
    """A callable with the signature of ``forward_kl`` gets ``(1, valid, vocab)`` logits and a full mask."""
    student, teacher, labels = batch()
    seen: list[tuple[int, ...]] = []

    def own(s: Tensor, t: Tensor, /, *, mask: Tensor, temperature: float) -> Tensor:
        seen.append((*s.shape, *t.shape, int(mask.sum())))
        return reverse_kl(s, t, mask=mask, temperature=temperature)

    mine = Objective("masked", divergence=own)(student, DenseTarget(teacher), labels, num_items=30)
    named = Objective("masked", divergence="reverse_kl")(student, DenseTarget(teacher), labels, num_items=30)
    assert seen == [(1, 18, 11, 1, 18, 11, 18)]
    assert mine.total.item() == named.total.item()


def test_label_smoothing_touches_the_cross_entropy_only() -> None:
    """Equal to torch's own, and the divergence stays."""
    student, teacher, labels = batch()
    plain = Objective("masked")(student, DenseTarget(teacher), labels, num_items=18)
    smooth = Objective("masked", label_smoothing=0.1)(student, DenseTarget(teacher), labels, num_items=18)
    expected = torch.nn.functional.cross_entropy(student.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    assert smooth.ce.item() == pytest.approx(expected.item(), rel=1e-12)
    assert smooth.kd.item() == plain.kd.item()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kd_weight": 1.5}, "0 to 1"),
        ({"kd_weight": -0.1}, "0 to 1"),
        ({"temperature": 0.0}, "must be positive"),
        ({"divergence": "forward_lk"}, "Did you mean forward_kl"),
        ({"vocab_size": 0}, "at least 1"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_values_outside_their_range_are_refused(arguments: dict[str, float | str], message: str) -> None:
    """At construction, before any batch is seen."""
    with pytest.raises(ValueError, match=message):
        Objective("causal", **arguments)  # type: ignore[arg-type]  # one wrong value at a time


def test_an_unknown_task_is_refused() -> None:
    """The message lists the three."""
    with pytest.raises(ValueError, match="causal, seq2seq, masked"):
        Objective("seq2seq_lm")  # type: ignore[arg-type]  # the point
