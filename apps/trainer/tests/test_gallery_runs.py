"""The mistakes that show only when models are trained or read: each is fixed by the command that is printed.

Six by default; ``nox -s gallery`` runs all of them.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_app_trainer.cli import main

Work = Callable[[Path], None]
SHORT = ("--set", "stages.teacher.train.steps=2", "--set", "stages.student.train.steps=2")


@pytest.fixture(autouse=True)
def short(workplace: Path) -> None:
    """A run that ends with its student, which is all that these mistakes need."""
    file = workplace / "tiny.toml"
    file.write_text(file.read_text(encoding="utf-8").partition("[stages.baseline]")[0], encoding="utf-8")


def rows_added(partial: Path) -> None:
    """More training data than when the run was begun."""
    del partial
    with Path("train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"source": "ab", "target": "A B"}) + "\n")


def flipped(pattern: str) -> Work:
    """A byte in the middle of a file changes."""

    def work(partial: Path) -> None:
        file = min(partial.glob(pattern))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.chmod(0o644)
        file.write_bytes(content)

    return work


def cut_off(pattern: str) -> Work:
    """The second half of a file is lost, as on a full disk."""

    def work(partial: Path) -> None:
        file = min(partial.glob(pattern))
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return work


# What is set when the run is begun, what the error has to hold, and its exit code.
TRAINED: dict[str, tuple[tuple[str, ...], str, int]] = {
    "a learning rate that breaks training": (("stages.student.train.learning_rate=1e30",), "nan", 1),
    "an export below its floor": (
        ("stages.edge.kind=export", "stages.edge.model=student", "stages.edge.min_agreement=1.1"),
        "agree",
        4,
    ),
}
UNLEARNT = (("stages.teacher.train.learning_rate=0.5",), "nothing to teach", 1)
# What happens to a run that stopped after caching its teacher, and what resuming it says.
RESUMED: dict[str, tuple[Work, str]] = {
    "data that has changed": (rows_added, "begun with other data"),
    "a state that was cut off": (cut_off("state.json"), "is damaged"),
    "a teacher cache that was cut off": (cut_off("data/stored/*.safetensors"), "stored"),
    "a teacher cache that was damaged": (flipped("data/stored/*.safetensors"), "stored"),
}
MORE: dict[str, tuple[Work, str]] = {
    "answers that were cut off": (cut_off("data/labels.jsonl"), "stored"),
    "a model that was damaged": (flipped("models/teacher/model.safetensors"), "model.safetensors"),
    "a model that was cut off": (cut_off("models/teacher/model.safetensors"), "model.safetensors"),
}


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    """The error, and the command that fixes it, which are the last two lines."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in lines)
    assert lines[-2].startswith("error: "), lines
    return lines[-2], lines[-1].removeprefix("fix:   distill-train ").split()


@pytest.mark.parametrize(
    "mistake", [*TRAINED.values(), pytest.param(UNLEARNT, marks=pytest.mark.slow)], ids=[*TRAINED, "teacher"]
)
def test_what_fails_in_training_is_mended_by_the_printed_command(
    mistake: tuple[tuple[str, ...], str, int], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run again, with the setting that helps: a rate that trains, an export or teacher accepted."""
    settings, expected, code = mistake
    assert main(["run", "tiny.toml", *SHORT, *(word for one in settings for word in ("--set", one))]) == code
    error, fix = said(capsys)
    assert expected in error
    assert main(fix) == 0


def resumed(work: Work, expected: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stop a run after its cache_teacher stage, do something to it, and go on."""
    assert main(["cache", "tiny.toml", *SHORT]) == 0
    (partial,) = workplace.glob("runs/*.partial")
    work(partial)
    assert main(["resume", str(partial)]) in (1, 2)
    error, fix = said(capsys)
    assert expected in error
    assert main(fix) == 0


@pytest.mark.parametrize("mistake", RESUMED)
def test_what_is_wrong_with_an_unfinished_run_is_mended_by_the_printed_command(
    mistake: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was damaged is never believed; its run file is run again."""
    resumed(*RESUMED[mistake], workplace, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MORE)
def test_more_that_is_wrong_with_an_unfinished_run(
    mistake: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers, and weights that a later stage reads, flipped or cut off."""
    with Path("tiny.toml").open("a", encoding="utf-8") as stream:
        stream.write('[stages.scores]\nkind = "evaluate"\nsystems = ["teacher"]\nmetrics = ["per"]\n')
    resumed(*MORE[mistake], workplace, capsys)
