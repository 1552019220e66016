"""Figures of several systems over texts that are known."""

import random

import pytest

from distill_metrics import (
    EmptyTextError,
    SettingError,
    ShapeError,
    UnknownMetricError,
    compare,
    compare_log_probs,
    measure_systems,
    retention,
    score,
    score_log_probs,
    slice_rows,
)

REFERENCES = ["a a a a"] * 30 + ["b b b b"] * 10
SYSTEMS = {"good": ["a a a a"] * 40, "bad": ["b b b b"] * 40, "teacher": REFERENCES[:38] + ["x"] * 2}
METRICS = ("exact_match", "per")


def test_figures_are_those_of_score_compare_and_retention() -> None:
    """Value, interval and p of one call each, with the same seed, confidence and settings."""
    pair = {name: SYSTEMS[name] for name in ("good", "teacher")}
    report = measure_systems(
        pair,
        REFERENCES,
        metrics=["rougeL"],
        teacher="teacher",
        samples=200,
        seed=7,
        confidence=0.9,
        settings={"rougeL": {"tokenizer": "unicode"}},
    )
    texts, unicode = (*pair.values(), REFERENCES), {"tokenizer": "unicode"}
    assert report.scores["good"] == score(
        pair["good"],
        REFERENCES,
        metrics=["rougeL"],
        interval=0.9,
        samples=200,
        seed=7,
        settings={"rougeL": unicode},
    )
    options = {"metric": "rougeL", "samples": 200, "seed": 7, "confidence": 0.9, "settings": unicode}
    assert report.comparisons == (compare(*texts, names=("good", "teacher"), **options),)  # type: ignore[arg-type]
    assert report.retention["good"]["rougeL"] == retention(*texts, **options)  # type: ignore[arg-type]


def test_every_two_systems_are_compared_with_p_adjusted_for_all_pairs() -> None:
    """Three pairs a metric; the smallest p is three times that of the pair alone, and none gets smaller."""
    found = measure_systems(SYSTEMS, REFERENCES, metrics=METRICS).comparisons
    pairs = [(one.first, one.second) for one in found if one.metric == "exact_match"]
    assert pairs == [("good", "bad"), ("good", "teacher"), ("bad", "teacher")]
    differences = {(one.first, one.second, one.metric): one.difference for one in found}
    assert differences["good", "bad", "exact_match"] == pytest.approx(75.0 - 25.0)
    assert differences["good", "bad", "per"] == pytest.approx(25.0 - 75.0)
    assert {one.better for one in found if (one.first, one.second) == ("good", "bad")} == {"good"}
    alone = {
        pair: compare(SYSTEMS[pair[0]], SYSTEMS[pair[1]], REFERENCES, metric="exact_match", names=pair).p
        for pair in pairs
    }
    adjusted = {(one.first, one.second): one.p for one in found if one.metric == "exact_match"}
    assert min(adjusted.values()) == pytest.approx(3 * min(alone.values()))
    assert all(adjusted[pair] >= alone[pair] for pair in pairs)


def test_named_pairs_are_compared_in_the_order_of_their_names() -> None:
    """And p is adjusted for them alone; ``between`` gives one pair by metric."""
    report = measure_systems(SYSTEMS, REFERENCES, metrics=METRICS, pairs=[("bad", "good")])
    assert report.between("bad", "good").keys() == set(METRICS)
    assert report.between("good", "bad") == {}
    one = report.between("bad", "good")["per"]
    assert one == compare(SYSTEMS["bad"], SYSTEMS["good"], REFERENCES, metric="per", names=("bad", "good"))
    assert measure_systems(SYSTEMS, REFERENCES, metrics=["per"], pairs=[]).comparisons == ()


def test_a_student_keeps_a_share_of_its_teacher() -> None:
    """75 of 95 percent within its interval; nothing of an error rate; one teacher for all, or one each."""
    found = measure_systems(SYSTEMS, REFERENCES, metrics=METRICS, teacher="teacher").retention
    assert set(found) == {"good", "bad"}
    assert set(found["good"]) == {"exact_match"}
    kept = found["good"]["exact_match"]
    assert kept.value == pytest.approx(100 * 75 / 95)
    assert kept.interval is not None
    assert kept.interval[0] < kept.value < kept.interval[1]
    own = measure_systems(SYSTEMS, REFERENCES, metrics=METRICS, teacher={"bad": "good"}).retention
    assert own.keys() == {"bad"}
    assert own["bad"]["exact_match"].value == pytest.approx(100 * 25 / 75)


