"""Tiny runs from training to the report."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_app_trainer import check_run, read_run_file
from distill_app_trainer.cli import main
from distill_deploy import verify

Edit = Callable[[str, str], None]


def figures(folder: Path) -> dict[str, dict[str, float]]:
    """The values of every metric of every system."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {
        name: {metric: result["value"] for metric, result in system["metrics"].items()}
        for name, system in report["systems"].items()
    }


def test_a_run_walks_every_kind_of_stage_and_side_by_side_with_equal_scores(
    workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """All there is to a report; the same again side by side in two processes, and with the live teacher."""
    assert main(["run", "tiny.toml"]) == 0
    out, err = capfd.readouterr()
    (folder,) = (workplace / "runs").iterdir()
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))

    assert report["schema_version"] == 1
    assert list(report["systems"]) == ["teacher", "student", "twin", "twin_seed2", "exported"]
    for system in report["systems"].values():
        assert system["parameters"] > 0
        assert system["bytes"] > 0
        assert system["ms_per_example"] > 0
        assert system["metrics"]["per"]["interval"]
    assert report["systems"]["student"]["parameters"] < report["systems"]["teacher"]["parameters"]
    assert set(report["comparisons"]) == {"student_vs_twin", "student_vs_teacher"}
    assert report["comparisons"]["student_vs_twin"]["per"]["first"] == "student"
    assert len(report["samples"]["rows"]) == 5
    assert report["stages"]["labels"]["rows"] == 20
    assert report["stages"]["stored"]["rows"] == 48 + report["stages"]["labels"]["kept"]

    for name in ("teacher", "student", "twin", "twin_seed2"):
        assert verify(folder / "models" / name, require_manifest=True).sealed
        assert "None" not in (folder / "models" / name / "README.md").read_text(encoding="utf-8")
    assert (folder / "exports" / "edge" / "certificate.json").is_file()
    assert "<script" not in (folder / "report.html").read_text(encoding="utf-8")
    assert not (folder / "checkpoints").exists() or not any((folder / "checkpoints").iterdir())
    assert check_run(read_run_file(folder / "run.toml")) == "seq2seq"

    assert "exported" in out
    assert "distill-edge run" in out
    assert "Machine" in err
    assert "Warning" not in out + err
    assert "%|" not in out + err

    live = ["--set", "stages.student.teacher=teacher", "--set", "run.name=live"]
    assert main(["run", "tiny.toml", "--set", "hardware.parallel_stages=2", *live]) == 0
    (second,) = (workplace / "runs").glob("live*")
    assert figures(second) == figures(folder)


def test_a_refused_export_exits_with_4_and_leaves_nothing_that_looks_finished(
    workplace: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder keeps ``.partial`` in its name."""
    edit('data = "test"\nmetrics = ["per"]', "floor = 1.1")
    assert main(["run", "tiny.toml"]) == 4
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    assert [path.suffix for path in (workplace / "runs").iterdir()] == [".partial"]


def test_an_adapter_is_trained_merged_and_scored(workplace: Path, head: str) -> None:
    """LoRA on a saved model; merging changes no answer."""
    (workplace / "teacher.toml").write_text(head, encoding="utf-8")
    assert main(["run", "teacher.toml"]) == 0
    (folder,) = (workplace / "runs").iterdir()
    data = head.split("[models.big]", maxsplit=1)[0]
    (workplace / "adapter.toml").write_text(
        data
        + f"""
[models.base]
path = "{folder / "models" / "teacher"}"
adapter = "lora"
[stages.adapted]
kind = "finetune"
model = "base"
[stages.adapted.train]
steps = 3
[stages.whole]
kind = "merge"
model = "adapted"
[stages.scores]
kind = "evaluate"
systems = ["adapted", "whole"]
metrics = ["per"]
max_new_tokens = 8
""",
        encoding="utf-8",
    )
    assert main(["run", "adapter.toml", "--set", "run.name=adapted"]) == 0
    (made,) = (workplace / "runs").glob("adapted*")
    assert (made / "models" / "adapted" / "adapter_config.json").is_file()
    assert not (made / "models" / "whole" / "adapter_config.json").exists()
    values = figures(made)
    assert values["adapted"] == values["whole"]


def test_json_prints_one_object_and_nothing_else(
    workplace: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For machines: the report, and where it lies."""
    (workplace / "teacher.toml").write_text(head, encoding="utf-8")
    assert main(["run", "teacher.toml", "--json", "--set", "stages.teacher.train.steps=2"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert Path(content["folder"]).is_dir()
    assert content["stages"]["teacher"]["kind"] == "finetune"


def test_an_interrupted_run_exits_with_130_and_leaves_nothing_that_looks_finished(
    workplace: Path, head: str
) -> None:
    """Ctrl-C in the middle of training: one line, a folder called ``.partial``, no model."""
    (workplace / "teacher.toml").write_text(head.replace("steps = 12", "steps = 100000"), encoding="utf-8")
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "distill_app_trainer", "run", "teacher.toml"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=workplace,
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(
        '"step"' in file.read_text(encoding="utf-8") for file in workplace.glob("runs/*/events.jsonl")
    ):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in said
    (folder,) = (workplace / "runs").iterdir()
    assert folder.suffix == ".partial"
    assert not (folder / "models").exists()
