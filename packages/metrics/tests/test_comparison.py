"""Intervals and comparisons can be trusted."""

import random
from typing import Any, get_args

import pytest

from distill_metrics import (
    EmptyTextError,
    SettingError,
    ShapeError,
    UnknownMetricError,
    compare,
    compare_log_probs,
    compare_many,
    retention,
    score,
    score_log_probs,
)
from distill_metrics.comparison import Method, _holm
from distill_metrics.names import METRIC_NAMES


def system(references: list[str], *, wrong: float, seed: int) -> list[str]:
    """The references with a share of their tokens replaced."""
    rng = random.Random(seed)
    return [" ".join("z" if rng.random() < wrong else t for t in text.split()) for text in references]


@pytest.fixture(scope="module")
def references() -> list[str]:
    """300 texts of eight tokens."""
    rng = random.Random(0)
    return [" ".join(rng.choices("abcdefgh", k=8)) for _ in range(300)]


@pytest.mark.parametrize("metric", ["per", "rougeL", "bleu", "chrf", "exact_match"])
def test_a_real_difference_is_shown_in_either_order(metric: str, references: list[str]) -> None:
    """The better system is named, error rates included, and exchanging the two turns the sign."""
    good, bad = system(references, wrong=0.1, seed=1), system(references, wrong=0.3, seed=2)
    one = compare(good, bad, references, metric=metric, names=("good", "bad"), samples=300)
    other = compare(bad, good, references, metric=metric, names=("bad", "good"), samples=300)
    assert one.better == other.better == "good"
    assert one.difference == -other.difference
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))
    assert one.p == other.p < 0.01
    assert one.statement().startswith("good is better than bad (")


def test_no_difference_is_stated_plainly(references: list[str]) -> None:
    """Two systems alike, and one with itself: better is None, and p of itself is 1."""
    one, two = system(references, wrong=0.2, seed=3), system(references, wrong=0.2, seed=4)
    alike = compare(one, two, references, metric="per", samples=500)
    assert alike.better is None
    assert alike.p > 0.05
    assert alike.interval[0] < 0 < alike.interval[1]
    assert alike.statement().startswith("No difference shown between first and second (")
    itself = compare(one, one, references, metric="bleu", samples=50)
    assert (itself.difference, itself.interval, itself.p, itself.better) == (0.0, (0.0, 0.0), 1.0, None)


def test_systems_alike_are_told_apart_no_more_often_than_promised() -> None:
    """Over 200 pairs of equal systems about 5 % are called different: at most 10 %."""
    rng = random.Random(11)
    called = 0
    for trial in range(200):
        right = ["a b c d"] * 60
        one, two = (
            [" ".join(t if rng.random() < 0.8 else "z" for t in "abcd") for _ in right] for _ in range(2)
        )
        called += compare(one, two, right, metric="wer", samples=200, seed=trial).better is not None
    assert called <= 20


def test_intervals_agree_with_the_binomial(references: list[str]) -> None:
    """Exact match of independent examples: the bootstrap interval is the normal one within half a point."""
    texts = [text if i % 4 else "wrong" for i, text in enumerate(references)]
    found = score(texts, references, metrics=["exact_match"], samples=4000)["exact_match"]
    half = 100 * 1.96 * (0.75 * 0.25 / 300) ** 0.5
    assert found.value == 75.0
    assert found.interval == pytest.approx((75 - half, 75 + half), abs=0.5)


def test_scores_are_deterministic_under_a_seed(references: list[str]) -> None:
    """Equal seeds, equal intervals; other seeds, others; all metrics at once."""
    texts = system(references, wrong=0.2, seed=5)[:40]
    one = score(texts, references[:40], metrics=METRIC_NAMES, samples=60, seed=1)
    assert one == score(texts, references[:40], metrics=METRIC_NAMES, samples=60, seed=1)
    assert one != score(texts, references[:40], metrics=METRIC_NAMES, samples=60, seed=2)
    for result in one.values():
        assert result.interval is not None
        assert result.interval[0] <= result.value <= result.interval[1]
    plain = score(texts, references[:40], metrics=["per"], interval=None)["per"].to_dict()
    assert list(plain) == ["value", "unit", "n", "signature", "interval"]
    assert plain["interval"] is None


def test_many_systems_are_compared_with_the_baseline_and_adjusted(references: list[str]) -> None:
    """P is Holm's; the baseline is the first unless named."""
    systems = {f"s{k}": system(references, wrong=0.1 * k, seed=k) for k in (1, 2, 3)}
    many = compare_many(systems, references, metric="per", samples=200)
    assert [(one.first, one.second, one.better) for one in many] == [("s2", "s1", "s1"), ("s3", "s1", "s1")]
    alone = compare(systems["s2"], systems["s1"], references, metric="per", names=("s2", "s1"), samples=200)
    assert many[0].p == pytest.approx(2 * alone.p)
    assert list(alone.to_dict()) == ["first", "second", "metric", "difference", "interval", "p", "better"]
    assert compare_many(systems, references, metric="per", baseline="s3", samples=20)[0].second == "s3"


def test_holm_is_the_published_example() -> None:
    """Step down, never decreasing, at most 1."""
    assert _holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert _holm([0.9, 0.8]) == [1.0, 1.0]


