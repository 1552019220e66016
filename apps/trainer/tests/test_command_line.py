"""The command: exit codes, one line for a mistake, what is on stdout, and how soon."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from distill_app_trainer.cli import main

ReplaceText = Callable[[str, str], None]
_PROBE = (
    "import sys; from distill_app_trainer.cli import main; code = main(sys.argv[1:]); "
    "heavy = {'torch', 'transformers', 'datasets', 'pydantic'} & set(sys.modules); "
    "print(code, sorted(heavy))"
)


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh interpreter that prints its exit code and the heavy modules it imported."""
    return subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments], capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("learning_rate", "learnig_rate", "learning_rate"),
        ("train.jsonl", "trian.jsonl", "train.jsonl"),
        ('"exact_match"]', '"exact_mach"]', "exact_match"),
    ],
)
def test_a_mistake_costs_one_line_and_no_torch(
    old: str, new: str, said: str, workplace: Path, edit: ReplaceText
) -> None:
    """And one for the fix; exit code 2 before anything heavy is imported; no folder is left."""
    edit(old, new)
    done = probe("run", "tiny.toml")
    assert done.stdout.strip() == "2 ['pydantic']"
    error, fix = done.stderr.strip().splitlines()
    assert error.startswith("error: ")
    assert fix.startswith("fix:   tiny.toml:")
    assert said in done.stderr
    assert not (workplace / "runs").exists()


def test_a_reporter_that_is_not_installed_is_refused_with_what_installs_it(workplace: Path) -> None:
    """Before torch is imported and before a folder is made."""
    done = probe("run", "tiny.toml", "--set", 'run.report_to=["swanlab"]')
    assert done.stdout.strip() == "2 ['pydantic']"
    error, fix = done.stderr.strip().splitlines()
    assert error.startswith("error: run.report_to = 'swanlab' needs swanlab, which is not installed.")
    assert fix == "fix:   pip install 'swanlab'"
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [("--help", 0), ("run --help", 0), ("--version", 0), ("examples", 0), ("completion bash", 0), ("rum", 2),
     ("run", 2), ("run --jsn", 2), ("plan tinny.toml", 2), ("resume tiny", 2)],
)  # fmt: skip
def test_help_and_usage_errors_import_nothing_heavy(arguments: str, code: int, workplace: Path) -> None:
    """Asking what there is, and asking wrongly, costs neither torch nor pydantic."""
    done = probe(*arguments.split())
    assert done.stdout.strip().splitlines()[-1] == f"{code} []"


def test_a_shell_completes_commands_run_files_and_options(workplace: Path) -> None:
    """What bash asks for while the line is typed, answered without anything heavy."""
    for line, expected in (
        ("distill-train pl", {"plan "}),
        ("distill-train plan ti", {"tiny.toml "}),
        ("distill-train plan tiny.toml --m", {"--measure "}),
    ):
        answers = workplace / "answers"
        asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
                 "_ARGCOMPLETE_STDOUT_FILENAME": str(answers), "_ARGCOMPLETE_IFS": "|"}  # fmt: skip
        subprocess.run([sys.executable, "-c", _PROBE], env=os.environ | asked, check=False)
        assert set(answers.read_text(encoding="utf-8").split("|")) == expected


def test_a_run_file_that_is_not_there_is_named_with_its_neighbour(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The nearest run file, and the shipped ones."""
    assert main(["run", "tinny.toml"]) == 2
    said = capsys.readouterr().err
    assert "'tiny.toml'" in said
    assert "quickstart" in said


def test_an_unknown_command_is_a_usage_error(workplace: Path) -> None:
    """Exit code 2, as for every usage error."""
    assert main(["rum", "tiny.toml"]) == 2


def test_plan_shows_machine_models_data_and_reasons(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And writes nothing."""
    assert main(["plan", "tiny.toml"]) == 0
    shown = capsys.readouterr().out
    for part in ("Machine", "train 48 rows", "big: marian", "student (distill)", "compute_dtype", "float32"):
        assert part in shown
    assert not (workplace / "runs").exists()


def test_plan_as_json_is_one_object(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For machines: policies with reasons, by stage."""
    assert main(["plan", "tiny.toml", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["rows"]["test"] == 24
    assert content["policies"]["student"]["device"]["reason"]


def test_a_run_too_big_for_the_machine_exits_with_3(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is written, and it says what would help."""
    arguments = ["--set", "models.big.config.encoder_layers=4000000"]
    assert main(["run", "tiny.toml", *arguments]) == 3
    assert "smaller model" in capsys.readouterr().err
    assert not (workplace / "runs").exists()


def test_a_full_disk_is_found_before_anything_is_written(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, and a place with more room, which is taken as it is printed."""
    usage = shutil.disk_usage

    def full(path: Path) -> tuple[int, int, int]:
        total, used, free = usage(path)
        return (total, used, 1000) if Path(path).is_relative_to(workplace) else (total, used, free)

    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(*full(path)))
    assert main(["plan", "tiny.toml"]) == 3
    error, fix = capsys.readouterr().err.strip().splitlines()[-2:]
    assert "GB are free" in error
    assert "run.folder" in fix
    assert not (workplace / "runs").exists()
    assert main(["plan", *shlex.split(fix)[3:]]) == 0


class _Usage(NamedTuple):
    """What ``shutil.disk_usage`` gives."""

    total: int
    used: int
    free: int


def test_only_an_adapter_is_merged(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error before anything is imported."""
    assert main(["merge", "tokenizer", "whole"]) == 2
    assert "adapter_config.json" in capsys.readouterr().err


def test_an_unknown_hardware_field_is_a_usage_error(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy's own message, exit code 2."""
    assert main(["run", "tiny.toml", "--set", "hardware.devise=cpu"]) == 2
    assert "device" in capsys.readouterr().err