def test_of_a_teacher_who_scores_nothing_nothing_is_kept() -> None:
    """A score of 0 has no share; the metrics and comparisons are there all the same."""
    systems = {"good": REFERENCES, "teacher": ["x"] * 40}
    report = measure_systems(systems, REFERENCES, metrics=METRICS, teacher="teacher")
    assert report.retention == {"good": {}}
    assert report.scores["teacher"]["exact_match"].value == 0.0


def test_accuracy_of_texts_is_exact_match_under_its_other_name() -> None:
    """In scores, comparisons and retention."""
    report = measure_systems(SYSTEMS, REFERENCES, metrics=["accuracy"], teacher="teacher")
    exact = measure_systems(SYSTEMS, REFERENCES, metrics=["exact_match"], teacher="teacher")
    assert report.scores["bad"]["accuracy"] == exact.scores["bad"]["exact_match"]
    assert report.comparisons[0].metric == "accuracy"
    assert report.comparisons[0].p == exact.comparisons[0].p
    assert report.retention["bad"]["accuracy"] == exact.retention["bad"]["exact_match"]


def test_log_probs_are_scored_and_compared_as_nll() -> None:
    """As by score_log_probs and compare_log_probs; lower is better; rows are ranked by it."""
    draw = random.Random(5)
    good = [[-draw.random() for _ in range(draw.randint(1, 4))] for _ in range(40)]
    log_probs = {"good": good, "bad": [[value - 1.0 for value in row] for row in good]}
    systems = {name: SYSTEMS[name] for name in log_probs}
    report = measure_systems(systems, REFERENCES, metrics=["nll"], log_probs=log_probs, seed=3)
    assert report.scores["good"]["nll"] == score_log_probs(good, seed=3)
    assert report.comparisons == (
        compare_log_probs(good, log_probs["bad"], names=("good", "bad"), seed=3),
    )  # fmt: skip
    assert report.comparisons[0].better == "good"
    losses = [-sum(row) / len(row) for row in good]
    assert report.worst_rows(1) == (losses.index(max(losses)),)


def test_slices_have_their_own_scores_and_p_adjusted_over_slices_and_pairs() -> None:
    """Rows of "a" and rows of "b": opposite differences, each p at least twice that of the slice alone."""
    systems = {name: SYSTEMS[name] for name in ("good", "bad")}
    by = [text[0] for text in REFERENCES]
    found = measure_systems(systems, REFERENCES, metrics=["exact_match"], slices=by).slices
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


def test_slices_show_where_systems_differ() -> None:
    """Only on long texts here: the whole hides it, the slice by length shows it."""
    rng = random.Random(2)
    right = [" ".join(rng.choices("abcdefgh", k=n)) for n in [3] * 40 + [9] * 40 + [30] * 40]
    one = [text if len(text.split()) < 30 else f"{text[:-1]}z" for text in right]
    found = measure_systems(
        {"right": right, "one": one}, right, metrics=["wer", "exact_match"], slices="length", samples=300
    ).slices
    assert list(found) == ["3 to 3 words", "9 to 9 words", "30 to 30 words"]
    assert [part.between("right", "one")["wer"].better for part in found.values()] == [None, None, "right"]
    assert [part.scores["one"]["exact_match"].value for part in found.values()] == [100.0, 100.0, 0.0]
    assert sum(part.n for part in found.values()) == 120


def test_a_metric_that_a_slice_does_not_have_is_left_out_there() -> None:
    """BLEU needs four words; on all rows it is refused as by score."""
    right = ["a b c d e", "a b", "a b c d e", "a b"]
    systems = {"one": right, "other": ["a b c d"] * 4}
    found = measure_systems(
        systems, right, metrics=("bleu", "exact_match"), slices=["long", "short"] * 2
    ).slices  # fmt: skip
    assert set(found["long"].scores["one"]) == {"bleu", "exact_match"}
    assert set(found["short"].scores["one"]) == {"exact_match"}
    assert {one.metric for one in found["short"].comparisons} == {"exact_match"}
    with pytest.raises(EmptyTextError):
        measure_systems({"one": ["a"]}, ["a"], metrics=["bleu"])


