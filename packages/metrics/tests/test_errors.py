"""Errors carry what was wrong as data, so that nobody reads their English."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest

from distill_metrics import (
    Calibration,
    EmptyTextError,
    HFMetricHelper,
    MetricError,
    SettingError,
    ShapeError,
    TextTypeError,
    UnknownMetricError,
    accuracy,
    bleu,
    chrf,
    compare,
    compare_many,
    ece,
    exact_match,
    f1,
    kl,
    perplexity_from_log_probs,
    rougeL,
    score,
    score_log_probs,
    top1_agreement,
)

ONE = ["a b c d"]
LOGITS = np.zeros((1, 2, 3))

CASES: list[tuple[Callable[[], object], type[MetricError], str, object, object]] = [
    (lambda: score(ONE, ONE, metrics=["blue"]), UnknownMetricError, "metrics", "blue", "bleu"),
    (lambda: score(ONE, ONE, metrics=["per"], samples=0), SettingError, "samples", 0, 2000),
    (lambda: score(ONE, ONE, metrics=["per"], interval=95.0), SettingError, "interval", 95.0, 0.95),
    (
        lambda: score(ONE, ONE, metrics=["bleu"], settings={"bleu": {"lowercse": True}}),
        SettingError,
        "settings.bleu.lowercse",
        "lowercse",
        "lowercase",
    ),
    (
        lambda: compare(ONE, ONE, ONE, metric="per", method="bootstrp"),  # type: ignore[arg-type] # refused
        SettingError,
        "method",
        "bootstrp",
        "bootstrap",
    ),
    (lambda: compare(ONE, ONE, ONE, metric="per", names=("a", "a")), ShapeError, "names", ("a", "a"), None),
    (
        lambda: compare_many({"one": ONE, "two": ONE}, ONE, metric="per", baseline="tow"),
        ShapeError,
        "baseline",
        "tow",
        "two",
    ),
    (lambda: score(ONE, [*ONE, *ONE], metrics=["per"]), ShapeError, "predictions", 1, None),
    (lambda: score("a", ONE, metrics=["per"]), TextTypeError, "predictions", "a", None),
    (lambda: score(ONE, [5], metrics=["per"]), TextTypeError, "references", 5, None),  # type: ignore[list-item]
    (lambda: rougeL(ONE, ["猫"]), EmptyTextError, "references", "猫", None),
    (lambda: bleu(ONE, ["a"]), EmptyTextError, "references", None, None),
    (lambda: bleu(ONE, ONE, tokenize="no"), SettingError, "tokenize", "no", "13a"),
    (lambda: chrf(ONE, ONE, word_order=-1), SettingError, "word_order", -1, 0),
    (lambda: exact_match(ONE, ONE, normalize="no"), SettingError, "normalize", "no", "blanks"),  # type: ignore[arg-type]
    (lambda: f1([1], [1], average="no"), SettingError, "average", "no", "macro"),  # type: ignore[arg-type]
    (lambda: accuracy([1, 2], [1]), ShapeError, "predictions", (2,), None),
    (lambda: kl(LOGITS, LOGITS[:, :1]), ShapeError, "student", (1, 2, 3), None),
    (lambda: top1_agreement(LOGITS, LOGITS, mask=np.ones((1, 2))), ShapeError, "mask", "float64", None),
    (lambda: ece(LOGITS, np.full((1, 2), -100)), ShapeError, "labels", None, None),
    (lambda: Calibration(0), SettingError, "bins", 0, 15),
    (lambda: score_log_probs([[0.5]]), SettingError, "log_probs", 0.5, None),
    (lambda: perplexity_from_log_probs([[0.5]]), SettingError, "log_probs", 0.5, None),
    (lambda: HFMetricHelper(None, metrics=["bertscore_f1"]), SettingError, "encoder", None, None),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "kind", "field", "found", "suggestion"), CASES)
def test_an_error_names_the_argument_what_was_found_and_what_would_do(
    call: Callable[[], object], kind: type[MetricError], field: str, found: object, suggestion: object
) -> None:
    """And a suggestion that can be listed is one of what is allowed."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert (error.field, error.found, error.suggestion) == (field, found, suggestion)
    assert suggestion is None or not error.allowed or suggestion in error.allowed
    assert isinstance(error, ValueError | TypeError)


def test_an_error_travels_between_processes_with_its_data() -> None:
    """Message and data survive pickling."""
    error = SettingError("no", field="samples", found=0, allowed=[1, 2], suggestion=1)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(copy), vars(copy)) == ("no", vars(error))
    assert copy.allowed == (1, 2)
    assert vars(MetricError()) == {"field": None, "found": None, "allowed": (), "suggestion": None}
