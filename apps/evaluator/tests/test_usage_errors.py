"""What cannot be done is said in one line, before anything heavy is imported."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import distill_app_evaluator
from distill_app_evaluator.cli import main
from distill_app_evaluator.request import UsageError, base_of, check_request


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "t5"}')
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "--data", "examples.jsonl", "--metrics", "rougel"], "Did you mean 'rougeL'?"),
        (
            ["model", "--data", "exampels.jsonl"],
            "There is no file exampels.jsonl. Did you mean examples.jsonl?",
        ),
        (["modl", "--data", "examples.jsonl"], "There is no folder modl. Did you mean model?"),
        (["nowhere/model", "--data", "examples.jsonl"], "Nor is there a folder nowhere."),
        (["examples.jsonl", "--data", "examples.jsonl"], "examples.jsonl is a file"),
        (["empty", "--data", "examples.jsonl"], "empty is no model: it holds none of config.json"),
        ([".", "--data", "examples.jsonl"], "Models below it: model."),
        (["model", "--data", "column.jsonl"], "one of references, target, completion, label is needed"),
        (["model", "--data", "examples.jsonl", "--split", "train"], "allowed: test, all"),
        (["model", "--data", "examples.jsonl", "--task", "seq2sec"], "allowed: causal, seq2seq, masked"),
        (["model", "--data", "examples.jsonl", "--beams", "0"], "--beams 0 was asked for"),
        (["model", "--data", "examples.jsonl", "--out", "empty"], "empty exists"),
        (["model", "--data", "damaged.jsonl"], "damaged.jsonl"),
    ],
)
def test_what_cannot_be_done_is_exit_2_and_one_line(
    arguments: list[str],
    message: str,
    model: Path,
    examples: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was found, what is allowed, the nearest right spelling; nothing on stdout, nothing left behind."""
    monkeypatch.chdir(model.parent)
    Path("empty").mkdir()
    Path("column.jsonl").write_text('{"source": "a", "targt": "b"}\n')
    Path("damaged.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "a", "target": 5}\n')
    before = sorted(model.parent.iterdir())
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.startswith("distill-eval: ")
    assert printed.err.count("\n") == 1
    assert sorted(model.parent.iterdir()) == before


def test_no_torch_is_imported_for_a_mistake(model: Path, examples: Path) -> None:
    """In a fresh process: exit 2 fast, and none of the heavy modules loaded."""
    code = (
        "import sys; from distill_app_evaluator.cli import main;"
        f"code = main([{str(model)!r}, '--data', {str(examples)!r}, '--split', 'train']);"
        "print(code, [m for m in ('torch', 'transformers', 'datasets', 'numpy') if m in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"
    assert time.monotonic() - started < 10


def test_wrong_options_are_usage_errors_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Typer's own complaints also exit with 2, and help with 0."""
    assert main([]) == 2
    assert main(["model", "--datas", "x"]) == 2
    assert main(["--help"]) == 0
    assert "--metrics" in capsys.readouterr().out


def test_adapters_and_exports_are_told_from_models(model: Path, examples: Path) -> None:
    """By the file that marks each; an adapter names its base."""
    assert check_request(model=str(model), data=str(examples)).kind == "model"
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "base"}')
    assert check_request(model=str(model), data=str(examples)).kind == "adapter"
    assert base_of(model) == "base"
    (model / "adapter_config.json").write_text("[]")
    with pytest.raises(UsageError, match="names no base_model_name_or_path"):
        base_of(model)
    (model / "certificate.json").write_text("{}")
    assert check_request(model=str(model), data=str(examples)).kind == "export"


def test_the_package_is_lazy_and_complete() -> None:
    """Every promised name is there; others are not."""
    assert all(hasattr(distill_app_evaluator, name) for name in distill_app_evaluator.__all__)
    assert dir(distill_app_evaluator) == sorted(distill_app_evaluator.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        distill_app_evaluator.__getattr__("nothing")
