"""How long a step takes: real ones are timed, and everything is put back."""

import copy
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerCallback

from distill_adapters.gradients import put_back

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class StepRate:
    """How long optimizer steps took.

    Attributes:
        seconds: Of each timed step, its batches and the optimizer included.
    """

    seconds: tuple[float, ...]

    @property
    def seconds_per_step(self) -> float:
        """The median."""
        return statistics.median(self.seconds)


def measured(trainer: Trainer, train: "Callable[[], object]", steps: int) -> StepRate:
    """Let ``train`` run ``steps`` timed steps after one that is not, and put everything back.

    Args:
        trainer: Whose state is put back: parameters that are trained, buffers, random states, optimizer.
        train: Trains ``trainer`` from the beginning.
        steps: How many are timed, > 0.

    Raises:
        ValueError: ``steps`` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps} was asked for; it must be at least 1.")
    clock = _Clock(trainer.args.device.type)
    with _as_it_was(trainer):
        trainer.args.max_steps = 1 + steps
        trainer.args.eval_on_start = False
        trainer.callback_handler.callbacks = [clock]
        train()
    return StepRate(tuple(late - early for early, late in zip(clock.ends, clock.ends[1:], strict=False)))


class _Clock(TrainerCallback):
    """Notes when each step ended; at the last one asks for a log, with which sums of losses begin anew."""

    def __init__(self, device: str) -> None:
        self._device: Any = getattr(torch, device)
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Wait for the device."""
        del args, options
        self._device.synchronize()
        self.ends.append(time.perf_counter())
        control.should_log = control.should_training_stop = state.global_step >= state.max_steps


@contextmanager
def _as_it_was(trainer: Trainer) -> Iterator[None]:
    model: Any = trainer.model
    kept, mode = dict(vars(trainer)), model.training
    callbacks = list(trainer.callback_handler.callbacks)
    forward = {name: vars(model)[name] for name in ("forward", "_original_forward") if name in vars(model)}
    given = [part for part in (trainer.optimizer, trainer.lr_scheduler) if part is not None]
    states = [copy.deepcopy(part.state_dict()) for part in given]
    trainer.args, trainer.control = copy.copy(trainer.args), copy.copy(trainer.control)
    try:
        with put_back(model), _same_random_states(trainer):
            yield
    finally:
        vars(trainer).clear()
        vars(trainer).update(kept)
        trainer.callback_handler.callbacks = callbacks
        trainer.accelerator.free_memory()
        for name in ("forward", "_original_forward"):  # mixed precision wraps the forward pass
            vars(model).pop(name, None)
        vars(model).update(forward)
        model.train(mode)
        for part, state in zip(given, states, strict=True):
            part.load_state_dict(state)


@contextmanager
def _same_random_states(trainer: Trainer) -> Iterator[None]:
    """Those of Python, numpy, torch and the device, kept as a checkpoint keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        trainer._save_rng_state(folder)
        try:
            yield
        finally:
            trainer._load_rng_state(folder)
