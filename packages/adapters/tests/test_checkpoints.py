"""A run that is cut off goes on as if it had not been, and from nothing that is damaged or foreign."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from distill_adapters import ResumeError
from distill_adapters.checkpoints import checkpoints, newest_verified, rotate
from distill_deploy import IntegrityError, verify

SETTINGS = {"steps": 8, "batch_size": 2, "save_every": 2, "schedule": "linear"}


class CutError(Exception):
    """The power goes."""


class Cut(TrainerCallback):
    """Raises at a step, before or after what happens there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Cut before the step is done."""
        if state.global_step == self.step:
            raise CutError


@pytest.fixture(name="run")
def _run(make: Any, make_trainer: Any, make_rows: Any) -> Any:
    """``run(folder, resume=, cut=, **changes)``: a trainer that ran, with dropout and shuffled rows."""

    def run(
        folder: str, *, resume: Any = None, cut: int | None = None, family: str = "marian", **changes: Any
    ) -> Any:
        torch.manual_seed(5)
        task = "causal" if family == "gpt2" else "seq2seq"
        trainer = make_trainer(
            family,
            rows=changes.pop("rows", None) or make_rows(task, count=6),
            config={**SETTINGS, **changes},
            policy={"batch": 2, "micro_batch": 1, "accumulation": 2},
            folder=folder,
            loaded=make(family, **({"resid_pdrop": 0.2} if family == "gpt2" else {"dropout": 0.2})),
            callbacks=[] if cut is None else [Cut(cut)],
        )
        if cut is None:
            trainer.train(resume_from_checkpoint=resume)
        else:
            with pytest.raises(CutError):
                trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


def same(one: Any, other: Any) -> bool:
    """Whether two trainers hold the same weights, bit for bit."""
    weights = other.model.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.model.state_dict().items())


def steps(folder: Path) -> list[str]:
    """Names of the checkpoints that are there."""
    return [path.name for path in checkpoints(folder)]


@pytest.mark.parametrize("family", ["marian", "gpt2"])
def test_resumed_runs_end_bit_for_bit_the_same(family: str, run: Any) -> None:
    """Cut twice, in different epochs and between checkpoints; two runs without a cut agree as well."""
    whole = run("whole", family=family)
    run("cut", family=family, cut=3)
    run("cut", family=family, cut=7, resume=True)
    resumed = run("cut", family=family, resume=True)
    assert resumed.state.global_step == 8
    assert same(whole, resumed)
    first = {entry["step"]: entry["loss"] for entry in whole.state.log_history if "loss" in entry}
    again = {entry["step"]: entry["loss"] for entry in resumed.state.log_history if "loss" in entry}
    assert again == first


def test_resuming_without_a_checkpoint_begins(run: Any) -> None:
    """One code path for a run that was cut before its first checkpoint and for one that never began."""
    run("cut", cut=1)
    assert run("cut", resume=True).state.global_step == 8


def test_every_checkpoint_is_sealed_and_the_oldest_go(run: Any, tmp_path: Path) -> None:
    """Two stay, each with a manifest and no pickled arguments, and nothing half done beside them."""
    run("run")
    assert steps(tmp_path / "run") == ["checkpoint-6", "checkpoint-8"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint-6", "checkpoint-8"]
    names = {path.name for path in (tmp_path / "run" / "checkpoint-8").iterdir()}
    assert {"MANIFEST.json", "model.safetensors", "optimizer.pt", "trainer_state.json"} <= names
    assert "training_args.bin" not in names


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "extra"])
def test_a_damaged_checkpoint_is_passed_over(
    damage: str, run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For an older one that verifies; the file at fault is named, and the end is the same."""
    whole = run("whole")
    run("cut", cut=5)
    newest = tmp_path / "cut" / "checkpoint-4"
    file = newest / ("optimizer.pt" if damage != "flip" else "model.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-3] ^= 1
        file.write_bytes(content)
    elif damage == "truncate":
        file.write_bytes(content[:-100])
    elif damage == "remove":
        file.unlink()
    else:
        (newest / "other.json").write_text("{}")
    resumed = run("cut", resume=True)
    assert ("other.json" if damage == "extra" else file.name) in caplog.text
    assert same(whole, resumed)


def test_a_named_damaged_checkpoint_is_refused(run: Any, tmp_path: Path) -> None:
    """Asked for by path there is no other to take."""
    run("cut", cut=3)
    target = tmp_path / "cut" / "checkpoint-2"
    (target / "scheduler.pt").unlink()
    with pytest.raises(IntegrityError, match=r"scheduler\.pt is missing"):
        run("cut", resume=str(target))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"steps": 4}, ("max_steps", "4", "8")),
        ({"learning_rate": 0.5}, ("learning_rate", "0.5", "0.01")),
        ({"schedule": "cosine"}, ("schedule", "cosine", "linear")),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    change: dict[str, Any], wrong: tuple[str, str, str], run: Any
) -> None:
    """Rather than trained on with zero steps left; the error holds what differs."""
    run("cut", cut=3)
    with pytest.raises(ResumeError) as caught:
        run("cut", resume=True, **change)
    assert (caught.value.field, caught.value.found, caught.value.suggestion) == wrong


def test_a_new_run_does_not_mix_with_old_checkpoints(run: Any) -> None:
    """A run that saves begins in a folder without checkpoints, or resumes."""
    run("run", cut=3)
    with pytest.raises(ResumeError, match="holds checkpoints of an earlier run"):
        run("run")


def test_a_failing_write_leaves_the_older_checkpoint(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no folder that looks like a checkpoint."""
    saves = 0
    original = torch.save

    def full_disk(*args: Any, **options: Any) -> None:
        nonlocal saves
        saves += 1
        if saves > 6:
            raise OSError(28, "No space left on device")
        original(*args, **options)

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run("run")
    left = [path.name for path in (tmp_path / "run").iterdir()]
    assert left == ["checkpoint-2"]
    assert newest_verified(tmp_path / "run", {}) == tmp_path / "run" / "checkpoint-2"


def test_the_best_checkpoint_stays(tmp_path: Path) -> None:
    """Rotation goes by number, keeps the newest and the best, and 0 or None keep all."""
    for number in (2, 10, 4, 6):
        (tmp_path / f"checkpoint-{number}").mkdir()
    (tmp_path / "checkpoint-x").mkdir()
    for keep in (None, 0, 4):
        rotate(tmp_path, keep=keep, best=None)
        assert len(checkpoints(tmp_path)) == 4
    rotate(tmp_path, keep=2, best=str(tmp_path / "checkpoint-2"))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-6", "checkpoint-10"]


def test_a_checkpoint_is_a_model_folder(run: Any, tmp_path: Path) -> None:
    """Sealed with the run's facts, and refused by strict verification only for its optimizer's state."""
    run("run")
    with pytest.raises(IntegrityError, match="pickle"):
        verify(tmp_path / "run" / "checkpoint-8")
    states = ["optimizer.pt", "scheduler.pt", "rng_state.pth"]
    assert verify(tmp_path / "run" / "checkpoint-8", allow=states).metadata["run.max_steps"] == "8"
