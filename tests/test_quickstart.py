"""The quickstart, run as a newcomer runs it."""

import gzip
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

import transcript
from distill_app_trainer import examples_folder

DATA = examples_folder() / "phonemes"


def words(name: str) -> list[dict[str, object]]:
    """The rows of one of the shipped files."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def without_network() -> list[str]:
    """The prefix that runs a command without a network, if the system lets a user do that."""
    cut = ["unshare", "--net", "--map-root-user"]
    if (
        shutil.which("unshare")
        and subprocess.run([*cut, "true"], capture_output=True, check=False).returncode == 0
    ):
        return cut
    return []


def distill_train(home: Path, *arguments: str) -> str:
    """Run the command in a folder, and return everything that it prints."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "160"}
    program = str(Path(sys.executable).with_name("distill-train"))
    run = subprocess.run(
        [*without_network(), program, *arguments],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    return run.stdout


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run of the quickstart: its folder and what it printed."""
    home = tmp_path_factory.mktemp("quickstart")
    said = distill_train(home, "quickstart")
    (folder,) = home.glob("runs/quickstart*")
    return folder, said


def test_student_beats_its_undistilled_baseline_with_an_interval_clear_of_zero(
    quickstart: tuple[Path, str],
) -> None:
    """The comparison on all test words says that distillation paid; every figure has its interval."""
    report = json.loads((quickstart[0] / "report.json").read_text(encoding="utf-8"))
    assert list(report["systems"]) == ["teacher", "student", "baseline", "exported"]
    for entry in report["systems"].values():
        assert entry["parameters"] > 0
        assert entry["bytes"] > 0
        assert entry["ms_per_example"] > 0
        for metric in ("per", "exact_match"):
            low, high = entry["metrics"][metric]["interval"]
            assert low <= entry["metrics"][metric]["value"] <= high
    assert report["systems"]["teacher"]["parameters"] <= 3_300_000
    assert report["systems"]["student"]["parameters"] <= 650_000
    assert report["comparisons"].keys() == {"student_vs_baseline", "student_vs_teacher"}
    comparison = report["comparisons"]["student_vs_baseline"]["per"]
    low, high = comparison["interval"]
    assert low <= comparison["difference"] <= high < 0
    assert comparison["better"] == "student"
    assert 0 < comparison["p"] < 0.05
    values = {name: entry["metrics"]["per"]["value"] for name, entry in report["systems"].items()}
    assert values["teacher"] <= 10.0
    assert values["student"] <= 12.5
    assert report["run"]["forecast_seconds"] > 0


def test_the_export_is_certified_small_and_answers_words_without_torch(
    quickstart: tuple[Path, str],
) -> None:
    """The certificate is clean; `distill-edge` answers as the report's exported system did."""
    export = next(quickstart[0].glob("exports/*/certificate.json")).parent
    certificate = json.loads((export / "certificate.json").read_text(encoding="utf-8"))
    assert certificate["verified"] is True
    assert certificate["precision"] == "int8"
    program = Path(sys.executable).with_name("distill-edge")
    asked = words("test")[::240][:10]
    run = subprocess.run(
        [str(program), "run", str(export), *(str(row["source"]) for row in asked)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said = run.stdout.strip().splitlines()
    symbols = {symbol for row in words("test") for symbol in str(row["target"]).split()}
    assert len(said) == len(asked) == 10
    assert {symbol for line in said for symbol in line.split()} <= symbols
    right = sum(line in cast("list[str]", row["references"]) for line, row in zip(said, asked, strict=True))
    assert right >= 2  # about half of all words are right


def test_it_prints_what_the_readme_shows(quickstart: tuple[Path, str]) -> None:
    """Plan, stages, figures, comparisons and the next command, apart from the figures themselves."""
    recorded = transcript.RECORDED.read_text(encoding="utf-8")
    assert transcript.shape(quickstart[1]) == transcript.shape(recorded)
    assert "Forecast: about" in quickstart[1]
    assert "Warning" not in quickstart[1]
    assert "Traceback" not in quickstart[1]


def test_two_runs_with_one_seed_end_with_equal_weights_and_scores(tmp_path: Path) -> None:
    """This holds for stages that run side by side in processes too; the second run gets its own folder."""
    fewer = str(DATA / "validation.jsonl.gz")
    short = [f"stages.{name}.train.steps=6" for name in ("student", "baseline")]
    short += [f"data.unlabelled={fewer}", f"data.test={fewer}", "stages.edge.allow_failed=true"]
    arguments = [argument for text in short for argument in ("--set", text)]
    for _ in range(2):
        distill_train(tmp_path, "quickstart", *arguments)
    first, second = sorted(tmp_path.glob("runs/quickstart*"))
    for name in ("student", "baseline"):
        weights = [(run / "models" / name / "model.safetensors").read_bytes() for run in (first, second)]
        assert weights[0] == weights[1], name
    scores = [
        {
            name: entry["metrics"]
            for name, entry in json.loads((run / "report.json").read_text(encoding="utf-8"))[
                "systems"
            ].items()
        }
        for run in (first, second)
    ]
    assert scores[0] == scores[1]


def test_no_stem_of_the_test_words_is_in_what_the_teacher_saw() -> None:
    """Neither the teacher's data nor the student's shares a stem with the words they are measured on."""
    stem = runpy.run_path(str(Path(__file__).parents[1] / "apps/trainer/tools/prepare_phonemes.py"))["stem"]
    tested = {stem(str(row["source"])) for row in words("test")}
    for name in ("dictionary", "labelled", "labelled_more", "spellings", "validation"):
        assert tested.isdisjoint({stem(str(row["source"])) for row in words(name)}), name
