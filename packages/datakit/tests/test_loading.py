"""Loading: shapes, formats, text that stays text, problems that name their place."""

import gzip
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_datakit import DataError, DroppedRowsWarning, OptionError, inspect_columns, load_data

PAIRS = [{"source": "a", "target": "NA"}, {"source": "null", "target": 'quo"te, ü'}]


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    """JSONL, gzip, CSV, TSV, Parquet and memory agree; "NA" and "null" are strings."""
    lines = "".join(json.dumps(row) + "\n" for row in PAIRS)
    (tmp_path / "a.jsonl").write_text("\ufeff" + lines + "\n", encoding="utf-8")
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write(lines)
    (tmp_path / "a.csv").write_text('source,target\na,NA\nnull,"quo""te, ü"\n', encoding="utf-8")
    (tmp_path / "a.tsv").write_text('source\ttarget\na\tNA\nnull\tquo"te, ü\n', encoding="utf-8")
    load_data(PAIRS).to_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv", "a.parquet"):
        assert list(load_data(tmp_path / name)) == PAIRS, name
        assert inspect_columns(tmp_path / name) == ("source", "target"), name
    assert list(load_data(PAIRS)) == PAIRS


def test_plain_text_is_one_example_a_line_and_a_folder_one_a_file(tmp_path: Path) -> None:
    """Blank lines are no examples; files come sorted by name."""
    (tmp_path / "b.txt").write_text("one\n\ntwo\r\n", encoding="utf-8")
    assert load_data(tmp_path / "b.txt")["text"][:] == ["one", "two"]
    (tmp_path / "a.txt").write_text("first\nfile", encoding="utf-8")
    assert load_data(tmp_path)["text"][:] == ["first\nfile", "one\n\ntwo\n"]
    assert inspect_columns(tmp_path / "b.txt") == ("text",)


def test_arrow_files_and_folders_of_datasets_are_read(tmp_path: Path) -> None:
    """Streams, as datasets writes them, and files; of a folder with several splits the one that is named."""
    import pyarrow as pa  # type: ignore[import-untyped]  # it publishes no types
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list(PAIRS)
    data.save_to_disk(tmp_path / "one", num_shards=2)
    DatasetDict(train=data, test=data.select([1])).save_to_disk(tmp_path / "two")
    DatasetDict(train=data).save_to_disk(tmp_path / "single")
    with pa.ipc.new_file(tmp_path / "a.arrow", data.data.table.schema) as writer:
        writer.write_table(data.data.table)
    for name in ("one", "single", "two/train", "one/data-00000-of-00002.arrow", "a.arrow"):
        found = list(load_data(tmp_path / name))
        assert found == (PAIRS[:1] if "00000" in name else PAIRS), name
        assert inspect_columns(tmp_path / name) == ("source", "target"), name
    assert list(load_data(tmp_path / "two", split="test")) == PAIRS[1:2]
    assert list(load_data(data)) == PAIRS
    with pytest.raises(DataError, match="several splits; there are train, test"):
        load_data(tmp_path / "two")
    with pytest.raises(DataError, match="no split 'dev'"):
        load_data(tmp_path / "two", split="dev")
    (tmp_path / "one" / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="not a folder that datasets saved"):
        load_data(tmp_path / "one")
    (tmp_path / "b.arrow").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not a readable Arrow"):
        load_data(tmp_path / "b.arrow")


