"""HFMetricHelper scores what a Trainer hands over."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from distill_metrics import (
    EmptyPredictionsWarning,
    EmptyTextError,
    HFMetricHelper,
    ShapeError,
    UnknownMetricError,
)
from distill_metrics.trainer import OwnMetric

VOCABULARY = ["</s>", "<pad>", *"abcdefgh"]


class Prediction(NamedTuple):
    """The shape of ``transformers.EvalPrediction``."""

    predictions: object
    label_ids: object


class LetterTokenizer:
    """Letters as tokens, with the three things that the helper asks of a tokenizer."""

    pad_token_id: int | None = 1

    def __len__(self) -> int:
        """Size of the vocabulary."""
        return len(VOCABULARY)

    def batch_decode(self, sequences: list[list[int]], *, skip_special_tokens: bool) -> Sequence[str]:
        """Blank-joined letters."""
        return [" ".join(VOCABULARY[i] for i in row if i > 1 or not skip_special_tokens) for row in sequences]


LABELS = np.array([[2, 3, 4, 5, 0, -100], [6, 7, 8, 9, 2, 0]])


def helper(metrics: Sequence[str | OwnMetric] | None = None) -> HFMetricHelper:
    """A helper over letters."""
    return HFMetricHelper(LetterTokenizer(), metrics)


def test_ids_score_in_percent_rounded_to_four_digits() -> None:
    """Generated ids of another width than the labels, padded with pad or -100; one of five wrong."""
    ids = np.array([[2, 3, 4, 5, 0, 1, 1, -100], [6, 7, 8, 9, 3, 0, 1, 1]])
    found = helper(["per", "exact_match"]).compute(Prediction(ids, LABELS))
    assert found == {"per": round(100 / 9, 4), "exact_match": 50.0}
    assert helper(["per"])((ids, LABELS)) == {"per": round(100 / 9, 4)}


def test_the_default_metrics_are_rouge_and_bleu() -> None:
    """As the original's, without the one that needs an encoder."""
    assert helper()((LABELS, LABELS)).keys() == {"rouge1", "rouge2", "rougeL", "bleu"}


def test_what_the_default_leaves_out_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """With how to add it; not where metrics are named, nor at each evaluation."""
    one = helper()
    assert "bertscore_f1 is left out" in caplog.text
    assert "HFMetricHelper(tokenizer, encoder=FOLDER) adds it" in caplog.text
    caplog.clear()
    one((LABELS, LABELS))
    helper(["per"])((LABELS, LABELS))
    assert caplog.text == ""


def test_accuracy_and_f1_are_of_the_tokens_at_the_labels() -> None:
    """A masked model: logits of every position, labels of a few; batch by batch the same."""
    logits = np.eye(len(VOCABULARY))[np.array([[2, 3, 4, 5, 6, 9], [6, 7, 8, 9, 2, 2]])]
    labels = np.array([[-100, 3, -100, 4, -100, -100], [6, -100, -100, -100, -100, 2]])
    one = HFMetricHelper(LetterTokenizer(), ["accuracy", "f1"], task="masked")
    expected = {"accuracy": 75.0, "f1": round(100 * 3 / 5, 4)}
    assert one((logits, labels)) == expected
    assert one((logits[:1], labels[:1]), compute_result=False) == {}
    assert one((logits[1:], labels[1:])) == expected
    with pytest.raises(ShapeError, match="compare a token a label"):
        one((LABELS[:, :4], LABELS))


def test_a_metric_of_ones_own_is_a_function() -> None:
    """Its value stands under its name, beside the others or alone; texts come as they are."""

    def shortest(predictions: Sequence[str], references: Sequence[object]) -> float:
        assert list(references) == ["a b c d", "e f g h a"]
        return min(len(text) for text in predictions) / 3

    assert helper([shortest])((LABELS, LABELS)) == {"shortest": round(7 / 3, 4)}
    assert helper(["per", shortest])((LABELS, LABELS)) == {"per": 0.0, "shortest": round(7 / 3, 4)}


def test_logits_count_where_labels_do() -> None:
    """A tuple of logits and hidden states; what is said at -100 is not scored."""
    logits = np.eye(len(VOCABULARY))[np.where(LABELS == -100, 9, LABELS)]
    assert helper(["exact_match"])(((logits, "hidden"), LABELS)) == {"exact_match": 100.0}


def test_causal_logits_speak_about_the_next_token() -> None:
    """Moved by one as the loss moves them; the prompt, -100, is not scored."""
    labels = np.array([[-100, -100, 2, 3, 4, 5]])
    logits = np.eye(len(VOCABULARY))[np.array([[9, 2, 3, 4, 5, 9]])]
    causal = HFMetricHelper(LetterTokenizer(), ["exact_match"], task="causal")
    assert causal((logits, labels)) == {"exact_match": 100.0}
    ids = causal.preprocess_logits(logits, labels)
    assert isinstance(ids, np.ndarray)
    assert ids.tolist() == [[-100, -100, 2, 3, 4, 5]]
    assert causal((ids, labels)) == {"exact_match": 100.0}


def test_batches_are_gathered_and_forgotten() -> None:
    """``batch_eval_metrics``: batches of any width give what one evaluation gives, again and again."""
    one = helper(["per"])
    for _ in range(2):
        assert one(Prediction(LABELS[:1, :5], LABELS[:1]), compute_result=False) == {}
        assert one(Prediction([[6, 7], [2]], [[6, 7, -100], [3, 0, -100]]), compute_result=True) == {
            "per": round(100 / 7, 4)
        }


def test_ids_outside_the_vocabulary_are_taken_as_padding(caplog: pytest.LogCaptureFixture) -> None:
    """Counted in the log, not dropped in silence."""
    ids = np.array([[2, 3, 4, 5, 500, -7], [6, 7, 8, 9, 2, 0]])
    assert helper(["exact_match"])((ids, LABELS)) == {"exact_match": 100.0}
    assert "2 ids outside the vocabulary of 10" in caplog.text


def test_a_model_that_says_nothing_scores_0_with_a_warning() -> None:
    """An early checkpoint may; training goes on."""
    with pytest.warns(EmptyPredictionsWarning, match="All 2 predictions are empty"):
        found = helper()((np.ones_like(LABELS), LABELS))
    assert set(found.values()) == {0.0}


def test_a_default_metric_that_cannot_be_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Labels of two tokens have no BLEU: left out with a warning by default, refused when it was named."""
    short = np.array([[2, 3]])
    assert helper()((short, short)).keys() == {"rouge1", "rouge2", "rougeL"}
    assert "bleu is left out" in caplog.text
    with pytest.raises(EmptyTextError, match="No reference has 4 tokens"):
        helper(["bleu"])((short, short))


def test_what_does_not_fit_is_refused() -> None:
    """Shapes, missing labels, unknown metrics."""
    with pytest.raises(ShapeError, match="one of them is None"):
        helper()(Prediction(LABELS, None))
    with pytest.raises(ShapeError, match="same number of rows"):
        helper()((LABELS[:1], LABELS))
    with pytest.raises(ShapeError, match="do not fit labels"):
        helper()((np.zeros((2, 3, 10)), LABELS))
    with pytest.raises(UnknownMetricError, match="Did you mean 'bleu'"):
        helper(["belu"])
