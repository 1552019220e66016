"""Ctrl-C and SIGTERM finish the step and leave a checkpoint from which the run goes on as if uncut."""

import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_adapters import AdapterError, FineTuner, ResumeError, TrainConfig, TrainingStoppedError
from distill_adapters.checkpoints import newest_verified

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _interruptible() -> Any:
    """A shell starts what runs in its background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def at(step: int, *numbers: int) -> Callable[[dict[str, float]], None]:
    """Raise signals at the end of a step."""

    def tell(facts: dict[str, float]) -> None:
        if facts["step"] == step:
            for number in numbers:
                signal.raise_signal(number)

    return tell


@pytest.fixture(name="build")
def _build(make: Any, make_trainer: Any, make_rows: Any) -> Any:
    """``build(folder, on_progress=None, **settings)``: a trainer of a model with dropout, shuffled rows."""

    def build(folder: str, on_progress: Any = None, **settings: Any) -> Any:
        torch.manual_seed(5)
        return make_trainer(
            "marian",
            rows=make_rows("seq2seq", count=6),
            config={"steps": 8, "batch_size": 2, "schedule": "linear", **settings},
            policy={"batch": 2, "micro_batch": 1, "accumulation": 2},
            folder=folder,
            loaded=make("marian", dropout=0.2),
            on_progress=on_progress,
        )

    return build


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 1), (signal.SIGTERM, 5), (signal.SIGINT, 8)])
def test_a_stopped_run_goes_on_bit_for_bit(number: int, step: int, build: Any, tmp_path: Path) -> None:
    """In the step, with a sealed checkpoint; no step is redone, and signals mean again what they did."""
    whole = build("whole")
    whole.train()
    handlers = [signal.getsignal(each) for each in BOTH]
    with pytest.raises(TrainingStoppedError) as caught:
        build("cut", at(step, number), save_every=4).train()
    assert [signal.getsignal(each) for each in BOTH] == handlers
    error = caught.value
    assert (error.step, error.total_steps, error.signal) == (step, 8, number)
    assert error.checkpoint == tmp_path / "cut" / f"checkpoint-{step}"
    assert newest_verified(tmp_path / "cut", {}) == error.checkpoint
    told: list[dict[str, float]] = []
    again = build("cut", told.append, save_every=4)
    output = again.train(resume_from_checkpoint=True)
    assert [facts["step"] for facts in told] == list(range(step + 1, 9))
    weights = again.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in whole.model.state_dict().items())
    assert output.training_loss > 0


def test_a_run_that_saves_nothing_saves_when_stopped(build: Any, tmp_path: Path) -> None:
    """And another one does not begin over it, but goes on from it."""
    with pytest.raises(TrainingStoppedError):
        build("cut", at(2, signal.SIGTERM)).train()
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["checkpoint-2"]
    with pytest.raises(ResumeError, match="holds checkpoints of an earlier run"):
        build("cut", save_every=2).train()
    resumed = build("cut")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8


def test_a_second_ctrl_c_stops_at_once(build: Any, tmp_path: Path) -> None:
    """As Ctrl-C always did."""
    with pytest.raises(KeyboardInterrupt) as caught:
        build("cut", at(2, signal.SIGINT, signal.SIGINT)).train()
    assert not isinstance(caught.value, TrainingStoppedError)
    assert not list((tmp_path / "cut").glob("checkpoint-*"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(build: Any) -> None:
    """What a shell runs in its background does not stop at the Ctrl-C meant for another."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trainer = build("run", at(2, signal.SIGINT))
    trainer.train()
    assert trainer.state.global_step == 8


def test_training_in_another_thread_leaves_signals_alone(build: Any) -> None:
    """Python lets only the main thread listen."""
    trainer = build("run", steps=2)
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert trainer.state.global_step == 2


def test_a_fine_tuner_says_how_to_go_on(make: Any, make_policy: Any, make_rows: Any, tmp_path: Path) -> None:
    """The same error, with resume=True the same end."""
    data = {"train": make_rows("causal", count=8)}

    def tuner(on_progress: Any = None) -> FineTuner:
        return FineTuner(
            make("llama"),
            config=TrainConfig(steps=4, batch_size=4),
            policy=make_policy("llama"),
            output_dir=tmp_path / "work",
            on_progress=on_progress,
            data_fingerprint={"data": "abc"},
        )

    with pytest.raises(TrainingStoppedError, match=r"SIGTERM after step 2 of 4.*resume_from_checkpoint=True"):
        tuner(at(2, signal.SIGTERM)).train(data)
    assert tuner().train(data, resume=True).steps == 4


def test_other_data_is_refused(make_trainer: Any) -> None:
    """A checkpoint of a run on data with another fingerprint; the field is named."""
    with pytest.raises(TrainingStoppedError):
        make_trainer(
            "gpt2", on_progress=at(1, signal.SIGTERM), data_fingerprint={"data": "a", "masking": "m"}
        ).train()
    with pytest.raises(ResumeError) as caught:
        make_trainer("gpt2", data_fingerprint={"data": "a", "masking": "n"}).train(
            resume_from_checkpoint=True
        )
    assert (caught.value.field, caught.value.found, caught.value.suggestion) == ("data.masking", "n", "m")


def test_the_error_can_be_caught_as_either_and_pickled() -> None:
    """An interrupt for a command line, an error of this package for the rest."""
    error = TrainingStoppedError(3, 9, Path("run/checkpoint-3"), signal.SIGTERM)
    assert isinstance(error, KeyboardInterrupt)
    assert isinstance(error, AdapterError)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made in the line itself
    assert str(again) == str(error)
    assert again.checkpoint == error.checkpoint
