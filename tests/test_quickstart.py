"""The command that the project is judged by, run as a newcomer runs it."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill_app_trainer import examples_folder

DATA = examples_folder() / "phonemes"


def words(name: str) -> list[dict[str, object]]:
    """The rows of one of the shipped files."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run of the quickstart: its folder and what it printed."""
    home = tmp_path_factory.mktemp("quickstart")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "160"}
    program = Path(sys.executable).with_name("distill-train")
    run = subprocess.run(
        [str(program), "quickstart"], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return next(home.glob("runs/quickstart*")), run.stdout + run.stderr


def test_student_beats_its_undistilled_twin_with_an_interval_clear_of_zero(
    quickstart: tuple[Path, str],
) -> None:
    """The comparison on all test words says that distillation paid."""
    report = json.loads((quickstart[0] / "report.json").read_text(encoding="utf-8"))
    comparison = report["comparisons"]["student_vs_twin"]["per"]
    low, high = comparison["interval"]
    assert low <= comparison["difference"] <= high < 0
    assert comparison["better"] == "student"
    for system in ("teacher", "student", "twin", "exported"):
        entry = report["systems"][system]
        assert entry["parameters"] > 0
        assert {"per", "exact_match"} <= entry["metrics"].keys()


def test_the_exported_student_answers_within_seconds_and_without_torch(quickstart: tuple[Path, str]) -> None:
    """`distill-edge run` prints phonemes for a word."""
    export = next(quickstart[0].glob("exports/*/certificate.json")).parent
    program = Path(sys.executable).with_name("distill-edge")
    run = subprocess.run(
        [str(program), "run", str(export), "hello"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert set(run.stdout.split()) <= {
        symbol for row in words("test") for symbol in str(row["target"]).split()
    }
    assert json.loads((export / "certificate.json").read_text(encoding="utf-8"))["verified"] is True


def test_it_prints_the_plan_first_and_the_next_command_last(quickstart: tuple[Path, str]) -> None:
    """Machine and policy with reasons, then the figures, then what to type next."""
    assert "float32" in quickstart[1]
    assert "distill-edge run" in quickstart[1]
    assert "Warning" not in quickstart[1]


def test_no_stem_of_the_test_words_is_in_what_the_teacher_saw() -> None:
    """Neither the teacher's data nor the student's shares a stem with the words they are measured on."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "apps" / "trainer" / "tools"))
    try:
        from prepare_phonemes import stem  # type: ignore[import-not-found]  # a tool beside the package
    finally:
        sys.path.pop(0)
    tested = {stem(str(row["source"])) for row in words("test")}
    for name in ("dictionary", "labelled", "spellings", "validation"):
        assert tested.isdisjoint({stem(str(row["source"])) for row in words(name)}), name
