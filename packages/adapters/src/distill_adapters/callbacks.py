"""The trainer callback for non-finite gradients and progress, and the handling of requests to stop."""

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from transformers import TrainerCallback

from distill_adapters.errors import NonFiniteError

if TYPE_CHECKING:
    from types import FrameType

    from transformers import TrainerControl, TrainerState, TrainingArguments

_LOG = logging.getLogger(__name__)
_SKIPPED_IN_A_ROW = 20
Progress = Callable[[dict[str, float]], None]


class StopRequest:
    """Records the first Ctrl-C or SIGTERM during training; a second one acts as it would without.

    Attributes:
        signal: Number of the signal; None if there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen until the block ends. Only the main thread can; an ignored signal stays ignored."""
        self.signal = None
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: handler
            for number in (signal.SIGINT, signal.SIGTERM)
            if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
        }

        def put_back() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def note(number: int, _frame: "FrameType | None") -> None:
            self.signal = number
            put_back()
            _LOG.warning(
                "%s received: finishing the step and writing a checkpoint. A second one stops at once.",
                signal.Signals(number).name,
            )

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            put_back()


def memory_bytes(device: str) -> int:
    """Memory of this process: the accelerator's peak on CUDA, else resident memory."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)


class Watched(Protocol):
    """What :class:`Watch` needs of the trainer that it is a callback of."""

    args: "TrainingArguments"
    accelerator: Any
    step_loss: float
    step_tokens: int
    step_parts: dict[str, float]

    def gradient_norm(self) -> float:
        """Norm of all gradients of this step."""

    def asked_to_stop(self) -> bool:
        """Whether training is to end after this step."""


class Watch(TrainerCallback):
    """Checks gradients before each optimizer step; reports progress after it, and stops when asked to."""

    def __init__(self, trainer: "Watched", on_progress: Progress | None) -> None:
        self._trainer = trainer
        self._on_progress = on_progress
        self._skipped = 0

    def on_pre_optimizer_step(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **options: Any
    ) -> None:
        """Stop at gradients that are not finite; under a loss scaler only when it never recovers."""
        del args, control, options
        norm = self._trainer.gradient_norm()
        if math.isfinite(norm):
            self._skipped = 0
            return
        self._skipped += 1
        scaled = getattr(self._trainer.accelerator, "scaler", None) is not None
        if scaled and self._skipped < _SKIPPED_IN_A_ROW:
            return
        times = f" for {self._skipped} steps in a row" if scaled else ""
        raise NonFiniteError(
            f"the norm of the gradients is {norm} in step {state.global_step + 1}{times}. The weights are "
            "those of the step before. Lower the learning rate, or compute in float32."
        )

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **options: Any
    ) -> None:
        """Report progress; save and stop if that was asked for."""
        del args
        if self._on_progress is not None and state.is_world_process_zero:
            self._on_progress(
                {
                    "step": state.global_step,
                    "total_steps": state.max_steps,
                    "loss": self._trainer.step_loss,
                    "learning_rate": float(options["optimizer"].param_groups[0]["lr"]),
                    "epoch": float(state.epoch or 0.0),
                    "tokens": self._trainer.step_tokens,
                    "memory_bytes": memory_bytes(self._trainer.args.device.type),
                    **self._trainer.step_parts,
                }
            )
        if self._trainer.asked_to_stop():
            control.should_save = control.should_training_stop = True
