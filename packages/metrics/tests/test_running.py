"""The shape of ``evaluate``, and memory that does not grow with the texts."""

import gc
import tracemalloc
from pathlib import Path

import pytest

from distill_metrics import (
    EmptyTextError,
    SettingError,
    ShapeError,
    UnknownMetricError,
    evaluate_metric,
    load_metric,
    rougeL,
)
from distill_metrics.names import METRIC_NAMES
from distill_metrics.table import METRICS

PREDICTIONS = ["the cat sat on the mat", "dogs bark loudly at night now", "a b", "one two three four"]
REFERENCES = [
    "the cat sat on a mat",
    ["dogs bark at night", "dogs bark loudly tonight now"],
    "a c",
    "one two",
]


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_batches_give_what_one_call_gives(name: str) -> None:
    """Whatever the batches, references of one or several texts; afterwards it starts again."""
    at_once = METRICS[name].function(PREDICTIONS, REFERENCES)
    running = load_metric(name)
    for _ in range(2):
        running.add(prediction=PREDICTIONS[0], reference=REFERENCES[0])
        running.add_batch(predictions=PREDICTIONS[1:3], references=REFERENCES[1:3])
        assert len(running) == 3
        running.add_batch(predictions=PREDICTIONS[3:], references=REFERENCES[3:])
        found = running.results()[name]
        assert (found.value, found.n, found.signature) == (at_once.value, 4, at_once.signature)
        assert running.compute() == {name: at_once.value}
        assert len(running) == 0


def test_a_group_a_setting_and_information_as_in_evaluate() -> None:
    """``load_metric("rouge")`` gives the four; settings are given at loading; info says what they are."""
    running = load_metric("rouge", tokenizer="unicode")
    found = running.compute(predictions=["猫 a"], references=["猫 b"])
    assert list(found) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert found["rougeL"] == rougeL(["猫 a"], ["猫 b"], tokenizer="unicode").value
    info = running.info[2]
    assert (info.name, info.unit, info.lower_is_better) == ("rougeL", "percent", False)
    assert info.settings == {"tokenizer": "unicode"}
    assert "longest common subsequence" in info.description
    assert load_metric("wer").info[0].lower_is_better
    empty = load_metric("rouge1")
    empty.add_batch(predictions=["", "a"], references=["a", "a"])
    empty.add_batch(predictions=[" "], references=["a"])
    assert empty.results()["rouge1"].empty_predictions == 2


def test_bleu_is_undefined_only_where_all_batches_are() -> None:
    """A batch of short references alone is not an error yet."""
    running = load_metric("bleu")
    running.add(prediction="a b", reference="a b")
    with pytest.raises(EmptyTextError, match="No reference has 4 tokens"):
        running.results()
    running.add(prediction="a b c d e", reference="a b c d e")
    assert running.compute()["bleu"] == pytest.approx(100.0)


def test_what_cannot_run_is_refused() -> None:
    """No example, half of one, unknown names and settings."""
    running = load_metric("per")
    with pytest.raises(ShapeError, match="No example was added"):
        running.compute()
    with pytest.raises(ShapeError, match="needed together"):
        running.compute(predictions=["a"])
    with pytest.raises(ShapeError, match="1 predictions but 2 references"):
        running.add_batch(predictions=["a"], references=["a", "b"])
    with pytest.raises(UnknownMetricError, match="Did you mean 'rougeL'"):
        load_metric("rouge_l")
    with pytest.raises(SettingError, match="no setting 'stemmer'"):
        load_metric("per", stemmer=True).add(prediction="a", reference="a")


@pytest.mark.parametrize("name", ["rougeL", "bleu", "chrf", "wer"])
def test_memory_does_not_grow_with_the_texts(name: str) -> None:
    """What 100 texts of 200 words leave behind is a few numbers each: under 400 bytes, not 2,000 and more."""

    def feed(count: int) -> None:
        for number in range(count):
            text = f"word{number:04} " * 200
            running.add(prediction=text, reference=text)

    running = load_metric(name)
    feed(5)
    gc.collect()
    tracemalloc.start()
    try:
        feed(100)
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 100 * 400


@pytest.mark.extra("bertscore")  # noqa: S610 - a marker, not a query
def test_bertscore_runs_in_batches_but_not_with_idf(encoder: Path) -> None:
    """Weights by all references need all references."""
    running = load_metric("bertscore_f1", encoder=encoder, layer=2)
    running.add(prediction="the cat", reference="the dog")
    running.add(prediction="a dog", reference="a dog")
    assert 0.0 < running.compute()["bertscore_f1"] < 100.0
    weighted = load_metric("bertscore_f1", encoder=encoder, layer=2, idf=True)
    weighted.add_batch(predictions=["the cat", "a"], references=["the cat", "dog"])
    with pytest.raises(SettingError, match="all references"):
        weighted.add(prediction="a", reference="a")


@pytest.mark.extra("evaluate")  # noqa: S610 - a marker, not a query
def test_a_real_metric_of_evaluate_needs_no_hub(tmp_path: Path) -> None:
    """Alone, in batches, with one or several references, with settings, and combined with others."""
    evaluate = pytest.importorskip("evaluate")
    metric = evaluate_metric("rougeL", cache_dir=str(tmp_path))
    assert isinstance(metric, evaluate.Metric)
    expected = rougeL(PREDICTIONS[:1], REFERENCES[:1]).value
    assert metric.compute(predictions=PREDICTIONS[:1], references=REFERENCES[:1]) == {"rougeL": expected}
    metric.add_batch(predictions=PREDICTIONS[1:2], references=REFERENCES[1:2])
    metric.add(prediction=PREDICTIONS[0], reference=[REFERENCES[0]])
    several = rougeL(PREDICTIONS[1::-1], REFERENCES[1::-1]).value
    assert metric.compute() == {"rougeL": several}
    plain = rougeL(["cats"], ["cat"], stemmer=False).value
    assert metric.compute(predictions=["cats"], references=["cat"], stemmer=False) == {"rougeL": plain}
    both = evaluate.combine([metric, evaluate_metric("wer", cache_dir=str(tmp_path))])
    found = both.compute(predictions=["a b"], references=["a c"])
    assert found == {"rougeL": 50.0, "wer": 50.0}
    assert "longest common subsequence" in metric.description
