"""``distill-metrics HYP REF``."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import distill_metrics
from distill_metrics.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two systems and their references."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ref.txt").write_text("the cat sat on the mat\none two three four five\n")
    (tmp_path / "good.txt").write_text("the cat sat on the mat\none two three four six\n")
    (tmp_path / "bad.txt").write_text("the cat\none\n")
    (tmp_path / "bad2.txt").write_text("the cat\n\n")
    return tmp_path


def test_standard_input_stands_for_one_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predictions or references; not both."""
    for arguments in (["-", "ref.txt"], ["ref.txt", "-"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / "ref.txt").read_bytes())))
        assert main([*arguments, "--metrics", "cer", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["metrics"]["cer"]["value"] == 0.0
    assert main(["-", "-"]) == 2
    assert "named twice" in capsys.readouterr().err


@pytest.mark.extra("bertscore")  # noqa: S610 - a marker, not a query
def test_bertscore_and_its_baseline(folder: Path, encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The baseline that one command computes, the other rescales by; both refuse what does not fit."""
    (folder / "text.txt").write_text("the cat\na dog ran\nred sun\n\nold man saw house\n")
    given = ["--encoder", str(encoder)]
    assert main(["baseline", *given, "--text", "text.txt", "--out", "base.tsv", "--layer", "2"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("layer 2: P 0.")
    assert said.out.endswith("written to base.tsv\n")
    assert said.err == ""
    assert (folder / "base.tsv").read_text().startswith("LAYER,P,R,F\n2,")
    asked = ["good.txt", "ref.txt", "--metrics", "bertscore", *given, "--json", "--samples", "0"]
    assert main([*asked, "--layer", "2", "--rescale", "--baseline", "base.tsv"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert list(metrics) == ["bertscore_precision", "bertscore_recall", "bertscore_f1"]
    assert "baseline:0." in metrics["bertscore_f1"]["signature"]
    for arguments, message in (
        ([*asked, "--layer", "1", "--rescale", "--baseline", "base.tsv"], "base.tsv has no line for layer 1"),
        ([*asked, "--layer", "2", "--rescale"], "without a baseline"),
        (["baseline", *given, "--text", "none.txt", "--out", "b"], "no file none.txt"),
        (["baseline", *given, "--text", "text.txt", "--out", "b", "--layer", "9"], "allowed: 1 to 3"),
    ):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert message in printed.err


def test_a_table_and_json_of_one_system(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table rounds, JSON keeps every digit; rouge stands for four metrics."""
    assert main(["good.txt", "ref.txt", "--metrics", "rouge,wer"]) == 0
    table = capsys.readouterr().out
    header, row = table.splitlines()
    assert header.split()[:3] == ["2", "examples,", "percent"]
    assert header.split()[3:] == ["rouge1", "rouge2", "rougeL", "rougeLsum", "wer"]
    assert row.startswith("good.txt")
    assert row.count("[") == 5
    assert main(["good.txt", "ref.txt", "--metrics", "wer", "--json", "--samples", "100"]) == 0
    wer = json.loads(capsys.readouterr().out)["metrics"]["wer"]
    assert (wer["value"], wer["unit"], wer["n"]) == (100 / 11, "percent", 2)
    assert len(wer["interval"]) == 2
    assert "rapidfuzz" in wer["signature"]


def test_several_systems_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the first, in words and in JSON."""
    arguments = ["bad.txt", "good.txt", "ref.txt", "--metrics", "wer"]
    assert main(arguments) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[:3]] == ["2", "bad.txt", "good.txt"]
    assert len({len(line) for line in table[:3]}) == 1
    assert table[3].startswith("No difference shown between good.txt and bad.txt (wer")
    assert main([*arguments[:2], "bad2.txt", *arguments[2:]]) == 0
    assert capsys.readouterr().out.splitlines()[4] == "bad2.txt: 1 empty predictions, which score 0"
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["systems"]) == ["bad.txt", "good.txt"]
    assert found["comparisons"][0]["difference"] < 0


def test_json_lines_gzip_and_values_of_each_example(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects or strings a line; several references; one line an example comes out."""
    rows = [{"prediction": "a b"}, "c"]
    (folder / "p.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    (folder / "r.jsonl").write_text('{"references": ["a", "a b"]}\n{"target": "d"}\n')
    assert main(["p.jsonl.gz", "r.jsonl", "--metrics", "wer,exact_match", "--per-example", "out.jsonl"]) == 0
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [line["wer"] for line in lines] == [0.0, 100.0]
    assert [line["exact_match"] for line in lines] == [100.0, 0.0]
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good.txt", "ref.txt", "--metrics", "rougeN"], "There is no metric 'rougeN'. Did you mean 'rouge"),
        (["none.txt", "ref.txt"], "There is no file none.txt"),
        (["short.txt", "ref.txt"], "short.txt has 1 lines but ref.txt has 2"),
        (["blank.txt", "ref.txt"], "blank.txt: all 2 predictions are empty"),
        (["empty.txt", "ref.txt"], "empty.txt is empty"),
        (["latin1.txt", "ref.txt"], "latin1.txt, line 2 is not UTF-8"),
        (["number.jsonl", "ref.txt"], "number.jsonl, line 2: a string is needed, a int was found"),
        (["null.jsonl", "ref.txt"], "null.jsonl, line 1: a string is needed, a NoneType"),
        (
            ["key.jsonl", "ref.txt"],
            "key.jsonl, line 1 has none of the fields prediction, output, text; found: pred",
        ),
        (["broken.jsonl", "ref.txt"], "broken.jsonl, line 1 is not JSON"),
        (["not.gz", "ref.txt"], "not.gz cannot be read"),
        (["good.txt", "number.jsonl"], "number.jsonl, line 2: a string or a list of strings"),
        (["good.txt", "good.txt", "ref.txt"], "named twice"),
        (["good.txt", "ref.txt", "--metrics", "rouge", "--tokenizer", "x"], "no tokenizer 'x'"),
        (["good.txt", "blank.txt"], "blank.txt: The reference of line 1 is empty"),
        (["good.txt", "other.txt"], "other.txt: The reference of line 2 is '猫', which the tokenizer"),
        (
            ["good.txt", "ref.txt", "--metrics", "bertscore"],
            "bertscore_precision needs an encoder: --encoder",
        ),
        (["good.txt", "ref.txt", "--known-as", "x"], "--known-as is for BERTScore"),
        (["good.txt", "ref.txt", "--per-example", "none/out.jsonl"], "none/"),
    ],
)
def test_input_that_cannot_be_scored_is_one_line_and_exit_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """File and row are named, and nothing is printed that looks like a score."""
    (folder / "short.txt").write_text("one\n")
    (folder / "other.txt").write_text("cat\n猫\n")
    (folder / "blank.txt").write_text("\n \n")
    (folder / "empty.txt").write_text("")
    (folder / "latin1.txt").write_bytes(b"a\n\xe9\n")
    (folder / "number.jsonl").write_text('"a"\n5\n')
    (folder / "null.jsonl").write_text('{"text": null}\n"b"\n')
    (folder / "key.jsonl").write_text('{"pred": "a"}\n"b"\n')
    (folder / "broken.jsonl").write_text("{\n}\n")
    (folder / "not.gz").write_text("x")
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("distill-metrics: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_the_version_is_printed_by_the_command_and_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    """``distill-metrics --version`` and ``python -m distill_metrics --version``, with exit code 0."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"distill-metrics {distill_metrics.__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "distill_metrics", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"distill-metrics {distill_metrics.__version__}\n"