def test_comparisons_that_make_no_sense_are_refused(references: list[str]) -> None:
    """One system, no such baseline, one name twice, unknown metrics, odd numbers."""
    with pytest.raises(ShapeError, match="at least two"):
        compare_many({"a": references}, references, metric="per")
    with pytest.raises(ShapeError, match="'c' is none of the systems: a, b"):
        compare_many({"a": references, "b": references}, references, metric="per", baseline="c")
    with pytest.raises(ShapeError, match="two different names"):
        compare(references, references, references, metric="per", names=("x", "x"))
    with pytest.raises(UnknownMetricError, match="Did you mean 'chrf'"):
        compare(references, references, references, metric="chrff")
    with pytest.raises(ValueError, match="confidence of 95"):
        score(references, references, metrics=["per"], interval=95)
    with pytest.raises(SettingError, match=r"no method 'guess'\. Allowed: bootstrap, randomization"):
        compare(references, references, references, metric="per", method="guess")  # type: ignore[arg-type]  # tested
    with pytest.raises(ValueError, match="0 bootstrap samples"):
        score(references, references, metrics=["per"], samples=0)


@pytest.mark.parametrize(("wrong", "shown"), [(0.21, False), (0.3, True)])
def test_p_is_sacrebleus(references: list[str], wrong: float, shown: bool) -> None:
    """Of its randomisation test, up to the chance of the exchanges; the bootstrap says the same."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    one, two = system(references, wrong=0.2, seed=1), system(references, wrong=wrong, seed=2)
    theirs = PairedTest(
        [("two", two), ("one", one)],
        {"BLEU": BLEU(references=[references]), "chrF": CHRF(references=[references])},
        references=None,
        test_type="ar",
        n_samples=1000,
    )()[1]
    for name, key in (("bleu", "BLEU"), ("chrf", "chrF2")):
        expected: Any = theirs[key][1]
        for method in get_args(Method):
            found = compare(one, two, references, metric=name, method=method, samples=1000, seed=3)
            assert found.p == pytest.approx(expected.p_value, abs=0.05)
            assert (found.better == "first") is shown


def test_randomisation_is_exact_where_all_exchanges_can_be_counted() -> None:
    """Six examples, all won: of 64 exchanges two are as extreme, so p is 1/32, in either order."""
    right = ["a b"] * 6
    for one, two in ((right, ["z z"] * 6), (["z z"] * 6, right)):
        found = compare(one, two, right, metric="wer", method="randomization", samples=20_000, seed=1)
        assert found.p == pytest.approx(1 / 32, abs=0.005)
        assert found.p >= 1 / 32
    assert compare(right, right, right, metric="wer", method="randomization", samples=50).p == 1.0


def test_a_handful_of_examples_shows_no_difference() -> None:
    """One example, and even five, all won by far: too few to distinguish systems."""
    for n in (1, 5):
        found = compare(["a b c d"] * n, ["z"] * n, ["a b c d"] * n, metric="chrf", samples=500)
        assert found.p == 2.0 ** (1 - n)
        assert found.better is None
        assert "No difference shown" in found.statement()


def test_retention_is_the_students_share_of_the_teacher(references: list[str]) -> None:
    """With an interval by paired resampling; of error rates and of nothing it is refused."""
    student, teacher = system(references, wrong=0.3, seed=1), system(references, wrong=0.1, seed=2)
    found = retention(student, teacher, references, metric="rougeL", samples=500)
    one, two = (score(s, references, metrics=["rougeL"])["rougeL"].value for s in (student, teacher))
    assert found.value == pytest.approx(100 * one / two)
    low, high = found.interval or (0.0, 0.0)
    assert low < found.value < high < 100.0
    assert high - low < 10.0
    assert (found.unit, found.n) == ("percent", 300)
    assert "student / teacher|rougeL" in found.signature
    assert retention(teacher, teacher, references, metric="bleu", samples=50).interval == (100.0, 100.0)
    assert retention(["a"] * 2, ["a", "b"], ["a", "c"], metric="exact_match", samples=50).interval is None
    with pytest.raises(SettingError, match="wer is an error rate"):
        retention(student, teacher, references, metric="wer")
    with pytest.raises(ShapeError, match="teacher scores 0"):
        retention(student, [""] * 300, references, metric="rougeL")


def test_likelihoods_are_scored_and_compared_with_intervals() -> None:
    """Nats a token over all tokens; a paired bootstrap that knows lower is better."""
    draw = random.Random(5)
    good = [[-draw.random() for _ in range(draw.randint(1, 4))] for _ in range(80)]
    worse = [[value - 0.5 * draw.random() for value in row] for row in good]
    scored = score_log_probs(good, seed=3)
    flat = [value for row in good for value in row]
    assert scored.value == pytest.approx(-sum(flat) / len(flat))
    assert (scored.unit, scored.n) == ("nats", 80)
    assert scored.interval is not None
    assert scored.interval[0] < scored.value < scored.interval[1]
    found = compare_log_probs(good, worse, names=("good", "worse"), seed=3)
    assert found.better == "good"
    assert found.difference == pytest.approx(scored.value - score_log_probs(worse).value)
    assert found.interval[0] <= found.difference <= found.interval[1] < 0
    assert compare_log_probs(good, good, seed=3).better is None
    with pytest.raises(ShapeError, match="give those of the same tokens"):
        compare_log_probs(good, worse[1:])
    with pytest.raises(ValueError, match="it is at most 0"):
        score_log_probs([[0.5]])
    with pytest.raises(EmptyTextError, match="Example 1 has no token"):
        score_log_probs([[-0.5], []])
