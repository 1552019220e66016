"""The command line: a table for a person, JSON for a program, and exit codes."""

import json
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
