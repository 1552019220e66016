"""Collating: padding that is never learnt, masks that depend on the row alone."""

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from distill_datakit import TokenizerError, collator, load, tokenize
from distill_datakit.masking import mask_row

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

pytestmark = pytest.mark.extra("torch")  # noqa: S610  # no database


def test_padding_is_not_learnt_and_the_end_is(sentences: list[str], bpe: "PreTrainedTokenizerFast") -> None:
    """With one token for padding and end, labels tell them apart by attention."""
    import torch

    data = tokenize(load([{"text": text} for text in sentences]), bpe, "causal").data
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
    rows = list(tokenize(load([{"text": "a"}, {"text": "the cat sat"}]), bpe, "causal").data)
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

    rows = list(tokenize(load([{"text": text} for text in sentences]), wordpiece, "masked").data)
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


def test_what_cannot_be_collated_is_refused(words: "Dataset", symbols: "PreTrainedTokenizerFast") -> None:
    """Ranges, a missing mask token, rows without an id, no rows, a model that is no seq2seq model."""
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
    rows = list(tokenize(words, symbols, "seq2seq").data)
    with pytest.raises(TypeError, match="Linear has no prepare_decoder_input_ids_from_labels"):
        collator(symbols, "seq2seq", model=torch.nn.Linear(1, 1))(rows)
    symbols.mask_token = "a"  # noqa: S105  # a token, not a password
    with pytest.raises(ValueError, match="without 'row_id'"):
        collator(symbols, "masked")([{"input_ids": [1], "attention_mask": [1]}])
