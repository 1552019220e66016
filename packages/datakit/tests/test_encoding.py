"""What every kind of row shares: special tokens in texts, sides that are cut, languages, workers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from distill_datakit import (
    DataError,
    SpecialTokensWarning,
    TokenizerError,
    check_data,
    load_data,
    tokenize,
    train_tokenizer,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "slow"])
def test_special_tokens_in_a_text_stay_text(kind: str, sentences: list[str]) -> None:
    """Only the tokenizer's own frame holds special ids; nothing else of the text changes."""
    from transformers import ByT5Tokenizer

    made: PreTrainedTokenizerBase = (
        ByT5Tokenizer()
        if kind == "slow"
        else train_tokenizer(sentences, kind=kind, size=300 if kind == "bpe" else 60)  # type: ignore[arg-type]  # of the list
    )
    special = made.mask_token or made.eos_token
    data = load_data(
        [{"source": f"the {special} cat", "target": f"a{special}b"}, {"source": "the", "target": "a"}]
    )
    with pytest.warns(SpecialTokensWarning, match="2 texts"):
        row = tokenize(data, made, "seq2seq").data[0]
    frame = set(made("the")["input_ids"]) & set(made.all_special_ids)
    for name in ("input_ids", "labels"):
        assert set(row[name]) & set(made.all_special_ids) <= frame | {made.unk_token_id}
    if kind in ("bpe", "slow"):
        written = str(made.decode(row["labels"]))
        assert written.removesuffix(special) == f"a{special}b".removesuffix(special if kind == "bpe" else "")
    kept = tokenize(data, made, "seq2seq", escape_special_tokens=False).data[0]
    assert made.convert_tokens_to_ids(special) in kept["labels"]


def test_each_side_can_be_cut(bpe: "PreTrainedTokenizerFast", wordpiece: "PreTrainedTokenizerFast") -> None:
    """The tokenizer's own truncation side is neither used nor changed; frames stay."""
    bpe.truncation_side = wordpiece.truncation_side = "left"
    text = load_data([{"text": "the cat sat on the mat"}])
    whole = tokenize(text, bpe, "causal").data[0]["input_ids"]
    assert tokenize(text, bpe, "causal", max_source_length=3).data[0]["input_ids"] == whole[:3]
    cut = tokenize(text, bpe, "causal", max_source_length=3, cut_source="left").data[0]["input_ids"]
    assert cut == whole[-3:]
    right = tokenize(text, wordpiece, "masked", max_source_length=4).data[0]
    left = tokenize(text, wordpiece, "masked", max_source_length=4, cut_source="left").data[0]
    assert wordpiece.decode(right["input_ids"]) == "[CLS] the cat [SEP]"
    assert wordpiece.decode(left["input_ids"]) == "[CLS] the mat [SEP]"
    pair = load_data([{"prompt": "the cat", "completion": " sat on the mat"}])
    row = tokenize(
        pair, bpe, "causal", max_source_length=1, cut_source="right", max_target_length=1, cut_target="left"
    ).data[0]
    assert row["input_ids"] == [bpe("the cat")["input_ids"][0], bpe.eos_token_id]
    assert bpe.truncation_side == wordpiece.truncation_side == "left"
    with pytest.raises(ValueError, match="cut_source='middle'"):
        tokenize(text, bpe, "causal", cut_source="middle")  # type: ignore[arg-type]  # wrong on purpose