def test_hub_datasets_are_read_from_what_was_downloaded_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network the cache of datasets serves; what it lacks is an error that names the dataset."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    folder = tmp_path / "someone___words" / "default" / "0.0.0" / "0123456789abcdef"
    folder.mkdir(parents=True)
    data = datasets.Dataset.from_list(PAIRS)
    with datasets.arrow_writer.ArrowWriter(path=str(folder / "words-train.arrow")) as writer:
        writer.write_table(data.data.table)
        writer.finalize()
    splits = {"train": {"name": "train", "num_examples": len(PAIRS), "dataset_name": "words"}}
    info = {"builder_name": "parquet", "dataset_name": "words", "config_name": "default", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    assert list(load_data("someone/words")) == PAIRS
    with pytest.raises(DataError, match=r"someone/else: neither a local file nor a dataset"):
        load_data("someone/else")
    with pytest.raises(DataError, match="no such file"):
        load_data("someone/words.jsonl")


def test_new_content_under_an_old_name_is_read(tmp_path: Path) -> None:
    """Also when size and time of the file are what they were."""
    path = tmp_path / "a.txt"
    path.write_text("cat", encoding="utf-8")
    before = path.stat()
    assert load_data(path)["text"][:] == ["cat"]
    path.write_text("dog", encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_data(path)["text"][:] == ["dog"]


def test_columns_are_mapped_and_others_kept() -> None:
    """Our name -> theirs; references and further columns stay."""
    data = load_data(
        [{"word": "a", "phones": "A", "references": ["A", "B"], "n": 1}],
        columns={"source": "word", "target": "phones"},
    )
    assert list(data) == [{"source": "a", "target": "A", "references": ["A", "B"], "n": 1}]
    assert load_data([{"word": "a"}], columns={"source": "word"}).column_names == ["source"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"source": "a", "target": 5}', "row 2, field 'target': 5 (int)"),
        ('{"source": "a", "target": null}', "row 2, field 'target': nothing"),
        ('{"source": "a", "tagret": "x"}', "Did you mean 'tagret'"),
        ('{"source": "a", "target": "\\ud800"}', "row 2, field 'target': holds half a surrogate"),
        ('{"source": "a", "target": "x"', "row 2: not valid JSON"),
        ('{"source": "a", "source": "x"}', "row 2: not valid JSON: the key 'source' occurs twice"),
        ('["a"]', "row 2: a list; each line must be an object"),
        ("[" * 100_000, "row 2"),
        ('{"source": "a", "target": "x", "references": "x"}', "field 'references': must be a list of texts"),
    ],
)
def test_a_wrong_row_is_named_or_dropped_with_a_count(tmp_path: Path, line: str, says: str) -> None:
    """The error names file, row and field; on_error="drop" keeps the others and warns."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"source": "a", "target": "b"}\n' + line + '\n{"source": "c", "target": "d"}\n', encoding="utf-8"
    )
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301  # our own error
    with pytest.warns(DroppedRowsWarning, match="1 of 3 rows dropped"):
        assert load_data(path, on_error="drop")["source"][:] == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("source,target\na,b\nc\n", "row 3: 1 cells"),
        ('source,target\na,"b\n', "Check the quotes"),
        ("source,source\na,b\n", "names a column twice"),
        ("source,target\n", "holds no usable row"),
        ("sorce,x\na,b\n", "Did you mean 'source'"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """Ragged rows, open quotes, double or unknown headers and no rows."""
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    """Missing, of unknown type, not UTF-8, damaged gzip, damaged Parquet."""
    with pytest.raises(DataError, match="no such file"):
        load_data(tmp_path / "none.jsonl")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match="unknown file type"):
        inspect_columns(tmp_path / "a.xlsx")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match="not UTF-8"):
        load_data(tmp_path / "a.txt")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        load_data(tmp_path / "a.jsonl.gz")
    (tmp_path / "a.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(DataError, match="not a readable Parquet"):
        load_data(tmp_path / "a.parquet")
    (tmp_path / "e.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match="holds no row"):
        inspect_columns(tmp_path / "e.jsonl")
    with pytest.raises(OptionError) as wrong:
        load_data(PAIRS, on_error="ignore")  # type: ignore[arg-type]  # wrong on purpose
    assert (wrong.value.field, wrong.value.allowed) == ("on_error", ("refuse", "drop"))


def test_looking_at_columns_loads_nothing_heavy(tmp_path: Path) -> None:
    """Importing the package and reading a header imports no torch, transformers or datasets."""
    path = write(tmp_path / "a.jsonl", PAIRS * 1000)
    code = (
        "import sys, distill_datakit as d\n"
        f"assert d.inspect_columns({str(path)!r}) == ('source', 'target')\n"
        "assert d.TokenizedData and d.TokenizerError and set(d.__all__) <= set(dir(d))\n"
        "assert d.__version__\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    start = time.perf_counter()
    inspect_columns(path)
    assert time.perf_counter() - start < 0.05


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=8))
def test_any_text_survives_jsonl(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    """What was written is what is read, NUL, line separators and all."""
    given_rows = [{"source": a, "target": b} for a, b in rows]
    path = write(tmp_path_factory.mktemp("any") / "a.jsonl", given_rows)
    assert list(load_data(path)) == given_rows


def test_messages_are_checked() -> None:
    """Every message has a role and a content of text."""
    good = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}]
    assert load_data(good)[0]["messages"] == good[0]["messages"]
    with pytest.raises(DataError, match=r"field 'messages': message 1, content: nothing"):
        load_data([{"messages": [{"role": "user"}]}])
    with pytest.raises(DataError, match="must be a list of"):
        load_data([{"messages": "hi"}])


def test_values_that_do_not_agree_in_type_are_refused() -> None:
    """A further column of numbers and texts is named."""
    with pytest.raises(DataError, match="field 'n'"):
        load_data([{"text": "a", "n": 1}, {"text": "b", "n": "x"}])


def test_quotation_marks_in_a_tsv_are_characters(tmp_path: Path) -> None:
    """No row is swallowed, unless quotes are asked for; a CSV keeps its quoting."""
    lines = [
        "Good day.\tBonjour.",
        '"I am tired.\tJe suis.',
        'I go."\tJe rentre."',
        '"So?" she said.\tQuoi ?',
    ]
    path = tmp_path / "a.tsv"
    path.write_text("source\ttarget\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert ["\t".join(map(str, row.values())) for row in load_data(path)] == lines
    path.write_text('"source"\ttarget\n"a\tb"\t"c\nd"\n', encoding="utf-8")
    with pytest.raises(DataError):
        load_data(path)
    path.write_text('source\ttarget\n"a\tb"\t"c\nd"\n', encoding="utf-8")
    assert list(load_data(path, quotes=True)) == [{"source": "a\tb", "target": "c\nd"}]
    csv = tmp_path / "a.csv"
    csv.write_text('source,target\n"a,b","c\nd"\n', encoding="utf-8")
    assert list(load_data(csv)) == [{"source": "a,b", "target": "c\nd"}]
    csv.write_text('source,target\n"a,b"\n', encoding="utf-8")
    assert list(load_data(csv, quotes=False)) == [{"source": '"a', "target": 'b"'}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_long_cells_load(tmp_path: Path, name: str) -> None:
    """A document of more than 128 KiB is a cell like others."""
    path = tmp_path / name
    path.write_text("text\n" + "word " * 40_000 + "\n", encoding="utf-8")
    assert len(str(load_data(path)[0]["text"])) == 200_000


@pytest.mark.parametrize(
    ("text", "row", "field"),
    [
        ('source,target\na,b\nc,"d\ne,f\ng,h\n', 3, "target"),
        ('source,target\na,b\n"c,d\ne,f\ng,h"i,j\n', 3, "source"),
        ('source,target\na,b\n"c\nd"\ne,f\n', 3, "source"),
    ],
)
def test_a_cell_that_took_in_lines_is_named(tmp_path: Path, text: str, row: int, field: str) -> None:
    """The line where it begins and its column, not the line where reading failed."""
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="quotation mark takes in lines 3 to ") as caught:
        load_data(path)
    assert (caught.value.row, caught.value.field) == (row, field)
