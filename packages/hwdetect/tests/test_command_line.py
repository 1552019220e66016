"""The command line: a table for a person, JSON for a program, and exit codes."""

import io
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from distill_hwdetect.cli import main

T4 = str(Path(__file__).parent / "profiles" / "nvidia-t4-colab.json")


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Return a folder with the configuration of a T5."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}), encoding="utf-8")
    return str(tmp_path)


def test_without_arguments_it_prints_machine_policy_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    """Every field of the policy has a line."""
    assert main([]) == 0
    text = capsys.readouterr().out
    for word in ("machine", "compute_dtype", "optimizer", "ipex", "memory"):
        assert f"\n{word}" in f"\n{text}"


def test_json_holds_profile_and_policy(capsys: pytest.CaptureFixture[str], model: str) -> None:
    """A recorded machine and a model give the policy; options stand before or after the command."""
    for arguments in (
        ["--json", "--profile", T4, "plan", "--model", model, "--train"],
        ["plan", "--model", model, "--train", "--json", "--profile", T4],
    ):
        assert main(arguments) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["profile"]["accelerators"][0]["name"] == "Tesla T4"
        dtype = answer["policy"]["compute_dtype"]
        assert (dtype["value"], dtype["rule"]) == ("float32", "dtype-family-float32")
        assert dtype["rejected"]


def test_its_own_json_is_a_profile_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str
) -> None:
    """``--profile`` reads what ``--json`` wrote."""
    main(["--json", "--profile", T4])
    first = capsys.readouterr().out
    (tmp_path / "machine.json").write_text(first, encoding="utf-8")
    main(["--json", "--profile", str(tmp_path / "machine.json")])
    assert json.loads(capsys.readouterr().out) == json.loads(first)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--set", "compute_dtype=bfloat16"], "emulates it"),
        (["--set", "thread=2"], "Did you mean 'threads'"),
        (["--set", "threads"], "FIELD=VALUE"),
        (["--batch", "0"], "effective_batch"),
        (["--teacher", "nowhere"], "does not exist"),
    ],
)
def test_a_wrong_wish_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], model: str, extra: list[str], words: str
) -> None:
    """The reason goes to stderr, nothing to stdout."""
    assert main(["--profile", T4, "plan", "--model", model, *extra]) == 2
    answer = capsys.readouterr()
    assert words in answer.err
    assert (answer.out, answer.err.count("\n")) == ("", 1)


def test_a_model_that_would_not_fit_is_exit_code_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The plan is printed all the same, with its verdict."""
    wide = {"model_type": "llama", "hidden_size": 16384, "num_hidden_layers": 200, "num_attention_heads": 128}
    (tmp_path / "config.json").write_text(json.dumps(wide), encoding="utf-8")
    assert main(["--profile", T4, "plan", "--model", str(tmp_path), "--train"]) == 3
    assert "WOULD NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["explain", "compute_dtype", "--profile", T4], 0, "rule      dtype-cuda-float16"),
        (["--profile", T4, "explain", "optimizer"], 0, "rejected"),
        (["doctor", "--profile", T4], 0, "Nothing is missing"),
        (["rules"], 0, "| `compute_dtype` | dtype-cuda-float16 |"),
    ],
)
def test_commands_for_a_person(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    """One field in full, findings, the table of rules."""
    assert main(arguments) == code
    assert words in capsys.readouterr().out


def test_explain_takes_a_model_and_names_a_wrong_field(
    capsys: pytest.CaptureFixture[str], model: str
) -> None:
    """The family decides; a field that is none is exit code 2 with the nearest."""
    assert main(["explain", "compute_dtype", "--profile", T4, "--model", model, "--train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rule"] == "dtype-family-float32"
    assert main(["explain", "optimiser", "--profile", T4]) == 2
    assert "Did you mean 'optimizer'" in capsys.readouterr().err


def test_doctor_ends_with_1_where_something_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a script can stop there; the JSON is a list of findings."""
    broken = str(Path(T4).with_name("nvidia-p100-kaggle.json"))
    assert main(["doctor", "--profile", broken, "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert set(finding) == {"subject", "problem", "command", "broken"}


def test_what_record_writes_is_read_by_profile(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A bug report is a fixture: it is planned as the machine that wrote it."""
    assert main(["record"]) == 0
    recording = capsys.readouterr().out
    (tmp_path / "mine.json").write_text(recording, encoding="utf-8")
    assert main(["--json", "--profile", str(tmp_path / "mine.json")]) == 0
    replayed = json.loads(capsys.readouterr().out)
    assert replayed["profile"]["cpu"]["logical_cores"] == json.loads(recording)["raw"]["os_cpu_count"]
    assert main(["record", "--profile", T4]) == 2
    assert "describes this machine" in capsys.readouterr().err


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """The command and the module print the same line."""
    expected = f"distill-hwdetect {version('distill-hwdetect')}\n"
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == expected
    module = [sys.executable, "-m", "distill_hwdetect", "--version"]
    assert subprocess.run(module, capture_output=True, text=True, check=True).stdout == expected


def test_a_classifier_needs_the_task(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its architectures do not say what it is to be planned for."""
    content = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    asked = ["--profile", T4, "plan", "--model", str(tmp_path)]
    assert main(asked) == 2
    assert "BertForSequenceClassification" in capsys.readouterr().err
    assert main([*asked, "--task", "masked"]) == 0


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_and_no_color_turns_them_off(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    """no-color.org: any value that is not empty; a pipe gets none either way (see the other tests)."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["--profile", T4]) == 0
    assert ("\x1b[" in terminal.getvalue()) == coloured
