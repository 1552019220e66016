"""Figures of several systems over texts that are known."""

import pytest

from distill_app_evaluator.examples import Examples
from distill_app_evaluator.measuring import Measured, measure
from distill_metrics import compare

RIGHT = ["a a a a"] * 30 + ["b b b b"] * 10
SAID = {"good": ["a a a a"] * 40, "bad": ["b b b b"] * 40, "teacher": RIGHT[:38] + ["x"] * 2}


def measured(said: dict[str, list[str]], right: list[str] = RIGHT, **wanted: object) -> Measured:
    """With the parts that are asked for."""
    parts: dict[str, list[int]] = wanted.pop("parts", {})  # type: ignore[assignment] # of the tests below
    metrics = wanted.pop("metrics", ("exact_match", "per"))
    examples = Examples(inputs=[f"input {i}" for i in range(len(right))], references=right, parts=parts)
    return measure(said, examples, metrics, **wanted)  # type: ignore[arg-type] # as given there


def test_every_two_systems_are_compared_with_p_adjusted_for_all_pairs() -> None:
    """Three pairs a metric; the smallest p is three times that of the pair alone, and none gets smaller."""
    found = measured(SAID).whole.comparisons
    pairs = [(one.first, one.second) for one in found if one.metric == "exact_match"]
    assert pairs == [("good", "bad"), ("good", "teacher"), ("bad", "teacher")]
    differences = {(one.first, one.second, one.metric): one.difference for one in found}
    assert differences["good", "bad", "exact_match"] == pytest.approx(75.0 - 25.0)
    assert differences["good", "bad", "per"] == pytest.approx(25.0 - 75.0)
    assert {one.better for one in found if (one.first, one.second) == ("good", "bad")} == {"good"}
    alone = {
        pair: compare(SAID[pair[0]], SAID[pair[1]], RIGHT, metric="exact_match", names=pair).p
        for pair in pairs
    }
    adjusted = {(one.first, one.second): one.p for one in found if one.metric == "exact_match"}
    assert min(adjusted.values()) == pytest.approx(3 * min(alone.values()))
    assert all(adjusted[pair] >= alone[pair] for pair in pairs)


def test_a_model_is_told_what_it_keeps_of_its_teacher() -> None:
    """75 of 95 percent with an interval around it; nothing for an error rate nor for the teacher."""
    found = measured(SAID, teacher="teacher").retention
    assert set(found) == {"good", "bad"}
    assert set(found["good"]) == {"exact_match"}
    kept = found["good"]["exact_match"]
    assert kept.value == pytest.approx(100 * 75 / 95)
    assert kept.interval is not None
    assert kept.interval[0] < kept.value < kept.interval[1]


def test_of_a_teacher_who_knows_nothing_nothing_is_kept() -> None:
    """A score of 0 has no share; the metrics and comparisons are there all the same."""
    found = measured({"good": RIGHT, "teacher": ["x"] * 40}, teacher="teacher")
    assert found.retention == {"good": {}}
    assert found.whole.scores["teacher"]["exact_match"].value == 0.0


def test_parts_have_their_own_scores_and_p_adjusted_over_parts_and_pairs() -> None:
    """Rows of "a" and rows of "b": opposite differences, each p at least twice that of the part alone."""
    rows = {"a": list(range(30)), "b": list(range(30, 40))}
    said = {name: SAID[name] for name in ("good", "bad")}
    found = measured(said, parts=rows, metrics=("exact_match",)).parts
    assert [(label, part.n) for label, part in found.items()] == [("a", 30), ("b", 10)]
    assert found["a"].scores["good"]["exact_match"].value == 100.0
    assert found["b"].scores["good"]["exact_match"].value == 0.0
    (first,), (second,) = (part.comparisons for part in found.values())
    assert (first.difference, second.difference) == (100.0, -100.0)
    alone = compare(["a"] * 10, ["b"] * 10, ["b"] * 10, metric="exact_match").p
    assert second.p >= alone
    assert first.p == pytest.approx(
        2 * compare(["a"] * 30, ["b"] * 30, ["a"] * 30, metric="exact_match").p, rel=1e-6
    )


def test_a_metric_that_a_part_does_not_have_is_left_out_there() -> None:
    """BLEU needs four words."""
    right = ["a b c d e", "a b", "a b c d e", "a b"]
    said = {"one": right, "other": ["a b c d"] * 4}
    found = measured(said, right, metrics=("bleu", "exact_match"), parts={"long": [0, 2], "short": [1, 3]})
    assert set(found.parts["long"].scores["one"]) == {"bleu", "exact_match"}
    assert set(found.parts["short"].scores["one"]) == {"exact_match"}
    assert {one.metric for one in found.parts["short"].comparisons} == {"exact_match"}


@pytest.mark.parametrize(("metric", "values"), [("per", [100.0, 100.0, 25.0]), ("exact_match", [0.0] * 3)])
def test_the_worst_rows_come_first_and_of_equal_ones_those_that_others_know(
    metric: str, values: list[float]
) -> None:
    """By the first system; rows 1 and 3 are equally wrong, but the other system answers row 3."""
    right = ["a a a a", "b b b b", "a a a b", "c c c c"]
    said = {"first": ["a a a a"] * 4, "other": ["x", "x", "x", "c c c c"]}
    found = measured(said, right, metrics=(metric,), samples=3)
    assert found.ranked_by == metric
    assert [sample.id for sample in found.samples] == [3, 1, 2]
    assert [sample.values["first"] for sample in found.samples] == values
    worst = found.samples[0]
    assert (worst.input, worst.reference) == ("input 3", "c c c c")
    assert worst.answers == {"first": "a a a a", "other": "c c c c"}


def test_without_a_value_a_row_nothing_is_called_the_worst() -> None:
    """BLEU is one of a whole corpus."""
    found = measured({"one": RIGHT}, metrics=("bleu",), samples=3)
    assert (found.samples, found.ranked_by) == ((), None)
