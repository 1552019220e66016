"""Models are loaded, asked, scored and compared."""

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from distill_app_evaluator import UsageError, check_request
from distill_app_evaluator.cli import main
from distill_app_evaluator.examples import read_examples

WriteRows = Callable[[Path, Sequence[Mapping[str, object]]], Path]


def test_a_model_is_predicted_scored_and_written_down(
    marian: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known predictions give known values; JSON on stdout is metrics.json; the folder is sealed."""
    from distill_deploy import verify

    out = tmp_path / "new" / "result"
    arguments = [str(marian), "--data", str(examples), "--metrics", "per,exact_match", "--json"]
    assert main([*arguments, "--max-new-tokens", "4", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found == json.loads((out / "metrics.json").read_text())
    assert (found["n"], found["split"], found["metrics"]) == (4, "all", ["per", "exact_match"])
    assert found["comparisons"] == []
    system = found["systems"]["says_a"]
    assert (system["kind"], system["role"], system["task"]) == ("model", "model", "seq2seq")
    assert system["bytes"] == (marian / "model.safetensors").stat().st_size
    assert system["metrics"]["exact_match"]["value"] == 25.0
    assert system["metrics"]["per"]["value"] == 100 * (0 + 1 + 4 + 3) / 16
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in rows] == ["a a a a"] * 4
    assert rows[1]["reference"] == "a a a b"
    assert rows[1]["metrics"] == {"per": 25.0, "exact_match": 0.0}
    assert verify(out).has_manifest
    assert "says_a: 4 rows" in printed.err


def test_models_are_compared_with_each_other_and_their_teacher(
    saying: Callable[[str], Path], write_rows: WriteRows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 rows of "a" and 10 of "b": who is better, what is kept of the teacher; a file each."""
    rows = [
        {"word": "b c", "right": " ".join(4 * kind), "kind": kind, "n": i}
        for i, kind in enumerate(["a"] * 30 + ["b"] * 10)
    ]
    data, out = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    arguments = [str(saying("b")), str(saying("c")), "--teacher", str(saying("a")), "--data", str(data)]
    arguments += ["--columns", "source=word,target=right", "--metrics", "exact_match,per"]
    arguments += ["--max-new-tokens", "4", "--slices", "kind", "--samples", "2"]
    assert main([*arguments, "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["role"] for one in found["systems"].values()] == ["model", "model", "teacher"]
    assert found["systems"]["says_b"]["retention"]["exact_match"]["value"] == pytest.approx(100 * 25 / 75)
    assert "retention" not in found["systems"]["says_a"]
    versus = {(one["first"], one["second"]): one for one in found["comparisons"] if one["metric"] == "per"}
    assert set(versus) == {("says_b", "says_c"), ("says_b", "says_a"), ("says_c", "says_a")}
    assert versus["says_b", "says_a"]["difference"] == 50.0
    assert versus["says_b", "says_a"]["better"] == "says_a"
    parts = found["slices"]["parts"]
    assert (found["slices"]["by"], {label: part["n"] for label, part in parts.items()}) == (
        "kind",
        {"a": 30, "b": 10},
    )
    assert parts["b"]["systems"]["says_b"]["exact_match"]["value"] == 100.0
    assert found["samples"]["ranked_by"] == "exact_match"
    assert found["samples"]["rows"][0]["answers"]["says_a"] == found["samples"]["rows"][0]["reference"]
    for name in ("says_a", "says_b", "says_c"):
        assert len((out / "predictions" / f"{name}.jsonl").read_text().splitlines()) == 40


def test_people_read_tables_sentences_and_the_worst_rows(
    saying: Callable[[str], Path], write_rows: WriteRows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Values, who is better, which part, what was said; control characters of a text are spelt out."""
    rows = [{"source": "b\x1b[31m c", "target": "a a a a"} for _ in range(10)]
    data = write_rows(tmp_path / "rows.jsonl", [*rows, *5 * [{"source": "b", "target": "a a a a c"}]])
    arguments = [
        str(saying("b")),
        "--teacher",
        str(saying("a")),
        "--data",
        str(data),
        "--max-new-tokens",
        "4",
    ]
    assert main([*arguments, "--metrics", "token_f1", "--slices", "length", "--samples", "1"]) == 0
    printed = capsys.readouterr()
    assert "96.30 %" in printed.out
    assert "kept of says_a" in printed.out
    assert "says_a is better than says_b (token_f1 says_b - says_a" in printed.out
    assert "4 to 4 words" in printed.out
    assert "In the slice '4 to 4 words': says_a is better" in printed.out
    assert "No difference shown in 1 other comparison of slices." in printed.out
    assert "The 1 worst of says_b by token_f1:" in printed.out
    assert "\\x1b[31m c" in printed.out
    assert "\x1b" not in printed.out
    assert "a a a a   (100.00 %)" in printed.out
    assert "says_b" in printed.err


def test_a_masked_model_fills_the_masks(
    bert: Path, write_rows: WriteRows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is right is the whole text; of two one is filled right."""
    rows = [{"text": "b [MASK] c", "label": right} for right in ("b a c", "b d c")]
    data = str(write_rows(tmp_path / "rows.jsonl", rows))
    arguments = [str(bert), "--data", data, "--metrics", "exact_match", "--samples", "2", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    system = found["systems"]["bert"]
    assert (system["task"], system["metrics"]["exact_match"]["value"]) == ("masked", 50.0)
    assert [row["answers"]["bert"] for row in found["samples"]["rows"]] == ["b a c", "b a c"]


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
    assert "1/1" not in capsys.readouterr().err


def test_the_test_split_is_the_held_out_tenth(
    looks_like_a_model: Path, write_rows: WriteRows, tmp_path: Path
) -> None:
    """Of 20 rows about 2, always the same; of 2 rows none, which is said with a way out."""
    rows = [{"source": f"a {i}", "target": "a a a a"} for i in range(20)]
    model = str(looks_like_a_model)
    data = str(write_rows(tmp_path / "rows.jsonl", rows))
    held_out = read_examples(check_request(models=[model], data=data, split="test").rows)
    assert 0 < len(held_out.inputs) < 20
    assert set(held_out.inputs) < {row["source"] for row in rows}
    few = str(write_rows(tmp_path / "few.jsonl", rows[:2]))
    with pytest.raises(UsageError, match=r"would be empty.*--split all"):
        read_examples(check_request(models=[model], data=few, split="test").rows)


def test_a_damaged_model_is_a_failure_in_one_line(
    marian: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that are none: exit 1, no result; with --debug it is a traceback."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in marian.iterdir():
        (broken / path.name).write_bytes(path.read_bytes() if path.suffix == ".json" else b"\0" * 100)
    arguments = [str(broken), "--data", str(examples), "--metrics", "per"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("error: ")
    with pytest.raises(Exception, match="broken failed: "):
        main([*arguments, "--debug"])


def test_a_model_that_says_nothing_is_a_failure(
    saying: Callable[[str], Path], examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends at once, every time: named, and nothing is scored."""
    assert main([str(saying("</s>")), "--data", str(examples), "--metrics", "per"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "All 4 answers of says_s are empty" in printed.err


def test_an_interruption_is_exit_130_and_leaves_nothing(
    marian: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Ctrl-C does, from a timer, in the middle of the work."""
    before = sorted(tmp_path.iterdir())
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        code = main(
            [str(marian), "--data", str(examples), "--max-new-tokens", "100", "--out", str(tmp_path / "out")]
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert code == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith("error: interrupted; nothing was written\n")
    assert sorted(tmp_path.iterdir()) == before


def test_an_export_is_compared_with_the_model_it_was_made_from(
    marian: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder that runs without torch says the same: no difference, everything kept."""
    from distill_deploy import export

    folder = tmp_path / "exported"
    export(marian, folder, task="seq2seq", precision="fp32", held_out=["b c d", "c d"], max_new_tokens=8)
    arguments = [str(folder), "--teacher", str(marian), "--data", str(examples), "--metrics", "per,token_f1"]
    assert main([*arguments, "--max-new-tokens", "4", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    system = found["systems"]["exported"]
    assert (system["kind"], system["task"], system["metrics"]["per"]["value"]) == ("export", "seq2seq", 50.0)
    assert system["bytes"] == (folder / "model.bin").stat().st_size
    assert system["retention"]["token_f1"]["value"] == 100.0
    assert {(one["difference"], one["better"]) for one in found["comparisons"]} == {(0.0, None)}
    assert "exported is an export: it runs without torch" in printed.err
