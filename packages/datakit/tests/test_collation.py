"""Collating: padding that is never learnt, masks that depend on the row alone."""

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from distill_datakit import OptionError, TokenizerError, collator, load_data, tokenize
from distill_datakit.masking import mask_row

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from distill_datakit import Task

pytestmark = pytest.mark.extra("torch")  # noqa: S610  # no database


def test_padding_is_not_learnt_and_the_end_is(sentences: list[str], bpe: "PreTrainedTokenizerFast") -> None:
    """With one token for padding and end, labels distinguish them by attention."""
    import torch

    data = tokenize(load_data([{"text": text} for text in sentences]), bpe, "causal").data
    batch = collator(bpe, "causal", pad_to_multiple_of=8)(list(data))
    assert batch["input_ids"].shape[1] % 8 == 0
    assert bool(((batch["labels"] == -100) == (batch["attention_mask"] == 0)).all())
    ends = batch["attention_mask"].sum(1) - 1
    assert bool((batch["labels"][torch.arange(8), ends] == bpe.eos_token_id).all())
    assert batch["row_id"].tolist() == list(range(8))
    assert bool((batch["input_ids"][batch["attention_mask"] == 0] == bpe.pad_token_id).all())


def test_without_a_padding_token_the_end_pads(bpe: "PreTrainedTokenizerFast") -> None:
    """The tokenizer itself is not changed; with neither there is an error."""
    bpe.pad_token = None
    rows = list(tokenize(load_data([{"text": "a"}, {"text": "the cat sat"}]), bpe, "causal").data)
    assert collator(bpe, "causal")(rows)["input_ids"][0, -1] == bpe.eos_token_id
    assert bpe.pad_token is None
    bpe.eos_token = None
    with pytest.raises(TokenizerError, match="neither"):
        collator(bpe, "causal")


def test_a_tiny_marian_learns_the_words_by_heart(
    words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """Rows, collator and decoder inputs fit together: an overfitted model says every pronunciation."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    size = len(symbols)
    config = MarianConfig(
        vocab_size=size, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, pad_token_id=symbols.pad_token_id,
        eos_token_id=symbols.eos_token_id, decoder_start_token_id=symbols.pad_token_id,
        forced_eos_token_id=None,
        max_position_embeddings=32, dropout=0.0, scale_embedding=True, init_std=32**-0.5)  # fmt: skip
    model = MarianMTModel(config)
    batch = collator(symbols, "seq2seq", model=model)(list(tokenize(words, symbols, "seq2seq").data))
    assert batch["decoder_input_ids"][:, 0].tolist() == [symbols.pad_token_id] * 5
    assert bool(
        (batch["decoder_input_ids"][:, 1:][batch["labels"][:, 1:] != -100] != symbols.pad_token_id).all()
    )
    batch.pop("row_id")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(70):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.train(mode=False)
    made = model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=8, num_beams=1
    )
    assert symbols.batch_decode(made, skip_special_tokens=True) == words["target"][:]


def test_masks_depend_on_seed_row_and_epoch_alone(
    sentences: list[str], wordpiece: "PreTrainedTokenizerFast"
) -> None:
    """Whatever the batch, its order or a trip through another process; each epoch has its own."""
    import torch

    rows = list(tokenize(load_data([{"text": text} for text in sentences]), wordpiece, "masked").data)
    collate = collator(wordpiece, "masked", seed=1)
    whole = collate(rows)
    alone = pickle.loads(pickle.dumps(collate))(rows[5:6])  # noqa: S301  # our own object
    width = alone["labels"].shape[1]
    backwards = collate(rows[::-1])
    for name in ("input_ids", "labels"):
        assert torch.equal(whole[name][5:6, :width], alone[name])
        assert torch.equal(whole[name], backwards[name].flip(0))
    collate.set_epoch(1)
    assert not torch.equal(collate(rows)["labels"], whole["labels"])
    collate.set_epoch(0)
    assert torch.equal(collate(rows)["labels"], whole["labels"])
    assert not torch.equal(collator(wordpiece, "masked", seed=2)(rows)["labels"], whole["labels"])
    assert bool((whole["labels"] != -100).any(1).all())
    assert collator(wordpiece, "masked", seed=1).fingerprint == collate.fingerprint
    assert collator(wordpiece, "masked", seed=2).fingerprint != collate.fingerprint


def test_masked_positions_are_fifteen_percent_in_three_kinds() -> None:
    """80 % mask, 10 % random, 10 % kept, within four standard errors; special positions are never chosen."""
    ids = np.tile(np.arange(100, 200), 200)
    maskable = np.arange(len(ids)) % 10 != 0
    fed, labels = mask_row(
        ids,
        maskable=maskable,
        replacements=np.arange(1000, 2000),
        mask_id=3,
        probability=0.15,
        seed=0,
        row_id=0,
        epoch=0,
    )
    chosen = labels != -100
    assert not (chosen & ~maskable).any()
    assert (fed[~chosen] == ids[~chosen]).all()
    assert (labels[chosen] == ids[chosen]).all()
    count = chosen.sum()
    assert abs(count / maskable.sum() - 0.15) < 4 * (0.15 * 0.85 / maskable.sum()) ** 0.5
    kinds = ((fed[chosen] == 3).mean(), (fed[chosen] >= 1000).mean(), (fed[chosen] == ids[chosen]).mean())
    for share, expected in zip(kinds, (0.8, 0.1, 0.1), strict=True):
        assert abs(share - expected) < 4 * (expected * (1 - expected) / count) ** 0.5


def test_what_cannot_be_collated_is_refused(symbols: "PreTrainedTokenizerFast") -> None:
    """Ranges, a missing mask token, rows without an id, no rows, a model that is not a seq2seq model."""
    import torch

    with pytest.raises(ValueError, match="masking_probability=0"):
        collator(symbols, "masked", masking_probability=0.0)
    with pytest.raises(ValueError, match="pad_to_multiple_of=0"):
        collator(symbols, "causal", pad_to_multiple_of=0)
    with pytest.raises(ValueError, match="allowed are"):
        collator(symbols, "seq2seq_lm")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TokenizerError, match="mask token"):
        collator(symbols, "masked")
    with pytest.raises(ValueError, match="no rows"):
        collator(symbols, "causal")([])
    linear = torch.nn.Linear(1, 1)
    with pytest.raises(OptionError) as caught:
        collator(symbols, "seq2seq", model=linear)
    assert (caught.value.field, caught.value.found) == ("model", "Linear")
    with pytest.raises(OptionError) as caught:
        collator(symbols, "seq2seq", model=linear, decoder_inputs=2)
    assert caught.value.field == "decoder_inputs"
    symbols.mask_token = "a"  # noqa: S105  # a token, not a password
    with pytest.raises(ValueError, match="without 'row_id'"):
        collator(symbols, "masked")([{"input_ids": [1], "attention_mask": [1]}])


def family(name: str, pad: int, eos: int) -> "PreTrainedModel":
    """A tiny seq2seq model of a family."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    config = AutoConfig.for_model(
        name, vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=pad, eos_token_id=eos,
        decoder_start_token_id=eos)  # fmt: skip
    made: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config).eval()  # type: ignore[no-untyped-call]  # as transformers leaves it
    return made


