"""A model is loaded, asked and scored."""

import json
from pathlib import Path

import pytest

from distill_app_evaluator.cli import main


def test_a_model_is_predicted_scored_and_written_down(
    marian: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known predictions give known values; JSON on stdout is metrics.json; the folder is sealed."""
    from distill_deploy import verify

    out = tmp_path / "result"
    arguments = [
        str(marian),
        "--data",
        str(examples),
        "--metrics",
        "per,exact_match",
        "--max-new-tokens",
        "4",
    ]
    assert main([*arguments, "--out", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found == json.loads((out / "metrics.json").read_text())
    assert (found["task"], found["n"], found["split"]) == ("seq2seq", 4, "all")
    assert found["metrics"]["exact_match"]["value"] == 25.0
    assert found["metrics"]["per"]["value"] == 100 * (0 + 1 + 4 + 3) / 16
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in rows] == ["a a a a"] * 4
    assert rows[1]["reference"] == "a a a b"
    assert verify(out).sealed
    assert "Predicting 4 examples" in printed.err


def test_the_default_is_a_table_of_what_can_be_scored(
    marian: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """References of three tokens have no BLEU: left out with a word, or refused if named."""
    short = tmp_path / "short.csv"
    short.write_text("source,target\nb c,a a a\nc d,a a b\n")
    assert main([str(marian), "--data", str(short), "--max-new-tokens", "3"]) == 0
    printed = capsys.readouterr()
    assert "exact_match" in printed.out
    assert "50.00 %" in printed.out
    assert "bleu" not in printed.out
    assert "Left out bleu" in printed.err
    assert main([str(marian), "--data", str(short), "--metrics", "bleu"]) == 2
    assert "Predicting" not in capsys.readouterr().err


def test_the_test_split_is_the_held_out_tenth(
    marian: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 20 rows about 2, always the same."""
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"source": f"a {i}", "target": "a a a a"}) for i in range(20)))
    arguments = [str(marian), "--data", str(data), "--metrics", "per", "--split", "test", "--json"]
    assert main([*arguments, "--max-new-tokens", "4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["n"] < 20
    assert found["metrics"]["per"]["value"] == 0.0


def test_a_damaged_model_is_a_failure_in_one_line(
    marian: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pickle in place of the weights: exit 1, no result."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in marian.iterdir():
        if path.suffix == ".json":
            (broken / path.name).write_bytes(path.read_bytes())
    (broken / "pytorch_model.bin").write_bytes(b"")
    assert main([str(broken), "--data", str(examples), "--metrics", "per"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("distill-eval: ")


def test_an_export_is_evaluated_like_the_model(
    marian: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file, the same predictions, from the folder that runs without torch."""
    from distill_deploy import export

    folder = tmp_path / "exported"
    export(marian, folder, task="seq2seq", precision="fp32", held_out=["b c d", "c d"], max_new_tokens=8)
    arguments = [str(folder), "--data", str(examples), "--metrics", "per", "--max-new-tokens", "4", "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["task"], found["metrics"]["per"]["value"]) == ("seq2seq", 50.0)
    assert "runs without torch" in printed.err
