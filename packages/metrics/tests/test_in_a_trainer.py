"""The helper inside real Trainers of transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill_metrics import HFMetricHelper, SettingError, UnknownMetricError

pytestmark = pytest.mark.extra("bertscore")  # noqa: S610 - a marker, not a query

Save = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _accelerate() -> None:
    """A Trainer is built on it."""
    pytest.importorskip("accelerate")


def rows(tokenizer: Any, texts: list[str]) -> list[dict[str, list[int]]]:
    """Tokenized texts, padded to 12, to be said again."""
    found = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        pad = 12 - len(ids)
        found.append(
            {
                "input_ids": ids + [tokenizer.pad_token_id] * pad,
                "attention_mask": [1] * len(ids) + [0] * pad,
                "labels": ids + [-100] * pad,
            }
        )
    return found


TEXTS = [
    "the cat sat on the mat",
    "a dog ran",
    "red sun is big old man saw",
    "house tree green a",
    "the sun is red",
]


def evaluated(save: Save, tmp_path: Path, helper: HFMetricHelper, tokenizer: Any, **arguments: Any) -> Any:
    """What a Trainer over a causal model says, in batches of two."""
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(save("gpt2", "AutoModelForCausalLM"))
    made: Any = transformers.Trainer  # needs torch datasets; a list is one
    trainer = made(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=2,
            report_to="none",
            use_cpu=True,
            **arguments,
        ),
        eval_dataset=rows(tokenizer, TEXTS),
        compute_metrics=helper,
        preprocess_logits_for_metrics=None if arguments else helper.preprocess_logits,
    )
    return trainer.evaluate()


def test_batch_eval_metrics_gives_the_same_and_keeps_no_logits(save: Save, tmp_path: Path) -> None:
    """Of five texts in batches of two; between batches the helper holds texts and ids only."""
    import transformers

    made: Any = transformers.AutoTokenizer
    tokenizer = made.from_pretrained(save("gpt2", "AutoModelForCausalLM"))
    kept: list[object] = []

    class Watched(HFMetricHelper):
        def __call__(self, eval_pred: object, *, compute_result: bool = True) -> dict[str, float]:
            found = super().__call__(eval_pred, compute_result=compute_result)
            kept.append((compute_result, list(self._predictions), list(self._labels)))
            return found

    whole = evaluated(
        save, tmp_path, HFMetricHelper(tokenizer, ["chrf", "accuracy"], task="causal"), tokenizer
    )
    watched = Watched(tokenizer, ["chrf", "accuracy"], task="causal")
    batched = evaluated(save, tmp_path, watched, tokenizer, batch_eval_metrics=True)
    for name in ("eval_chrf", "eval_accuracy"):
        assert batched[name] == whole[name]
    assert [entry[0] for entry in kept if isinstance(entry, tuple)] == [False, False, True]
    first = kept[0]
    assert isinstance(first, tuple)
    assert [type(text) for text in first[1]] == [str, str]
    assert all(ids.ndim == 1 for pair in first[2] for ids in pair)
    assert kept[-1] == (True, [], [])


def test_generated_ids_of_a_seq2seq_trainer_are_scored(save: Save, tmp_path: Path) -> None:
    """With predict_with_generate; the same object scores the texts themselves."""
    import transformers

    folder = save("t5", "AutoModelForSeq2SeqLM")
    made: Any = transformers.AutoTokenizer
    tokenizer = made.from_pretrained(folder)
    helper = HFMetricHelper(tokenizer, ["chrf", "wer"])
    arguments: Any = transformers.Seq2SeqTrainingArguments
    model: Any = transformers.AutoModelForSeq2SeqLM
    trainers: Any = transformers.Seq2SeqTrainer
    trainer = trainers(
        model=model.from_pretrained(folder),
        args=arguments(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=2,
            predict_with_generate=True,
            generation_max_length=9,
            report_to="none",
            use_cpu=True,
        ),
        eval_dataset=rows(tokenizer, TEXTS),
        compute_metrics=helper,
    )
    done = trainer.predict(rows(tokenizer, TEXTS))
    assert done.predictions.shape[0] == 5
    ids = [[int(i) for i in row if i >= 0] for row in done.predictions]
    texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    expected = helper.score(texts, TEXTS)
    assert {name: done.metrics[f"test_{name}"] for name in ("chrf", "wer")} == expected


def test_an_encoder_adds_bertscore_to_the_default(encoder: Path, tmp_path: Path) -> None:
    """Loaded when the helper is made, so that a mistake shows before training."""
    import transformers

    made: Any = transformers.AutoTokenizer
    tokenizer = made.from_pretrained(encoder)
    settings = {"bertscore_f1": {"layer": 2}}
    helper = HFMetricHelper(tokenizer, encoder=encoder, settings=settings)
    ids = np.array(tokenizer(["the cat sat on the mat"])["input_ids"])
    found = helper((ids, ids))
    assert list(found) == ["rouge1", "rouge2", "rougeL", "bleu", "bertscore_f1"]
    assert found["bertscore_f1"] == 100.0
    named = HFMetricHelper(
        tokenizer, ["bertscore_recall"], settings={"bertscore_recall": {"encoder": encoder, "layer": 1}}
    )
    assert named((ids, ids)) == {"bertscore_recall": 100.0}
    with pytest.raises(SettingError, match="bertscore_f1 needs an encoder"):
        HFMetricHelper(tokenizer, ["bertscore_f1"])
    with pytest.raises(SettingError, match="There is no folder"):
        HFMetricHelper(tokenizer, encoder=tmp_path / "none", settings=settings)
    with pytest.raises(UnknownMetricError, match="Did you mean 'bertscore_f1'"):
        HFMetricHelper(tokenizer, ["bertscore"])