@pytest.mark.parametrize("name", ["m2m_100", "mbart", "bart"])
def test_decoder_inputs_are_those_of_the_family(
    name: str, words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """M2M100 and NLLB shift labels behind the decoder's start; mBART moves the last token to the front."""
    import importlib

    import torch

    pad, eos = symbols.pad_token_id, symbols.eos_token_id
    rows = list(tokenize(words, symbols, "seq2seq").data)
    model = family(name, pad, eos)
    batch = collator(symbols, "seq2seq", model=model)(rows)
    for labels, fed in zip(batch["labels"].tolist(), batch["decoder_input_ids"].tolist(), strict=True):
        learnt = [label for label in labels if label != -100]
        first = learnt[-1] if name == "mbart" else eos
        assert fed == [first, *(pad if label == -100 else label for label in labels[:-1])]
    shift = importlib.import_module(f"transformers.models.{name}.modeling_{name}").shift_tokens_right
    own = shift(batch["labels"], pad) if name == "mbart" else shift(batch["labels"], pad, eos)
    assert torch.equal(batch["decoder_input_ids"], own)
    with torch.no_grad():
        batch.pop("row_id")
        whole = model(**batch).loss
        batch.pop("decoder_input_ids")
        assert torch.equal(model(**batch).loss, whole)


def test_decoder_inputs_come_from_a_function_or_a_start_token(
    words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """Without a model at hand: its function of labels, or the number of a token, which pickles."""
    import torch

    rows = list(tokenize(words, symbols, "seq2seq").data)
    model = family("m2m_100", symbols.pad_token_id, symbols.eos_token_id)
    expected = collator(symbols, "seq2seq", model=model)(rows)["decoder_input_ids"]
    stored = pickle.dumps(collator(symbols, "seq2seq", decoder_inputs=symbols.eos_token_id))
    by_number = pickle.loads(stored)  # noqa: S301  # made above
    assert torch.equal(by_number(rows)["decoder_input_ids"], expected)
    by_function = collator(symbols, "seq2seq", decoder_inputs=lambda labels: labels + 1)(rows)
    assert torch.equal(by_function["decoder_input_ids"], by_function["labels"] + 1)


@pytest.mark.parametrize("task", ["causal", "seq2seq", "masked"])
def test_batches_do_not_depend_on_the_padding_side_of_the_tokenizer(
    task: "Task", sentences: list[str], bpe: "PreTrainedTokenizerFast", wordpiece: "PreTrainedTokenizerFast"
) -> None:
    """Rows are padded on the right, so that positions and decoder inputs are those of each row alone."""
    import torch

    tokenizer = wordpiece if task == "masked" else bpe
    data = load_data([{"source": text, "target": text, "text": text} for text in sentences])
    batches = []
    for side in ("right", "left"):
        tokenizer.padding_side = side
        batches.append(
            collator(tokenizer, task, decoder_inputs=1)(list(tokenize(data, tokenizer, task).data))
        )
    right, left = batches
    assert right.keys() == left.keys()
    assert all(torch.equal(right[name], left[name]) for name in right)
    assert bool((right["attention_mask"].diff(dim=1) <= 0).all())