@pytest.mark.parametrize(("metric", "values"), [("per", [100.0, 100.0, 25.0]), ("exact_match", [0.0] * 3)])
def test_the_worst_rows_come_first_and_of_equal_ones_those_that_others_know(
    metric: str, values: list[float]
) -> None:
    """By the first system, or a named one; rows 1 and 3 are equally wrong, but the other answers row 3."""
    right = ["a a a a", "b b b b", "a a a b", "c c c c"]
    systems = {"first": ["a a a a"] * 4, "other": ["x", "x", "x", "c c c c"]}
    report = measure_systems(systems, right, metrics=("bleu", metric))
    assert report.ranked_by == metric
    assert report.worst_rows(3) == (3, 1, 2)
    per_example = report.scores["first"][metric].per_example or ()
    assert [per_example[row] for row in report.worst_rows(3)] == values
    assert report.worst_rows(9, system="other")[-1] == 3


def test_without_a_value_a_row_nothing_is_called_the_worst() -> None:
    """BLEU is one of a whole corpus."""
    report = measure_systems({"one": REFERENCES}, REFERENCES, metrics=("bleu",))
    assert (report.worst_rows(3), report.ranked_by) == ((), None)


def test_a_report_is_plain_data() -> None:
    """Scores, comparisons, retention and slices, as their own to_dict says."""
    report = measure_systems(SYSTEMS, REFERENCES, metrics=["per"], teacher="teacher", slices="length")
    plain = report.to_dict()
    assert set(plain) == {"n", "systems", "comparisons", "retention", "slices"}
    assert plain["comparisons"] == [one.to_dict() for one in report.comparisons]
    assert set(measure_systems(SYSTEMS, REFERENCES, metrics=["per"]).to_dict()) == {
        "n",
        "systems",
        "comparisons",
    }


def test_what_is_not_among_the_systems_is_refused() -> None:
    """Pairs and teachers name systems; the error holds what was found, what is allowed and the nearest."""
    with pytest.raises(ShapeError) as caught:
        measure_systems(SYSTEMS, REFERENCES, metrics=["per"], pairs=[("good", "techer")])
    assert (caught.value.field, caught.value.found) == ("pairs", "techer")
    assert (caught.value.allowed, caught.value.suggestion) == (("good", "bad", "teacher"), "teacher")
    with pytest.raises(ShapeError) as caught:
        measure_systems(SYSTEMS, REFERENCES, metrics=["per"], teacher={"good": "xyz"})
    assert (caught.value.field, caught.value.suggestion) == ("teacher", None)
    with pytest.raises(ShapeError) as caught:
        measure_systems(SYSTEMS, REFERENCES, metrics=["per"], pairs=[("good", "good")])
    assert caught.value.field == "pairs"
    with pytest.raises(ShapeError) as caught:
        measure_systems({}, REFERENCES, metrics=["per"])
    assert caught.value.field == "predictions"


def test_what_cannot_be_measured_is_refused_before_anything_is_computed() -> None:
    """Texts that do not pair up, unknown metrics, and nll without the log-probabilities of each system."""
    with pytest.raises(ShapeError, match="39 predictions but 40 references"):
        measure_systems({"one": REFERENCES[1:]}, REFERENCES, metrics=["per"])
    with pytest.raises(UnknownMetricError):
        measure_systems(SYSTEMS, REFERENCES, metrics=["prr"])
    with pytest.raises(UnknownMetricError):
        measure_systems(SYSTEMS, REFERENCES, metrics=[])
    with pytest.raises(SettingError) as caught:
        measure_systems({"one": REFERENCES}, REFERENCES, metrics=["nll"])
    assert caught.value.field == "log_probs"
    for given in ({"one": [[-1.0]] * 39}, {"one": [[-1.0]] * 40, "other": [[-1.0, -1.0]] * 40}):
        with pytest.raises(ShapeError) as refused:
            measure_systems(dict.fromkeys(given, REFERENCES), REFERENCES, metrics=["nll"], log_probs=given)
        assert refused.value.field == "log_probs"


def test_slices_that_make_no_sense_are_refused() -> None:
    """Another number of values, and a word that is not "length"."""
    with pytest.raises(ShapeError) as caught:
        slice_rows(["a", "b"], ["x"])
    assert (caught.value.field, caught.value.found) == ("by", 1)
    with pytest.raises(SettingError) as refused:
        slice_rows(["a", "b"], "colour")
    assert (refused.value.field, refused.value.found, refused.value.allowed) == ("by", "colour", ("length",))
