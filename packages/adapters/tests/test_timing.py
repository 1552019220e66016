"""A forecast times real steps, and the run afterwards is the one that it would have been."""

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_adapters import AdapterConfig, FineTuner, NonFiniteError, TrainConfig, attach

DROPOUT = {"marian": {"dropout": 0.2}, "gpt2": {"resid_pdrop": 0.2}, "bert": {"hidden_dropout_prob": 0.2}}


def end_of(trainer: Any) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights and logged losses of a whole run."""
    torch.manual_seed(7)
    trainer.train()
    return trainer.model.state_dict(), [e["loss"] for e in trainer.state.log_history if "loss" in e]


@pytest.mark.parametrize(("family", "adapter"), [("marian", False), ("gpt2", True), ("bert", False)])
def test_measuring_changes_nothing(
    family: str, adapter: bool, make: Any, make_trainer: Any, make_rows: Any, tmp_path: Path
) -> None:
    """Weights, gradients, random states, mode, progress, files; the run after it is bit for bit the same."""
    results = []
    for folder in ("measured", "plain"):
        told: list[dict[str, float]] = []
        loaded = make(family, **DROPOUT[family])
        torch.manual_seed(3)
        trainer = make_trainer(
            family,
            loaded=attach(loaded, AdapterConfig(dropout=0.1)) if adapter else loaded,
            rows=make_rows(loaded.task, count=10),
            config={"steps": 4, "save_every": 2, "schedule": "linear"},
            policy={"micro_batch": 2, "accumulation": 2},
            folder=folder,
            on_progress=told.append,
        )
        if folder == "measured":
            trainer.model.eval()
            before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
            states = random.getstate(), str(np.random.get_state()), torch.random.get_rng_state()
            assert len(trainer.measure_rate(3).seconds) == 3
            assert random.getstate() == states[0]
            assert str(np.random.get_state()) == states[1]
            assert torch.equal(torch.random.get_rng_state(), states[2])
            assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
            assert all(part.grad is None for part in trainer.model.parameters())
            assert not trainer.model.training
            assert trainer.optimizer is None
            assert not told
            assert not list((tmp_path / folder).glob("*"))
        ended = end_of(trainer)
        for facts in told:
            facts.pop("memory_bytes", None)  # of the process, not of the run
        results.append((ended, told))
    (measured, its_told), (plain, other_told) = results
    assert measured[1] == plain[1]
    assert its_told == other_told
    assert all(torch.equal(value, plain[0][name]) for name, value in measured[0].items())


def test_the_time_is_that_of_whole_steps(make: Any, make_trainer: Any) -> None:
    """Two micro-batches that sleep take twice the sleep; the first step is not counted."""
    loaded = make("marian")
    calls = []

    def slow(*_: object) -> None:
        calls.append(1)
        time.sleep(0.3 if len(calls) <= 2 else 0.03)

    loaded.model.register_forward_pre_hook(slow)
    trainer = make_trainer("marian", loaded=loaded, policy={"micro_batch": 2, "accumulation": 2})
    rate = trainer.measure_rate()
    assert len(rate.seconds) == 5
    assert 0.06 <= rate.seconds_per_step < 0.3
    assert len(calls) == 12


def test_what_fails_while_measured_is_put_back(make: Any, make_trainer: Any) -> None:
    """A loss that is not finite raises, and nothing has moved; then the run trains."""
    loaded = make("gpt2")
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    trainer = make_trainer("gpt2", loaded=loaded)
    passes = []

    def spoil(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        passes.append(1)
        return output * (math.nan if len(passes) == 3 else 1.0)

    hook = loaded.model.lm_head.register_forward_hook(spoil)
    with pytest.raises(NonFiniteError, match="in step 3"):
        trainer.measure_rate()
    hook.remove()
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())
    trainer.train()
    assert trainer.state.global_step == 3


def test_an_optimizer_that_was_given_is_put_back(make: Any, make_trainer: Any) -> None:
    """Its state is empty again, and the same object trains."""
    loaded = make("bert")
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1 + step))
    trainer = make_trainer("bert", loaded=loaded, optimizers=(optimizer, schedule))
    trainer.measure_rate(2)
    assert trainer.optimizer is optimizer
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert schedule.last_epoch == 0


def test_no_steps_are_refused(make_trainer: Any) -> None:
    """A rate needs one."""
    with pytest.raises(ValueError, match="steps = 0"):
        make_trainer("marian").measure_rate(0)


def test_a_fine_tuner_measures_before_it_trains(
    make: Any, make_policy: Any, make_rows: Any, tmp_path: Path
) -> None:
    """On the rows it will train on; it leaves no folder."""
    tuner = FineTuner(
        make("llama"),
        config=TrainConfig(steps=2, batch_size=4),
        policy=make_policy("llama"),
        output_dir=tmp_path / "work",
    )
    data = {"train": make_rows("causal")}
    assert tuner.measure_rate(data, steps=2).seconds_per_step > 0
    assert not (tmp_path / "work").exists()
    assert tuner.train(data).steps == 2
