"""Tiny runs from training to the report."""

import json
import os
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

ReplaceText = Callable[[str, str], None]


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

    assert report["schema_version"] == 2
    assert list(report["systems"]) == ["teacher", "student", "baseline", "baseline_seed2", "exported"]
    for system in report["systems"].values():
        assert system["parameters"] > 0
        assert system["bytes"] > 0
        assert system["ms_per_example"] > 0
        assert system["metrics"]["per"]["interval"]
    assert report["systems"]["student"]["parameters"] < report["systems"]["teacher"]["parameters"]
    assert set(report["comparisons"]) == {"student_vs_baseline", "student_vs_teacher"}
    assert report["comparisons"]["student_vs_baseline"]["per"]["first"] == "student"
    assert len(report["samples"]["rows"]) == 5
    assert report["stages"]["labels"]["rows"] == 20
    assert report["stages"]["stored"]["rows"] == 48 + 8 + report["stages"]["labels"]["kept"]

    assert 0.0 <= report["data"]["train"]["truncated_percent"] <= 100.0
    for name in ("teacher", "student", "baseline", "baseline_seed2"):
        found = report["systems"][name]["distribution"]
        assert found["ece"]["n"] == sum(one["n"] for one in found["reliability"])
        assert ("kl" in found) == (name == "student")
    places = report["systems"]["student"]["distribution"]["by_place"]
    assert sum(one["n"] * one["kl"] for one in places) == pytest.approx(
        found["ece"]["n"] * report["systems"]["student"]["distribution"]["kl"]["value"]
    )

    for name in ("teacher", "student", "baseline", "baseline_seed2"):
        assert verify(folder / "models" / name, require_manifest=True).has_manifest
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
    workplace: Path, edit: ReplaceText, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder keeps ``.partial`` in its name."""
    edit('data = "test"\nmetrics = ["per"]', "min_agreement = 1.1")
    assert main(["run", "tiny.toml"]) == 4
    error, fix = capsys.readouterr().err.strip().splitlines()[-2:]
    assert error.startswith("error: ")
    assert fix.startswith("fix: ")
    assert [path.suffix for path in (workplace / "runs").iterdir()] == [".partial"]


@pytest.mark.extra("tensorboard")  # noqa: S610 - a marker, not a query
def test_a_reporter_gets_the_losses_of_the_run(workplace: Path, head: str) -> None:
    """TensorBoard's own reader finds the loss of the training in the run folder, step by step."""
    from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]  # no types
        EventFileLoader,
    )

    extra = "\n[stages.teacher.train.extra]\nlogging_steps = 4\n"
    text = head.replace('name = "tiny"', 'name = "tiny"\nreport_to = ["tensorboard"]') + extra
    (workplace / "tiny.toml").write_text(text, encoding="utf-8")
    assert main(["run", "tiny.toml"]) == 0
    (file,) = workplace.glob("runs/*/logs/teacher/**/events.out.tfevents.*")
    losses = {
        event.step: value.tensor.float_val[0]
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
        if value.tag == "train/loss"
    }
    assert sorted(losses) == [1, 4, 8, 12]
    assert losses[12] < losses[1]


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

    assert main(["merge", str(made / "models" / "adapted"), "merged"]) == 0
    merged, whole = (folder / "model.safetensors" for folder in (Path("merged"), made / "models" / "whole"))
    assert merged.read_bytes() == whole.read_bytes()


def test_json_prints_one_object_and_nothing_else(
    workplace: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For machines: the report, and where it lies."""
    (workplace / "teacher.toml").write_text(head, encoding="utf-8")
    assert main(["run", "teacher.toml", "--json", "--set", "stages.teacher.train.steps=2"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert Path(content["folder"]).is_dir()
    assert content["stages"]["teacher"]["kind"] == "finetune"


def test_an_interrupted_run_exits_with_130_says_how_to_go_on_and_ends_as_if_it_never_stopped(
    workplace: Path, head: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the middle of training: one line and a folder called ``.partial``; then the same weights."""
    (workplace / "teacher.toml").write_text(head.replace("steps = 12", "steps = 300"), encoding="utf-8")
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
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    (partial,) = workplace.glob("runs/*.partial")
    assert said.strip().splitlines()[-1] == (
        f"error: interrupted. Resume with: distill-train resume runs/{partial.name}"
    )
    assert "Traceback" not in said
    assert not (partial / "models" / "teacher").exists()

    assert main(["run", "teacher.toml"]) == 0
    assert (
        f"There is an unfinished run of the same. Resume it with: distill-train resume runs/{partial.name}"
        in capfd.readouterr().err
    )
    assert main(["resume", str(partial)]) == 0
    first, second = sorted(workplace.glob("runs/*/models/teacher/model.safetensors"))
    assert first.read_bytes() == second.read_bytes()
    assert not list(workplace.glob("runs/*.partial"))


def test_stored_distributions_wait_for_the_rest_of_the_run(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``cache`` stops after cache_teacher, ``list`` names the run, ``resume`` ends it, ``report`` shows."""
    assert main(["cache", "tiny.toml"]) == 0
    (partial,) = workplace.glob("runs/*.partial")
    assert f"distill-train resume runs/{partial.name}" in capsys.readouterr().out
    assert verify(partial / "data" / "stored", require_manifest=True).has_manifest
    assert not (partial / "models" / "student").exists()

    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][partial.name]["state"] == "unfinished"
    assert main(["report", str(partial)]) == 2
    assert "distill-train resume" in capsys.readouterr().err

    assert main(["resume", str(partial)]) == 0
    events = (workplace / "runs" / partial.stem / "events.jsonl").read_text(encoding="utf-8").splitlines()
    begun = [json.loads(line)["stage"] for line in events if json.loads(line)["event"] == "stage"]
    assert len(begun) == len(set(begun))
    printed = capsys.readouterr().out
    assert main(["report", f"runs/{partial.stem}"]) == 0
    assert capsys.readouterr().out.splitlines()[:10] == printed.splitlines()[:10]
    assert main(["resume", f"runs/{partial.stem}"]) == 2
    assert "is finished" in capsys.readouterr().err


def test_a_run_in_use_is_not_touched(workplace: Path, head: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A second process is told who writes there."""
    from distill_app_trainer.run.folder import RunFolder

    (workplace / "teacher.toml").write_text(head, encoding="utf-8")
    folder = RunFolder.new(read_run_file(workplace / "teacher.toml"))
    assert main(["resume", str(folder.path)]) == 2
    assert f"in use by the process {os.getpid()}" in capsys.readouterr().err
    folder.release()
