"""Timing of real optimizer steps, after which the trainer's state is restored."""

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

from distill_adapters.config import check_at_least
from distill_adapters.gradients import put_back

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class StepRate:
    """The duration of optimizer steps.

    Attributes:
        seconds: Seconds of each timed step, its batches and the optimizer included.
    """

    seconds: tuple[float, ...]

    @property
    def seconds_per_step(self) -> float:
        """The median duration of a step, in seconds."""
        return statistics.median(self.seconds)


def time_steps(trainer: Trainer, train: "Callable[[], object]", steps: int) -> StepRate:
    """Time ``steps`` steps after a first one that is not timed, then restore the trainer's state.

    Args:
        trainer: The trainer. Its trained parameters, buffers, random states and optimizer are restored.
        train: Trains ``trainer`` from the beginning.
        steps: Number of steps that are timed, > 0.

    Raises:
        ConfigError: ``steps`` is not positive.
    """
    check_at_least(1, steps=steps)
    clock = _Clock(trainer.args.device.type)
    with _as_it_was(trainer):
        trainer.args.max_steps = 1 + steps
        trainer.args.eval_on_start = False
        trainer.callback_handler.callbacks = [clock]
        train()
    return StepRate(tuple(late - early for early, late in zip(clock.ends, clock.ends[1:], strict=False)))


class _Clock(TrainerCallback):
    """Records when each step ends; the last one asks for a log, which resets the sums of losses."""

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
    """Restores the random states of Python, numpy, torch and the device, as a checkpoint does."""
    with tempfile.TemporaryDirectory() as folder:
        trainer._save_rng_state(folder)
        try:
            yield
        finally:
            trainer._load_rng_state(folder)
