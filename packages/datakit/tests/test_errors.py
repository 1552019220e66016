"""Errors hold what is wrong as data."""

import pickle
from typing import TYPE_CHECKING

import pytest

from distill_datakit import (
    DataError,
    DatakitError,
    GenerationFilter,
    LengthSampler,
    OptionError,
    TokenizerError,
    collator,
    load_data,
    split,
    tokenize,
    train_tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast


# By names that are not checked for types: what is given is wrong on purpose.
batches: "Callable[..., object]" = collator


def trained(**how: object) -> object:
    """A tokenizer of one letter."""
    return train_tokenizer(["a"], **how)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "error",
    [
        DatakitError("a", field="f", found=1, allowed=[2, 3], suggestion=2),
        OptionError.of("side", "rihgt", ("left", "right")),
        TokenizerError("a", field="kind"),
        DataError("a", file="f", row=2, field="c", found=("x",), allowed=("y",), suggestion="x"),
    ],
)
def test_errors_pickle_with_their_data(error: DatakitError) -> None:
    """Message, place and data survive a worker process."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own error
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_an_option_error_suggests_the_nearest_value() -> None:
    """Or the first, where none is like it."""
    error = OptionError.of("side", "rihgt", ("left", "right"))
    assert (error.field, error.found, error.allowed) == ("side", "rihgt", ("left", "right"))
    assert error.suggestion == "right"
    assert OptionError.of("n", 5, (None, 1)).suggestion is None


def test_each_wrong_option_is_named(words: "Dataset", symbols: "PreTrainedTokenizerFast") -> None:
    """The field that a caller would change, the value that was given, and one that is accepted."""
    options: dict[str, tuple[object, object]] = {
        "max_source_length": (0, 1),
        "max_target_length": (-1, 1),
        "cut_source": ("rigth", "right"),
        "cut_target": ("lef", "left"),
        "workers": (0, 1),
    }
    for field, (found, suggestion) in options.items():
        with pytest.raises(OptionError) as caught:
            tokenize(words, symbols, "seq2seq", **{field: found})  # type: ignore[arg-type]  # wrong on purpose
        assert (caught.value.field, caught.value.found) == (field, found)
        assert caught.value.suggestion == suggestion
        assert tokenize(words, symbols, "seq2seq", **{field: suggestion})  # type: ignore[arg-type]  # by name
    with pytest.raises(OptionError) as caught:
        tokenize(words, symbols, "causal", prefix="a: ")
    assert (caught.value.field, caught.value.allowed, caught.value.suggestion) == ("prefix", ("",), "")


@pytest.mark.parametrize(
    ("call", "kind", "field", "suggestion"),
    [
        (lambda data, _: split(data, fractions=(1, 1, 1)), OptionError, "fractions", (0.8, 0.1, 0.1)),
        (lambda data, _: split(data, key="sorce", exact=True), DataError, "key", "source"),
        (lambda data, _: split(data), DataError, "exact", True),
        (lambda _, tok: batches(tok, "seqseq"), OptionError, "task", "seq2seq"),
        (lambda _, tok: batches(tok, "causal", masking="word"), OptionError, "masking", None),
        (lambda _, tok: batches(tok, "causal", span_length=0), OptionError, "span_length", 1.0),
        (lambda _, tok: batches(tok, "causal", packed_attention="msk"), OptionError, "packed_attention",
         "mask"),
        (lambda _, tok: batches(tok, "masked"), TokenizerError, "tokenizer.mask_token", None),
        (lambda *_: LengthSampler([1], 0), OptionError, "batch_size", 1),
        (lambda *_: GenerationFilter(min_metric=1.0), OptionError, "min_metric", None),
        (lambda *_: trained(kind="wordpice"), TokenizerError, "kind", "wordpiece"),
        (lambda *_: trained(special_tokens=["<unk>", "<pad>"]), TokenizerError, "special_tokens", "</s>"),
        (lambda *_: trained(size=9), TokenizerError, "size", None),
        (lambda *_: load_data([{"wrd": "a"}], columns={"source": "word"}), DataError, "word", "wrd"),
        (lambda *_: load_data([{"source": "a"}, {"sorce": "b"}]), DataError, "source", "sorce"),
        (lambda *_: load_data([{"source": 5}]), DataError, "source", None),
    ],
)  # fmt: skip
def test_errors_name_the_field_and_what_would_do(
    call: "Callable[[Dataset, PreTrainedTokenizerFast], object]",
    kind: type[DatakitError],
    field: str,
    suggestion: object,
    words: "Dataset",
    symbols: "PreTrainedTokenizerFast",
) -> None:
    """Data, for whoever prints a correction."""
    with pytest.raises(kind) as caught:
        call(words, symbols)
    assert (caught.value.field, caught.value.suggestion) == (field, suggestion)
