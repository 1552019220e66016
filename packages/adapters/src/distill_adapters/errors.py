"""The errors of this package; each is also the built-in error that a caller would expect."""

import signal
from collections.abc import Sequence
from pathlib import Path


class AdapterError(Exception):
    """Base of this package's errors.

    Args:
        *args: The message.
        field: The dotted name of the argument or configuration field that is wrong.
        found: The value that was given.
        allowed: The values that would be accepted, where they can be listed.
        suggestion: A value that would be accepted in place of ``found``.
    """

    def __init__(
        self,
        *args: object,
        field: str | None = None,
        found: object = None,
        allowed: Sequence[object] = (),
        suggestion: object = None,
    ) -> None:
        super().__init__(*args)
        self.field, self.found, self.allowed, self.suggestion = field, found, tuple(allowed), suggestion


class ConfigError(AdapterError, ValueError):
    """An argument or a field of a configuration has a value that cannot be used."""


class ModelLoadError(AdapterError, ValueError):
    """A model cannot be loaded or made as asked."""


class HubError(ModelLoadError):
    """The hub has no such model, or not one that transformers can load."""


class HubUnreachableError(HubError):
    """A model is not in this machine's cache, and the hub cannot be asked for it."""


class TargetError(AdapterError, ValueError):
    """No module, or not the named one, can carry an adapter."""


class LabelError(AdapterError, ValueError):
    """The data holds nothing to learn: no labels, or every label is -100."""


class GradientError(AdapterError, RuntimeError):
    """A trainable parameter gets no finite gradient, or following the gradient does not lower the loss."""


class NonFiniteError(AdapterError, ArithmeticError):
    """A loss or a gradient became NaN or infinite; the message names the step."""


class ResumeError(AdapterError, ValueError):
    """The checkpoints of a folder belong to another run, or would be mixed with those of this one."""


class TrainingStoppedError(AdapterError, KeyboardInterrupt):
    """Ctrl-C or SIGTERM was received in training: the step was finished and a checkpoint written.

    Args:
        step: The last step that was completed.
        total_steps: Number of steps of the whole training.
        checkpoint: The checkpoint to continue from.
        signal_number: Number of the signal.
    """

    def __init__(self, step: int, total_steps: int, checkpoint: Path, signal_number: int) -> None:
        super().__init__(step, total_steps, checkpoint, signal_number)
        self.step, self.total_steps = step, total_steps
        self.checkpoint, self.signal = checkpoint, signal.Signals(signal_number)

    def __str__(self) -> str:
        """The step, the checkpoint, and how to continue."""
        return (
            f"stopped by {self.signal.name} after step {self.step} of {self.total_steps}; the checkpoint is "
            f"{self.checkpoint}. Train again with resume_from_checkpoint=True to continue from it."
        )


class MergeError(AdapterError, ValueError):
    """An adapter cannot be merged, or the merged model answers differently."""
