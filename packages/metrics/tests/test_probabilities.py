"""Agreement, calibration, accuracy and F1: against closed forms."""

import math

import numpy as np
import pytest

from distill_metrics import (
    Agreement,
    Calibration,
    SettingError,
    ShapeError,
    accuracy,
    ece,
    entropy_gap,
    f1,
    kl,
    perplexity_from_log_probs,
    top1_agreement,
)
from distill_metrics.agreement import PlaceAgreement, ReliabilityBin


def logits(seed: int, *shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Scores that are not normalised."""
    return np.random.default_rng(seed).normal(size=shape) * 3


def test_agreement_is_the_closed_form() -> None:
    """KL and entropy in float64 from normalised probabilities; logits and log-probabilities give the same."""
    student, teacher = logits(0, 4, 5, 11), logits(1, 4, 5, 11)
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (student, teacher))
    found = kl(student, teacher)
    assert found.value == pytest.approx((q * np.log(q / p)).sum(-1).mean(), rel=1e-12)
    assert (found.unit, found.n, "teacher from student" in found.signature) == ("nats", 20, True)
    gap = (-(p * np.log(p)).sum(-1) + (q * np.log(q)).sum(-1)).mean()
    assert entropy_gap(np.log(p), np.log(q)).value == pytest.approx(gap, rel=1e-12)
    same = 100 * (student.argmax(-1) == teacher.argmax(-1)).mean()
    assert top1_agreement(student, teacher).value == pytest.approx(same)
    assert found.per_example is not None
    assert min(found.per_example) >= 0.0


def test_a_student_like_its_teacher_agrees_fully() -> None:
    """100 %, no divergence, no gap, also where a token has no probability at all."""
    scores = logits(2, 6, 7)
    scores[:, 3] = -math.inf
    assert top1_agreement(scores, scores).value == 100.0
    assert kl(scores, scores).value == 0.0
    assert entropy_gap(scores, scores).value == 0.0
    other = scores.copy()
    other[:, 3] = 0.0
    assert kl(other, scores).value > 0.0
    assert kl(scores, other).value == math.inf


def test_batches_gather_to_the_same_value_and_masked_positions_do_not_count() -> None:
    """Whatever the split; big vocabularies are worked on in parts."""
    student, teacher = logits(3, 6, 4, 9), logits(4, 6, 4, 9)
    mask = np.random.default_rng(5).random((6, 4)) < 0.6
    gathered = Agreement()
    for rows in (slice(0, 2), slice(2, 6)):
        gathered.add(student[rows], teacher[rows], mask=mask[rows])
    at_once = kl(student[mask], teacher[mask])
    assert gathered.results()["kl"].value == pytest.approx(at_once.value, rel=1e-12)
    assert gathered.results()["kl"].n == at_once.n == mask.sum()
    wide, other = logits(6, 3, 600_000), logits(7, 3, 600_000)
    assert kl(wide, other).value == pytest.approx(kl(wide[:, ::-1], other[:, ::-1]).value, rel=1e-9)


def test_calibration_is_the_papers_sum() -> None:
    """Two bins by hand; a model that is right as often as it says has 0, one that is sure and wrong 100."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.55, 0.45]])
    labels = np.array([0, 1, 0, -100])
    # In the bin (0.75, 1]: 0.85 said, 0.5 right; in (0.5, 0.75]: 0.6 said, 1 right.
    expected = 100 * (2 * abs(0.85 - 0.5) + abs(0.6 - 1.0)) / 3
    assert ece(np.log(probabilities), labels, bins=4).value == pytest.approx(expected)
    sure = np.log(np.array([[1.0, 1e-30]] * 5))
    assert ece(sure, np.ones(5, dtype=int)).value == pytest.approx(100.0)
    assert ece(sure, np.zeros(5, dtype=int)).value == pytest.approx(0.0)
    half = np.log(np.array([[0.5, 0.5]] * 2))
    assert ece(half, np.array([0, 1])).value == pytest.approx(0.0)
    with pytest.raises(ValueError, match="0 bins"):
        ece(half, np.array([0, 1]), bins=0)
    with pytest.raises(ShapeError, match="None of the 2 labels counts"):
        ece(half, np.array([-100, -100]))


def test_a_student_that_drifts_shows_it_by_place() -> None:
    """Places 0, 1, 2 to 3 and so on; whatever the batches; positions that do not count are in none."""
    student, teacher = logits(8, 3, 5, 7), logits(9, 3, 5, 7)
    places, mask = np.broadcast_to(np.arange(5), (3, 5)), np.ones((3, 5), dtype=bool)
    mask[0, 4] = False
    gathered = Agreement()
    for row in range(3):
        gathered.add(student[row], teacher[row], mask=mask[row], places=places[row])
    gathered.add(student, teacher)  # without places
    found = gathered.by_place()
    assert [(one.first, one.last, one.n) for one in found] == [(0, 0, 3), (1, 1, 3), (2, 3, 6), (4, 7, 2)]
    assert found[2].kl == pytest.approx(kl(student[:, 2:4], teacher[:, 2:4]).value, rel=1e-12)
    assert found[3].top1_agreement == top1_agreement(student[1:, 4], teacher[1:, 4]).value
    assert isinstance(found[0], PlaceAgreement)
    assert Agreement().by_place() == ()
    with pytest.raises(ShapeError, match="Places of shape"):
        gathered.add(student, teacher, places=places[0])


def test_reliability_is_what_the_calibration_error_sums() -> None:
    """Batch by batch as at once; bins without positions are left out; the bins give the error again."""
    scores, labels = logits(10, 40, 4), np.random.default_rng(11).integers(0, 4, 40)
    gathered = Calibration(10)
    for rows in (slice(0, 7), slice(7, 40)):
        gathered.add(scores[rows], labels[rows])
    bins = gathered.bins()
    error = 100 * sum(one.n * abs(one.confidence - one.accuracy) for one in bins) / 40
    assert gathered.result().value == pytest.approx(error)
    assert gathered.result().value == pytest.approx(ece(scores, labels, bins=10).value)
    assert all(one.low < one.confidence <= one.high for one in bins)
    assert sum(one.n for one in bins) == 40
    sure = Calibration(4)
    sure.add(np.log(np.array([[0.9, 0.1], [0.8, 0.2]])), np.array([0, 1]))
    (one,) = sure.bins()
    assert one == ReliabilityBin(low=0.75, high=1.0, n=2, confidence=one.confidence, accuracy=0.5)
    assert one.confidence == pytest.approx(0.85)


def test_what_cannot_agree_is_refused() -> None:
    """Other vocabularies, other masks, NaN, nothing."""
    with pytest.raises(ShapeError, match="same vocabulary"):
        kl(logits(0, 2, 5), logits(0, 2, 6))
    with pytest.raises(ShapeError, match="lack a vocabulary"):
        kl(logits(0, 5), logits(0, 5))
    with pytest.raises(ShapeError, match="A mask of int64"):
        kl(logits(0, 2, 5), logits(0, 2, 5), mask=np.array([1, 0]))
    with pytest.raises(ShapeError, match="do not fit log-probabilities"):
        kl(logits(0, 2, 5), logits(0, 2, 5), mask=np.array([True]))
    with pytest.raises(ShapeError, match="Position 1 holds NaN"):
        kl(np.array([[0.0, 1.0], [math.nan, 0.0]]), logits(0, 2, 2))
    with pytest.raises(ShapeError, match="No position"):
        kl(logits(0, 2, 5), logits(0, 2, 5), mask=np.array([False, False]))


def test_accuracy_counts_the_labels_that_count() -> None:
    """Of any shape, numbers or texts, lists of uneven rows."""
    found = accuracy(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[1, -100, 0], [4, 5, -100]]))
    assert (found.value, found.n) == (75.0, 4)
    assert found.per_example == (100.0, 0.0, 100.0, 100.0)
    assert accuracy(["yes", "no"], ["yes", "yes"]).value == 50.0
    assert accuracy([[1, 2], [3]], [[1, 2], [4]]).value == pytest.approx(100 * 2 / 3)
    assert accuracy((1, 2), (1, 2)).value == 100.0


