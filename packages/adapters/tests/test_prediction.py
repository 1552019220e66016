"""predict says what transformers says, in order, whatever the batches."""

import math
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from distill_adapters import (
    ConfigError,
    DecodingConfig,
    Task,
    decoder_inputs,
    forced_log_probs,
    mask_log_probs,
    predict,
)

TEXTS = ["w1 w2", "w3", "w4 w5 w6 w7", "w2 w2 w2", "w9 w1"]
MASKED = ["w1 <mask> w3", "w2", "<mask> <mask>", "w4 w5 <mask> w7 w8"]
GENERATING = [
    ("marian", "seq2seq"),
    ("bart", "seq2seq"),
    ("m2m_100", "seq2seq"),
    ("t5", "seq2seq"),
    ("gpt2", "causal"),
    ("llama", "causal"),
]


def alone(loaded: Any, text: str, *, beams: int, limit: int) -> tuple[list[int], float]:
    """Tokens and mean log-probability of one text: generated alone, scored by a second forward pass."""
    ids = loaded.tokenizer(text, return_tensors="pt").input_ids
    if loaded.task == "causal":
        ids = ids[:, :-1]
    config = GenerationConfig(  # type: ignore[no-untyped-call]  # untyped in transformers
        max_new_tokens=limit,
        num_beams=beams,
        do_sample=False,
        pad_token_id=loaded.tokenizer.pad_token_id,
        eos_token_id=loaded.tokenizer.eos_token_id,
        decoder_start_token_id=getattr(loaded.model.config, "decoder_start_token_id", None),
    )
    with torch.inference_mode():
        output = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        made = output[0, 1 if loaded.task == "seq2seq" else ids.shape[1] :]
        if loaded.task == "seq2seq":
            logits = loaded.model(input_ids=ids, decoder_input_ids=output[:, :-1]).logits[0]
        else:
            logits = loaded.model(input_ids=output[:, :-1]).logits[0, ids.shape[1] - 1 :]
    score = float(logits.log_softmax(-1).gather(1, made[:, None]).mean())
    tokens = made.tolist()
    end = loaded.tokenizer.eos_token_id
    return (tokens[: tokens.index(end)] if end in tokens else tokens), score


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(("family", "task"), GENERATING)
def test_batches_say_what_texts_alone_say(family: str, task: Any, beams: int, make: Any) -> None:
    """Ids, decoded texts and scores; the score is the mean log-probability of a second pass."""
    loaded = make(family, seed=3)
    loaded.model.eval()
    expected = [alone(loaded, text, beams=beams, limit=6) for text in TEXTS]
    for size in (2, 64):
        found = predict(
            loaded.model,
            loaded.tokenizer,
            TEXTS,
            task=task,
            decoding=DecodingConfig(max_new_tokens=6, beams=beams, batch_size=size),
        )
        assert found.ids == [ids for ids, _ in expected]
        assert found.texts == [loaded.tokenizer.decode(ids, skip_special_tokens=True) for ids in found.ids]
        assert found.scores == pytest.approx([score for _, score in expected], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_every_mask_is_filled(family: str, make: Any) -> None:
    """With the most likely token of one pass; other words stay, and a text without a mask is itself."""
    loaded = make(family)
    loaded.model.eval()
    mask = loaded.tokenizer.mask_token_id
    for size in (1, 64):
        found = predict(
            loaded.model, loaded.tokenizer, MASKED, task="masked", decoding=DecodingConfig(batch_size=size)
        )
        for text, filled, ids, score in zip(MASKED, found.texts, found.ids, found.scores, strict=True):
            given = loaded.tokenizer(text, return_tensors="pt").input_ids
            with torch.inference_mode():
                logits = loaded.model(input_ids=given).logits[0]
            best = logits.log_softmax(-1)[given[0] == mask].max(-1)
            assert ids == best.indices.tolist()
            assert score == pytest.approx(float(best.values.mean()) if ids else 0.0, rel=1e-4)
            whole = given[0].clone()
            whole[given[0] == mask] = best.indices
            assert filled == loaded.tokenizer.decode(whole, skip_special_tokens=True)
    assert found.texts[1] == "w2"


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_right_tokens_under_masks_get_their_log_probability(family: str, make: Any) -> None:
    """In any batch, in the order of the texts; texts that differ elsewhere are refused."""
    loaded = make(family, seed=2)
    mask = str(loaded.tokenizer.mask_token)
    whole = ["w1 w2 w3", "w4", "w5 w6 w7 w8"]
    hidden = [f"w1 {mask} w3", mask, f"{mask} w6 w7 {mask}"]
    for size in (1, 64):
        found = mask_log_probs(loaded.model, loaded.tokenizer, hidden, whole, batch_size=size)
        for text, right, values in zip(hidden, whole, found, strict=True):
            given, ids = (loaded.tokenizer(one, return_tensors="pt").input_ids for one in (text, right))
            with torch.inference_mode():
                logits = loaded.model(input_ids=given).logits[0].log_softmax(-1)
            there = given[0] == loaded.tokenizer.mask_token_id
            expected = logits[there].gather(-1, ids[0][there][:, None])[:, 0]
            assert values == pytest.approx(expected.tolist(), rel=1e-4)
    with pytest.raises(ConfigError, match="text 1 has 2 tokens with its masks and 3 without") as caught:
        mask_log_probs(loaded.model, loaded.tokenizer, hidden[:2], ["w1 w2 w3", "w4 w5"])
    assert (caught.value.field, caught.value.found) == ("hidden.1", mask)
    with pytest.raises(ConfigError) as caught:
        mask_log_probs(loaded.model, loaded.tokenizer, hidden[:1], ["w1 w2 w9"])
    assert caught.value.field == "hidden.0"


@pytest.mark.parametrize(
    ("family", "task"),
    [("gpt2", "causal"), ("marian", "seq2seq"), ("m2m_100", "seq2seq"), ("bert", "masked")],
)
def test_what_a_model_expects_at_labelled_positions_is_its_own_logits(
    family: str, task: Task, make: Any
) -> None:
    """As one row alone gives them, whatever the padding; causal labels are those of the next position."""
    model = make(family, seed=4).model
    rows = [([5, 6, 7, 8], [5, -100, 7, 8]), ([6, 9], [6, 9]), ([7, 8, 5], [-100, 8, 5])]

    def collate(chosen: Any) -> dict[str, torch.Tensor]:
        batch = pad_sequence([torch.tensor(row["input_ids"]) for row in chosen], True)
        labels = pad_sequence([torch.tensor(row["labels"]) for row in chosen], True, -100)
        mask = pad_sequence([torch.ones(len(row["input_ids"]), dtype=torch.long) for row in chosen], True)
        made = {"input_ids": batch, "attention_mask": mask, "labels": labels}
        if task == "seq2seq":
            made["decoder_input_ids"] = decoder_inputs(model, labels)
        return made

    data = Dataset.from_list([{"input_ids": ids, "labels": labels} for ids, labels in rows])
    model.train()
    found = forced_log_probs(model, data, collate, task=task)
    assert model.training
    alone = [forced_log_probs(model, data.select([at]), collate, task=task) for at in range(3)]
    for name in ("log_probs", "labels", "places"):
        together = torch.cat([getattr(one, name) for one in alone])
        torch.testing.assert_close(getattr(found, name), together, rtol=1e-4, atol=1e-5)
    skip = 1 if task == "causal" else 0
    assert found.labels.tolist() == [one for _, row in rows for one in row[skip:] if one != -100]
    assert found.places.tolist()[: len(rows[0][1]) - 1 - skip] == list(range(len(rows[0][1]) - 1 - skip))
    batch = collate([data[0]])
    with torch.inference_mode():
        logits = model.eval()(**{name: batch[name] for name in batch if name != "labels"}).logits[0]
    torch.testing.assert_close(found.log_probs[0], logits[1 if task == "causal" else 0].log_softmax(-1))
    tight = forced_log_probs(model, data, collate, task=task, max_bytes=4 * 3 * found.log_probs.shape[1])
    torch.testing.assert_close(tight.log_probs, found.log_probs[:3], rtol=1e-4, atol=1e-5)
    fewer = lambda rows: {k: v for k, v in collate(rows).items() if k != "decoder_input_ids"}  # noqa: E731
    without = forced_log_probs(model, data, fewer, task=task)
    torch.testing.assert_close(without.log_probs, found.log_probs)
    few = forced_log_probs(model, data, collate, task=task, batch_size=1, max_positions=2)
    assert few.log_probs.shape[0] == 2
    long = [5] * (model.config.max_position_embeddings + 1)
    for ids, labels in (([5], [-100]), (long, long)):
        with pytest.raises(ValueError, match="none of the 1 rows has a label"):
            forced_log_probs(
                model, Dataset.from_list([{"input_ids": ids, "labels": labels}]), collate, task=task
            )


def test_datasets_are_read_by_column(make: Any) -> None:
    """Token ids where they are there, else source, prompt or text."""
    loaded = make("marian", seed=3)
    few = DecodingConfig(max_new_tokens=4)
    expected = predict(loaded.model, loaded.tokenizer, TEXTS, task="seq2seq", decoding=few)
    for name, values in (
        ("source", TEXTS),
        ("text", TEXTS),
        ("input_ids", loaded.tokenizer(TEXTS)["input_ids"]),
    ):
        rows = Dataset.from_dict({name: values})
        assert predict(loaded.model, loaded.tokenizer, rows, task="seq2seq", decoding=few) == expected


def test_mode_and_tokenizer_are_left_as_they_were(make: Any) -> None:
    """Dropout is off while predicting, and on again after it."""
    loaded = make("marian", dropout=0.5)
    side = loaded.tokenizer.padding_side
    loaded.model.train()
    first = predict(
        loaded.model, loaded.tokenizer, TEXTS, task="seq2seq", decoding=DecodingConfig(max_new_tokens=3)
    )
    assert loaded.model.training
    assert loaded.tokenizer.padding_side == side
    loaded.model.eval()
    again = predict(
        loaded.model, loaded.tokenizer, TEXTS, task="seq2seq", decoding=DecodingConfig(max_new_tokens=3)
    )
    assert first == again


def test_a_models_own_generation_file_does_not_decide(make: Any) -> None:
    """Sampling and lengths that a folder brings along change nothing."""
    loaded = make("gpt2", seed=3)
    expected = predict(
        loaded.model, loaded.tokenizer, TEXTS, task="causal", decoding=DecodingConfig(max_new_tokens=5)
    )
    loaded.model.generation_config.do_sample = True
    loaded.model.generation_config.temperature = 3.0
    loaded.model.generation_config.max_length = 3
    loaded.model.generation_config.num_beams = 4
    found = predict(
        loaded.model, loaded.tokenizer, TEXTS, task="causal", decoding=DecodingConfig(max_new_tokens=5)
    )
    assert found == expected


def test_nothing_asked_nothing_said(make: Any) -> None:
    """No rows give empty lists."""
    loaded = make("marian")
    found = predict(loaded.model, loaded.tokenizer, [], task="seq2seq")
    assert (found.texts, found.ids, found.scores) == ([], [], [])


def test_what_cannot_be_read_is_refused(make: Any) -> None:
    """Unknown task, unknown columns, a row without tokens, no mask token."""
    loaded = make("marian")
    with pytest.raises(ConfigError) as caught:
        predict(loaded.model, loaded.tokenizer, TEXTS, task="summary")  # type: ignore[arg-type]  # on purpose
    assert (caught.value.field, caught.value.allowed) == ("task", ("causal", "seq2seq", "masked"))
    with pytest.raises(ConfigError) as caught:
        predict(loaded.model, loaded.tokenizer, Dataset.from_dict({"words": TEXTS}), task="seq2seq")
    assert (caught.value.field, caught.value.found) == ("rows", ("words",))
    assert caught.value.allowed == ("input_ids", "source", "prompt", "text")
    rows = Dataset.from_dict({"input_ids": [[1], []]})
    with pytest.raises(ConfigError, match="row 1 has no tokens") as caught:
        predict(loaded.model, loaded.tokenizer, rows, task="seq2seq")
    assert caught.value.field == "rows.1"


def test_scores_are_finite_and_no_probability_above_one(make: Any) -> None:
    """Log-probabilities in nats."""
    loaded = make("t5")
    found = predict(loaded.model, loaded.tokenizer, TEXTS, task="seq2seq")
    assert all(math.isfinite(score) and score <= 0 for score in found.scores)


@pytest.mark.parametrize("family", ["gpt2", "marian", "t5"])
def test_generating_ends_where_positions_do(family: str, make: Any) -> None:
    """A model with learnt positions has no more of them; one with relative ones goes on."""
    loaded = make(family, seed=4)
    loaded.model.generation_config.eos_token_id = 22  # a token that is hardly ever most likely
    found = predict(
        loaded.model,
        loaded.tokenizer,
        ["w1 w2"],
        task=loaded.task,
        decoding=DecodingConfig(max_new_tokens=70),
    )
    assert len(found.ids[0]) <= {"gpt2": 31, "marian": 32, "t5": 70}[family]


def test_a_row_longer_than_the_positions_is_refused(make: Any) -> None:
    """Naming the row and both lengths."""
    loaded = make("gpt2")
    with pytest.raises(ConfigError) as caught:
        predict(loaded.model, loaded.tokenizer, ["w1", "w1 " * 40], task="causal")
    error = caught.value
    assert (error.field, error.found, error.suggestion) == ("rows.1", 40, 32)
