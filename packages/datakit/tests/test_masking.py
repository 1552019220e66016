"""What is hidden: whole words, spans, and T5's corrupted spans."""

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_datakit import TokenizerError, collator, load_data, tokenize
from distill_datakit.masking import Masker, corrupt_row, mask_row

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

MASK, END, SENTINELS = 3, 1, np.arange(900, 1000)


def masked(
    words: "NDArray[np.int64]", *, spans: bool, row_id: int = 0, probability: float = 0.15
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Ids fed and labels of a row whose ids are 100, 101..., the word -1 not to be masked."""
    return mask_row(
        np.arange(100, 100 + len(words)), maskable=words >= 0, replacements=np.arange(5000, 6000),
        mask_id=MASK, probability=probability, seed=0, row_id=row_id, epoch=0, words=words,
        spans=spans)  # fmt: skip


def many_words(count: int) -> "NDArray[np.int64]":
    """Words of one to four tokens, a special token before and behind."""
    lengths = np.random.default_rng(1).integers(1, 5, count)
    return np.concatenate([[-1], np.repeat(np.arange(count), lengths), [-1]])


@pytest.mark.parametrize("spans", [False, True])
def test_words_are_hidden_whole(spans: bool) -> None:
    """All tokens of a word or none, 15 % of the tokens, special tokens never."""
    words = many_words(4000)
    fed, labels = masked(words, spans=spans)
    chosen = labels != -100
    assert not chosen[words < 0].any()
    assert (fed[~chosen] == np.arange(100, 100 + len(words))[~chosen]).all()
    for word in range(4000):
        assert chosen[words == word].all() == chosen[words == word].any()
    assert abs(chosen.mean() - 0.15) < (0.001 if spans else 4 * (0.15 * 0.85 / 4000) ** 0.5)
    shares = (fed[chosen] == MASK).mean(), (fed[chosen] >= 5000).mean()
    assert abs(shares[0] - 0.8) < 0.06
    assert abs(shares[1] - 0.1) < 0.06


def test_spans_are_as_long_as_published_and_hidden_in_one_way() -> None:
    """A geometric length with mean 3.8 words; each is all masks, all random or all kept."""
    runs, kinds = [], []
    words = np.arange(1000)
    for row_id in range(40):
        fed, labels = masked(words, spans=True, row_id=row_id, probability=0.02)
        places = np.flatnonzero(labels != -100)
        for run in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1):
            runs.append(len(run))
            kinds.append(len({(fed[n] == MASK, fed[n] >= 5000) for n in run}))
    assert 3.0 < np.mean(runs) < 4.6
    assert np.mean(np.array(kinds) == 1) > 0.95  # two spans may touch


@given(
    length=st.integers(0, 60),
    probability=st.floats(0.01, 1.0),
    span=st.floats(1, 8),
    row_id=st.integers(0, 9),
)
def test_corrupted_spans_put_back_give_the_row(
    length: int, probability: float, span: float, row_id: int
) -> None:
    """Each sentinel in the input is followed up in the labels; together they hold every token once."""
    ids = np.append(np.arange(100, 100 + length), END)
    fed, labels = corrupt_row(
        ids, sentinels=SENTINELS[:5], end_id=END, probability=probability, span_length=span, seed=0,
        row_id=row_id, epoch=0)  # fmt: skip
    assert fed[-1] == END
    if not length:
        assert labels.tolist() == [-100]
        return
    assert labels[-1] == END
    used = [token for token in fed if token in SENTINELS]
    assert used == [token for token in labels if token in SENTINELS] == SENTINELS[: len(used)].tolist()
    spans = {
        int(sentinel): piece[1:]
        for sentinel, piece in zip(
            used, np.split(labels[:-1], np.flatnonzero(np.isin(labels[:-1], SENTINELS)))[1:], strict=True
        )
    }
    whole = [token for part in fed for token in (spans[int(part)] if part in SENTINELS else [part])]
    assert whole == ids.tolist()
    hidden = sum(map(len, spans.values()))
    assert hidden == min(max(round(length * probability), 1), max(length - 1, 1))
    assert all(len(one) for one in spans.values())


@pytest.mark.extra("torch")  # noqa: S610  # no database
def test_collators_hide_by_row_and_epoch_alone(
    sentences: list[str], wordpiece: "PreTrainedTokenizerFast"
) -> None:
    """Words, spans and corrupted spans: any batch and process gives the same; the fingerprint tells them."""
    import torch
    from transformers import ByT5Tokenizer

    texts = load_data([{"text": text} for text in sentences])
    t5 = ByT5Tokenizer()
    masked_rows = list(tokenize(texts, wordpiece, "masked").data)
    corrupted_rows = list(tokenize(texts, t5, "seq2seq", span_corruption=True).data)
    assert "labels" not in corrupted_rows[0]
    collators = [
        (collator(wordpiece, "masked", masking="word"), masked_rows),
        (collator(wordpiece, "masked", masking="span"), masked_rows),
        (collator(wordpiece, "masked"), masked_rows),
        (collator(t5, "seq2seq", masking="span_corruption"), corrupted_rows),
    ]
    for collate, rows in collators:
        whole = collate(rows)
        alone = pickle.loads(pickle.dumps(collate))(rows[3:4])  # noqa: S301  # our own object
        for name in ("input_ids", "labels"):
            width = alone[name].shape[1]
            assert torch.equal(whole[name][3:4, :width], alone[name])
        assert bool((whole["labels"] != -100).any(1).all())
        assert whole["attention_mask"].shape == whole["input_ids"].shape
        collate.set_epoch(1)
        assert not torch.equal(collate(rows)["labels"], whole["labels"])
    assert len({collate.fingerprint["masking"] for collate, _ in collators}) == 4


def test_masking_that_cannot_be_done_is_refused(symbols: "PreTrainedTokenizerFast") -> None:
    """Of another task, out of range, without sentinels, of a tokenizer that knows no words."""
    from transformers import ByT5Tokenizer

    with pytest.raises(ValueError, match=r"masking='word' for task 'causal': allowed are None"):
        collator(symbols, "causal", masking="word")
    with pytest.raises(ValueError, match="span_length=0"):
        collator(symbols, "seq2seq", masking="span_corruption", span_length=0)
    with pytest.raises(TokenizerError, match="<extra_id_0>"):
        collator(symbols, "seq2seq", masking="span_corruption")
    slow = ByT5Tokenizer(mask_token="<extra_id_5>")  # noqa: S106  # a token, not a password
    with pytest.raises(TokenizerError, match="fast tokenizer"):
        collator(slow, "masked", masking="word")
    with pytest.raises(ValueError, match="packed_attention='none'"):
        collator(symbols, "causal", packed_attention="none")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.extra("torch")  # noqa: S610  # no database
def test_words_are_not_masked_in_rows_that_do_not_say_where_they_begin(
    wordpiece: "PreTrainedTokenizerFast",
) -> None:
    """Rows of another preparation are refused, not masked token by token."""
    with pytest.raises(ValueError, match="needs rows with 'word_ids'"):
        collator(wordpiece, "masked", masking="word")(
            [{"input_ids": [5], "attention_mask": [1], "row_id": 0}]
        )


@settings(deadline=None)
@given(row_id=st.integers(0, 1000))
def test_a_single_word_is_always_hidden(row_id: int) -> None:
    """However short, a row teaches something, and a word of several tokens is hidden whole."""
    for spans in (False, True):
        _, labels = masked(np.array([-1, 0, 0, 0, -1]), spans=spans, row_id=row_id, probability=0.01)
        assert labels.tolist() == [-100, 101, 102, 103, -100]


def test_marked_special_tokens_are_neither_hidden_nor_drawn(wordpiece: "PreTrainedTokenizerFast") -> None:
    """Also those that have no role: ``special`` in ``tokenizer.json`` is what counts."""
    from tokenizers import AddedToken

    wordpiece.backend_tokenizer.add_special_tokens([AddedToken("[ROW]", special=True)])
    row = wordpiece.convert_tokens_to_ids("[ROW]")
    assert row not in wordpiece.all_special_ids
    masker = Masker(wordpiece, "token", seed=0, probability=1.0)
    assert row not in masker.replacements
    _, labels = masker(np.array([row, *wordpiece("the cat")["input_ids"]]), None, row_id=0, epoch=0)
    assert labels.tolist() == [-100, -100, *wordpiece("the cat", add_special_tokens=False)["input_ids"], -100]