def test_f1_is_averaged_over_labels() -> None:
    """The example of scikit-learn's documentation: macro 0.2666..., weighted the same there."""
    right, said = [0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1]
    assert f1(said, right).value == pytest.approx(100 * 0.8 / 3)
    assert f1(said, right, average="weighted").value == pytest.approx(100 * 0.8 / 3)
    assert f1(["a", "a", "b"], ["a", "a", "a"]).value == pytest.approx(100 * (0.8 + 0.0) / 2)
    assert f1(["a", "a", "b"], ["a", "a", "a"], average="weighted").value == pytest.approx(80.0)
    assert f1(right, right).value == 100.0


def test_labels_that_do_not_fit_are_refused() -> None:
    """Shapes, nothing that counts, unknown averages."""
    with pytest.raises(ShapeError, match="take the argmax"):
        accuracy(np.zeros((2, 3, 5)), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="None of the 2 labels counts"):
        f1([1, 2], [-100, -100])
    with pytest.raises(SettingError, match="Allowed: macro, weighted"):
        f1([1], [1], average="micro")  # type: ignore[arg-type]  # the mistake under test


def test_perplexity_of_known_probabilities() -> None:
    """Tokens, not texts, are averaged; the chance of one in ten is a perplexity of 10."""
    found = perplexity_from_log_probs([[math.log(0.1)] * 3, [math.log(0.4)]])
    assert found.per_example == pytest.approx((10.0, 2.5))
    assert found.value == pytest.approx(math.exp(-(3 * math.log(0.1) + math.log(0.4)) / 4))
    assert (found.tokens, found.n, found.unit, found.to_dict()["tokens"]) == (4, 2, "ratio", 4)
    assert perplexity_from_log_probs([[-1000.0]]).value == math.inf
    with pytest.raises(ValueError, match="at most 0"):
        perplexity_from_log_probs([[0.5]])
    with pytest.raises(ValueError, match="at most 0"):
        perplexity_from_log_probs([[math.nan]])
    with pytest.raises(ValueError, match="Example 1 has no token"):
        perplexity_from_log_probs([[-1.0], []])
    with pytest.raises(ShapeError, match="no examples"):
        perplexity_from_log_probs([])
