"""The progress display of a run."""

import pytest

from distill_app_trainer.run.display import Display


def test_without_a_terminal_a_stage_writes_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The last step is always told, none of the quick ones before it; nothing on stdout."""
    display = Display()
    display.stage("student", "distill", 1, 1)
    for step in range(1, 4):
        display.progress("student", {"step": step, "total_steps": 3, "loss": 4.0 - step, "kd": 0.5})
    display.stage_done("student", "loss 1.000", 2.0)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.strip() for line in err.splitlines()] == [
        "[1/1] student (distill)",
        "student: step 3/3  loss 1.000  kd 0.500  █▅▁  0:00 left",
        "student: loss 1.000, 2.0 s",
    ]
