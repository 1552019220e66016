"""What is checked before the first step: the labels of a row, and whether the teacher is better."""

import copy
import logging
import math
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill_adapters import IGNORE_INDEX, NonFiniteError, SafeTrainer
from distill_kd import closed_forms
from distill_kd.fused_divergence import rows_of
from distill_kd.objective import Objective
from distill_kd.teachers import Teacher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainingArguments

_logger = logging.getLogger(__name__)
BASELINE_STEPS = 100
_ROWS = 256  # whose scores are held at once when a teacher is measured


def label_round_trip(tokenizer: "PreTrainedTokenizerBase | None", batch: Mapping[str, Tensor]) -> str:
    """The first row of a batch as a model sees it: its inputs and its labels, back in text.

    Args:
        tokenizer: Ids are shown as they are without one.
        batch: ``input_ids`` and ``labels``, ``(batch, seq)``; causal labels are those of the next position.

    Returns:
        A line: what is read, what is to be learnt, and how many positions count.
    """
    ids, labels = (batch[name][0].tolist() for name in ("input_ids", "labels"))
    kept = [label for label in labels if label != IGNORE_INDEX]
    read, learnt = (str(values if tokenizer is None else tokenizer.decode(values)) for values in (ids, kept))
    return f"first row: reads {read!r}, learns {learnt!r} ({len(kept)} of {len(labels)} positions count)"


@dataclass(frozen=True)
class Verdict:
    """Cross-entropies on validation, in nats a token.

    Attributes:
        teacher: The teacher's.
        student: What the student reaches without it.
        steps: How long the student was trained on labels alone; None when its figure was given.
    """

    teacher: float
    student: float
    steps: int | None

    @property
    def worth_it(self) -> bool:
        """Whether the teacher knows more."""
        return self.teacher < self.student

    def __str__(self) -> str:
        """Both figures in a line."""
        without = "without a teacher" if self.steps is None else f"after {self.steps} steps on labels alone"
        return (
            f"cross-entropy on validation: the teacher's {self.teacher:.4g} nats a token, the student's "
            f"{without} {self.student:.4g}"
        )


def teacher_loss(teacher: Teacher, objective: Objective, batches: Iterable[Mapping[str, Tensor]]) -> Tensor:
    """The teacher's cross-entropy on labelled batches: its sum in nats, and the number of tokens, ``(2,)``.

    Args:
        teacher: A live one, or a dense cache: a truncated one may have no score for a label.
        objective: Says which positions have a label, and how many tokens both models share.
        batches: Inputs of the teacher and ``labels``.
    """
    total = torch.zeros(2)
    for batch in batches:
        index, labels = objective.labelled(batch["labels"])
        rows = rows_of(teacher.target(batch), index, torch.empty(0, device=labels.device))
        for start in range(0, len(index), _ROWS):
            (scores,) = rows(slice(start, start + _ROWS))
            kept = labels[start : start + _ROWS]
            loss, _ = closed_forms.cross_entropy(scores[:, : objective.vocab_size], kept)
            total += torch.tensor([float(loss), len(kept)])
    return total


def baseline_loss(
    model: nn.Module, args: "TrainingArguments", *, total_steps: float, **data: Any
) -> tuple[float, int]:
    """Validation loss of a copy of the student after some steps on labels alone, and how many.

    As many as a tenth of the run's, 100 at most. Nothing is changed, random states included.

    Args:
        model: The student.
        args: The training arguments of the run.
        total_steps: Optimizer steps of the run.
        **data: ``train_dataset``, ``eval_dataset`` and ``data_collator``.

    Raises:
        NonFiniteError: The loss is not finite: the learning rate is too high.
    """
    steps = min(BASELINE_STEPS, math.ceil(total_steps / 10))
    with tempfile.TemporaryDirectory() as folder, same_randomness():
        arguments = _quiet(args, folder, steps)
        plain = SafeTrainer(copy.deepcopy(model), args=arguments, verify_gradients=False, **data)
        plain.train()
        loss = float(plain.evaluate()["eval_loss"])
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"the student's loss on validation is {loss} after {steps} steps on labels alone. Lower the "
            "learning rate."
        )
    return loss, steps


def announce(line: str, *, on_screen: bool) -> None:
    """Write a line to the log, and to stderr where progress is shown."""
    _logger.info("%s", line)
    if on_screen:
        print(line, file=sys.stderr)


def _quiet(args: "TrainingArguments", folder: str, steps: int) -> "TrainingArguments":
    """The same arguments for a short run that leaves nothing behind."""
    changed = copy.copy(args)
    changed.output_dir, changed.max_steps, changed.report_to = folder, steps, []
    changed.disable_tqdm, changed.load_best_model_at_end, changed.label_smoothing_factor = True, False, 0.0
    for name in ("save_strategy", "eval_strategy", "logging_strategy"):
        setattr(changed, name, type(getattr(args, name))("no"))
    return changed


@contextmanager
def same_randomness() -> Iterator[None]:
    """Restore the states of all random number generators on leaving."""
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
