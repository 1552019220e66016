"""The report on data: what is in it, what is wrong with it, what would be learnt."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from datasets import Dataset

from distill_datakit import DataError, check_data, load_data, split, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROWS = [
    {"source": "cat", "target": "K AE T"},
    {"source": "dog", "target": "D AO G"},
    {"source": "cab</s>", "target": "K AE B"},
    {"source": "dog", "target": "D AO G"},
    {"source": " ", "target": "K"},
    {"source": "bird", "target": None},
    {"source": "zebra", "target": "K ZZ"},
    {"source": "it's"},
]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A training file with one problem of each kind, and a test file that has leaked."""
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"source": "Cat ", "target": "K"}\n', encoding="utf-8")
    return {"train": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "b.jsonl")}


def test_every_problem_is_counted_and_named_by_file_row_and_field(
    files: dict[str, str], symbols: "PreTrainedTokenizerFast"
) -> None:
    """Wrong, empty, duplicate, special, unknown, leaked: each at its place."""
    report = check_data(files, symbols, "seq2seq")
    train, test = report.parts
    assert (train.name, train.rows, train.columns) == ("train", 6, ("source", "target"))
    assert train.counts == {"wrong": 2, "duplicate": 1, "special": 1, "empty": 1, "unknown": 2}
    found = {(one.kind, Path(one.file).name, one.row, one.field) for one in report.problems}
    assert found >= {
        ("wrong", "a.jsonl", 6, "target"), ("wrong", "a.jsonl", 8, "target"),
        ("duplicate", "a.jsonl", 4, None), ("special", "a.jsonl", 3, "source"),
        ("empty", "a.jsonl", 5, "source"), ("unknown", "a.jsonl", 7, "source"),
        ("unknown", "a.jsonl", 7, "target"), ("leak", "b.jsonl", 1, None)}  # fmt: skip
    assert train.unknown == {"z": 1, "e": 1, "ZZ": 1} or train.unknown == {"z": 1, "e": 1, "Z": 2}
    assert train.special == {"</s>": 1}
    (leak,) = report.leaks
    assert (leak.first, leak.second, leak.rows, leak.share) == ("train", "test", 1, 1.0)
    assert test.counts == {"unknown": 1, "leak": 1}
    assert not report.ok


def test_lengths_are_set_against_the_limits(symbols: "PreTrainedTokenizerFast") -> None:
    """The share of rows and of tokens that a limit takes away; what tokenize() keeps is the oracle."""
    data = load_data([{"source": "c" * n, "target": "K " * (10 - n)} for n in range(1, 10)])
    report = check_data(data, symbols, "seq2seq", max_source_length=5, max_target_length=3)
    source, target = report.parts[0].lengths
    assert (source.shortest, source.median, source.longest) == (2, 6, 10)
    assert sum(source.histogram) == 9
    full, kept = (tokenize(data, symbols, "seq2seq", **limits).data  # type: ignore[arg-type]  # checked there
                  for limits in ({}, {"max_source_length": 5, "max_target_length": 3}))  # fmt: skip
    for lengths, name in ((source, "input_ids"), (target, "labels")):
        before, after = ([len(ids) for ids in part[name]] for part in (full, kept))
        assert lengths.rows_cut == pytest.approx(sum(a < b for a, b in zip(after, before, strict=True)) / 9)
        assert lengths.tokens_cut == pytest.approx(1 - sum(after) / sum(before))


def test_good_data_is_said_to_be_good(words: Dataset, symbols: "PreTrainedTokenizerFast") -> None:
    """No problem, nothing refused, the same for rows, a dataset and its splits."""
    for data in (words, list(words), split(words, fractions=(0.6, 0.2, 0.2), exact=True)):
        report = check_data(data, symbols, "seq2seq")
        assert report.ok
        assert not report.problems
        assert sum(part.rows for part in report.parts) == 5


def test_previews_show_what_is_learnt(
    sentences: list[str],
    words: Dataset,
    symbols: "PreTrainedTokenizerFast",
    bpe: "PreTrainedTokenizerFast",
    wordpiece: "PreTrainedTokenizerFast",
) -> None:
    """Three rows as text, in pieces, for each task."""
    seq2seq = check_data(words, symbols, "seq2seq").previews
    assert seq2seq[0] == (("c a t </s> → ", False), ("K AE T </s>", True))
    assert len(seq2seq) == 3
    pairs = [{"prompt": "the cat", "completion": " sat"}]
    assert check_data(pairs, bpe, "causal").previews == (((("the cat", False), (" sat<|endoftext|>", True)),))
    masked = check_data([{"text": text} for text in sentences], wordpiece, "masked").previews[0]
    assert any(learnt for _, learnt in masked)
    assert masked[0][0].startswith("[CLS]")


def test_rows_without_anything_to_learn_are_counted(bpe: "PreTrainedTokenizerFast") -> None:
    """Chats that end with the user; conversations that a template refuses are wrong rows."""
    bpe.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    users = [[{"role": role, "content": "a"}] for role in ("user", "system")]
    report = check_data([{"messages": messages} for messages in users], bpe, "causal")
    assert report.parts[0].counts == {"wrong": 1, "unlearnt": 1}
    assert report.problems[0].field == "messages"
    assert not report.ok


def test_the_report_reads_well_and_is_plain_data(
    files: dict[str, str], symbols: "PreTrainedTokenizerFast"
) -> None:
    """Text without colour is text alone; with it what is learnt is green; the dictionary is JSON."""
    report = check_data(files, symbols, "seq2seq", max_source_length=3, examples=1)
    text = report.render()
    for said in (
        "leak: 1 rows (100.0%) of test are also in train",
        "a.jsonl, row 6, field 'target'",
        "limit 3 cuts 83.3% of rows",
        "c a </s> → »K AE T </s>«",
        "special tokens: '</s>' 1x",
    ):
        assert said in " ".join(text.split()), said
    assert "\x1b" not in text
    assert "\x1b[32mK AE T </s>" in report.render(colour=True)
    assert max(map(len, report.render(width=60).splitlines())) <= 60
    again = json.loads(json.dumps(report.to_dict()))
    assert again["ok"] is False
    assert again["parts"][0]["counts"]["wrong"] == 2
    assert sum(problem["kind"] == "wrong" for problem in again["problems"]) == 1


def test_data_that_cannot_be_looked_at_is_refused(
    tmp_path: Path, words: Dataset, wordpiece: "PreTrainedTokenizerFast"
) -> None:
    """No such file; columns that do not suit the task; arguments of another task."""
    with pytest.raises(DataError, match="no such file"):
        check_data(tmp_path / "none.csv", wordpiece, "masked")
    with pytest.raises(DataError, match="needs the columns"):
        check_data(words.remove_columns("target"), wordpiece, "masked")
    with pytest.raises(ValueError, match="prefix='a' is for seq2seq"):
        check_data(words, wordpiece, "masked", prefix="a")
