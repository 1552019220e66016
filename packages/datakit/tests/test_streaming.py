"""Preparing in one pass: the same as load, split and tokenize, kept on disk by content."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from datasets import Dataset, DatasetDict

from distill_datakit import (
    DataError,
    DroppedRowsWarning,
    SpecialTokensWarning,
    load_data,
    split,
    tokenize,
    tokenize_to_disk,
    train_tokenizer,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROWS = [
    {"source": f"{a}{b}", "target": f"{a.upper()} {b.upper()}", **({"note": "x"} if a == b else {})}
    for a in "abcdefghijklmnop" for b in "abcdefghijklmnop"
]  # fmt: skip


@pytest.fixture(scope="module")
def letters() -> "PreTrainedTokenizerFast":
    """A symbols tokenizer of the rows."""
    return train_tokenizer([row["source"] for row in ROWS], targets=[row["target"] for row in ROWS])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The rows as JSONL, 1,280 of them: more than a batch."""
    made = tmp_path / "rows.jsonl"
    made.write_text("".join(json.dumps(row | {"n": n}) + "\n" for n in range(5) for row in ROWS))
    return made


def without_ids(data: "Dataset | DatasetDict") -> dict[str, list[object]]:
    """Each part's rows but for ``row_id``."""
    assert isinstance(data, DatasetDict)
    return {name: list(part.remove_columns("row_id")) for name, part in data.items()}


def test_one_pass_gives_what_three_functions_give(
    path: Path, tmp_path: Path, letters: "PreTrainedTokenizerFast"
) -> None:
    """Rows, parts and fingerprint, also with a key and several workers; each row has its own number."""
    for given in ({}, {"key": "source"}):
        three = tokenize(split(load_data(path), **given), letters, "seq2seq", max_target_length=2)  # type: ignore[arg-type]  # a column or nothing
        one = tokenize_to_disk(path, letters, "seq2seq", tmp_path / "out", max_target_length=2, **given)  # type: ignore[arg-type]  # the same
        assert without_ids(one.data) == without_ids(three.data)
        assert one.fingerprint == three.fingerprint
        assert sorted(n for part in one.data.values() for n in part["row_id"]) == list(range(1280))
    two = tokenize_to_disk(path, letters, "seq2seq", tmp_path / "other", max_target_length=2, workers=2)
    first = tokenize_to_disk(path, letters, "seq2seq", tmp_path / "out", max_target_length=2)
    assert {name: list(part) for name, part in two.data.items()} == {
        name: list(part) for name, part in first.data.items()
    }
    whole = tokenize_to_disk(path, letters, "seq2seq", tmp_path / "out", fractions=None)
    assert list(whole.data) == list(tokenize(load_data(path), letters, "seq2seq").data)


def test_results_are_kept_by_content_and_settings(
    path: Path, tmp_path: Path, letters: "PreTrainedTokenizerFast"
) -> None:
    """The same rows elsewhere are found again; new content under the same size and time is not."""
    out = tmp_path / "out"
    tokenize_to_disk(path, letters, "seq2seq", out)
    (kept,) = out.iterdir()
    before = (kept / "train.arrow").stat().st_mtime_ns
    elsewhere = shutil.copy(path, tmp_path / "elsewhere.jsonl")
    tokenize_to_disk(elsewhere, letters, "seq2seq", out)
    assert [found.name for found in out.iterdir()] == [kept.name]
    assert (kept / "train.arrow").stat().st_mtime_ns == before
    stat = path.stat()
    path.write_text(path.read_text().replace('"A A"', '"B B"'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = tokenize_to_disk(path, letters, "seq2seq", out)
    assert (
        changed.fingerprint["data"]
        != tokenize_to_disk(elsewhere, letters, "seq2seq", out).fingerprint["data"]
    )
    for given in ({"max_target_length": 1}, {"seed": 1}, {"key": "source"}, {"fractions": (0.5, 0.25, 0.25)}):
        count = len(list(out.iterdir()))
        tokenize_to_disk(path, letters, "seq2seq", out, **given)
        assert len(list(out.iterdir())) == count + 1


def test_a_damaged_result_is_made_anew(
    path: Path, tmp_path: Path, letters: "PreTrainedTokenizerFast"
) -> None:
    """A flipped byte, a missing file, a manifest that is none, a pass that was interrupted."""
    out = tmp_path / "out"
    good = without_ids(tokenize_to_disk(path, letters, "seq2seq", out).data)
    (kept,) = out.iterdir()
    arrow, manifest = kept / "test.arrow", kept / "manifest.json"
    whole = arrow.read_bytes()
    for damage in (
        lambda: arrow.write_bytes(whole[:-99] + bytes([whole[-99] ^ 1]) + whole[-98:]),
        arrow.unlink,
        lambda: manifest.write_text("{"),
        manifest.unlink,
    ):
        damage()
        assert without_ids(tokenize_to_disk(path, letters, "seq2seq", out).data) == good
    bad = tmp_path / "bad.jsonl"
    bad.write_text(path.read_text() + "{")
    with pytest.raises(DataError, match="row 1281: not valid JSON"):
        tokenize_to_disk(bad, letters, "seq2seq", out)
    assert [found.name for found in out.iterdir()] == [kept.name]


def test_what_is_dropped_or_escaped_is_said_each_time(
    tmp_path: Path, letters: "PreTrainedTokenizerFast"
) -> None:
    """Also when the result is taken from disk; rows in memory and columns under other names do."""
    rows = [{"word": row["source"], "target": row["target"]} for row in ROWS]
    rows += [{"word": "a", "target": None}, {"word": "</s>", "target": "A"}]  # type: ignore[dict-item]  # wrong on purpose
    for _ in range(2):
        with (
            pytest.warns(DroppedRowsWarning, match=r"1 of 258 rows dropped; first: the given rows, row 257"),
            pytest.warns(SpecialTokensWarning, match="1 texts"),
        ):
            done = tokenize_to_disk(
                rows,
                letters,
                "seq2seq",
                tmp_path,
                on_error="drop",
                columns={"source": "word"},
                fractions=None,
            )
    assert len(done.data) == 257
    assert done.data["row_id"][:] == list(range(257))


def test_what_cannot_be_prepared_is_refused(tmp_path: Path, letters: "PreTrainedTokenizerFast") -> None:
    """Empty parts, unknown keys, shares that are none, no usable row; nothing is left behind."""
    with pytest.raises(DataError, match="exact=True"):
        tokenize_to_disk(ROWS[:3], letters, "seq2seq", tmp_path)
    with pytest.raises(DataError, match="no such column"):
        tokenize_to_disk(ROWS, letters, "seq2seq", tmp_path, key="nothing")
    with pytest.raises(ValueError, match="sum to 1"):
        tokenize_to_disk(ROWS, letters, "seq2seq", tmp_path, fractions=(1, 1, 1))
    with pytest.raises(DataError, match="no usable row"):
        tokenize_to_disk([{"source": None, "target": "A"}], letters, "seq2seq", tmp_path, on_error="drop")
    with pytest.raises(DataError, match="none of 256 rows has a token"):
        tokenize_to_disk(
            [{"messages": [{"role": "user", "content": row["source"]}]} for row in ROWS], letters, "causal",
            tmp_path, fractions=None, chat_template="{{ messages[0]['content'] }}")  # fmt: skip
    assert not list(tmp_path.iterdir())