@pytest.fixture
def marked(tmp_path: Path) -> "PreTrainedTokenizerBase":
    """A tiny NLLB tokenizer from a folder: a language code before each text, an end behind."""
    from transformers import AutoTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", *"▁abcdefgh", "eng_Latn", "fra_Latn", "<mask>"]
    model = {
        "type": "BPE",
        "vocab": {word: n for n, word in enumerate(words)},
        "merges": [],
        "unk_token": "<unk>",
    }
    blank = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    backend = {"version": "1.0", "added_tokens": [], "model": model, "pre_tokenizer": blank, "decoder": blank}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(
            backend | {"normalizer": None, "post_processor": None, "truncation": None, "padding": None}
        )
    )
    config = {"tokenizer_class": "NllbTokenizerFast", "extra_special_tokens": ["eng_Latn", "fra_Latn"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    made: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tmp_path)
    return made


def test_languages_are_marked_on_both_sides(marked: "PreTrainedTokenizerBase") -> None:
    """Each side with its own code, whatever the tokenizer was set to, which stays as it was."""
    data = load_data([{"source": "ab", "target": "cd"}])
    given = {"source_language": "fra_Latn", "target_language": "eng_Latn"}
    before = marked.src_lang
    done = tokenize(data, marked, "seq2seq", source_language="fra_Latn", target_language="eng_Latn")
    tokens = [marked.convert_ids_to_tokens(done.data[0][name]) for name in ("input_ids", "labels")]
    assert tokens == [["fra_Latn", "▁", "a", "b", "</s>"], ["eng_Latn", "▁", "c", "d", "</s>"]]
    assert marked.src_lang == before == "eng_Latn"
    marked.src_lang, marked.tgt_lang = given.values()
    assert tokenize(data, marked, "seq2seq").fingerprint == done.fingerprint
    assert tokenize(data, marked, "seq2seq", source_language="eng_Latn").fingerprint != done.fingerprint


def test_languages_that_are_missing_or_unknown_are_refused(
    marked: "PreTrainedTokenizerBase", words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """Also for a tokenizer that knows none, and for a task that has no two sides."""
    with pytest.raises(TokenizerError, match="target_language is missing"):
        tokenize(words, marked, "seq2seq")
    with pytest.raises(TokenizerError, match="'deu_Latn' is not one of its codes"):
        tokenize(words, marked, "seq2seq", target_language="deu_Latn")
    with pytest.raises(TokenizerError, match="knows no language codes"):
        tokenize(words, symbols, "seq2seq", source_language="en")
    with pytest.raises(ValueError, match="source_language='en' is for seq2seq"):
        tokenize(words, symbols, "causal", source_language="en")


def test_any_number_of_workers_gives_the_same(words: "Dataset", symbols: "PreTrainedTokenizerFast") -> None:
    """Rows, their order, fingerprint, warnings and errors."""
    many = load_data(
        [*words.select_columns(["source", "target"])] * 500 + [{"source": "</s>", "target": "K"}]
    )
    with pytest.warns(SpecialTokensWarning, match="1 texts"):
        one = tokenize(many, symbols, "seq2seq", prefix="c")
    with pytest.warns(SpecialTokensWarning, match="1 texts"):
        two = tokenize(many, symbols, "seq2seq", prefix="c", workers=2)
    assert two.data.data.table.equals(one.data.data.table)
    assert two.fingerprint == one.fingerprint
    with pytest.raises(ValueError, match="workers=0"):
        tokenize(many, symbols, "seq2seq", workers=0)


def test_every_split_needs_the_columns(words: "Dataset", symbols: "PreTrainedTokenizerFast") -> None:
    """A split that lacks what the first has is named."""
    from datasets import DatasetDict

    parts = DatasetDict({"train": words, "test": words.remove_columns("target")})
    with pytest.raises(DataError, match="without 'target'"):
        tokenize(parts, symbols, "seq2seq")


def word_level(*, end: str | None = "</s>") -> "PreTrainedTokenizerFast":
    """A tokenizer of letters, without a post-processor, with a control token that has no role."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "</s>", "<unk>", "<head>", *"abcdefghij"]
    vocabulary = {name: n for n, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=names[2]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(name, special=True) for name in ("</s>", "<head>")])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=backend, pad_token=names[0], unk_token=names[2], eos_token=end
    )


@pytest.mark.parametrize(
    ("limit", "side", "expected"),
    [(None, "right", "a b c </s>"), (4, "right", "a b c </s>"), (3, "right", "a b </s>"),
     (3, "left", "b c </s>"), (1, "left", "</s>")],
)  # fmt: skip
def test_targets_end_where_the_tokenizer_adds_no_end(
    limit: int | None, side: "Literal['left', 'right']", expected: str
) -> None:
    """The end is learnt, whatever is cut; an empty target still teaches to stop; inputs stay as they are."""
    tokenizer = word_level()
    data = load_data([{"source": "a b", "target": "a b c"}, {"source": "a", "target": ""}])
    made = tokenize(data, tokenizer, "seq2seq", max_target_length=limit, cut_target=side).data
    assert " ".join(tokenizer.convert_ids_to_tokens(made[0]["labels"])) == expected
    assert tokenizer.convert_ids_to_tokens(made[0]["input_ids"]) == ["a", "b"]
    assert made[1]["labels"] == [tokenizer.eos_token_id]


def test_one_end_is_enough(
    words: "Dataset", symbols: "PreTrainedTokenizerFast", sentences: list[str]
) -> None:
    """A tokenizer that closes targets itself, with an end or a separator, is left alone."""
    for row in tokenize(words, symbols, "seq2seq").data:
        assert row["labels"].count(symbols.eos_token_id) == 1
    wordpiece = train_tokenizer(sentences, kind="wordpiece", size=120)
    data = load_data([{"source": "the cat", "target": "the dog"}])
    assert tokenize(data, wordpiece, "seq2seq").data[0]["labels"] == wordpiece("the dog")["input_ids"]
    with pytest.raises(TokenizerError) as caught:
        tokenize(data, word_level(end=None), "seq2seq")
    assert caught.value.field == "tokenizer.eos_token"


def test_special_tokens_are_those_of_the_tokenizer_itself() -> None:
    """One that ``tokenizer.json`` marks and the configuration does not name stays text."""
    tokenizer = word_level()
    assert "<head>" not in tokenizer.all_special_tokens
    head = tokenizer.convert_tokens_to_ids("<head>")
    tokenizer.chat_template = (
        "{% for m in messages %}<head> {{ m['content'] }} </s> {% endfor %}"
        "{% if add_generation_prompt %}<head> {% endif %}"
    )
    chat = [{"role": "user", "content": "a <head> b </s>"}, {"role": "assistant", "content": "c"}]
    for row in ({"messages": chat}, {"text": "a <head> b"}):
        with pytest.warns(SpecialTokensWarning, match="1 texts"):
            made = tokenize(load_data([row]), tokenizer, "causal").data[0]
        assert made["input_ids"].count(head) == (2 if "messages" in row else 0)
        assert made["input_ids"].count(tokenizer.eos_token_id) == (2 if "messages" in row else 1)
    assert check_data([{"text": "a <head> b"}], tokenizer, "causal").parts[0].special == {"<head>": 1}
