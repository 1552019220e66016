"""What is looked at before the first step: vocabularies, a row's labels, whether the teacher knows more."""

import copy
import logging
import math
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill_adapters import NonFiniteError, SafeTrainer
from distill_kd import kernels
from distill_kd.chunked import rows_of
from distill_kd.errors import VocabularyError, WorseTeacherError
from distill_kd.objective import IGNORED, Objective
from distill_kd.teachers import Teacher
from distill_kd.vocabulary import check_vocabularies

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainingArguments

    from distill_kd.trainer import DistillationTrainer

_logger = logging.getLogger(__name__)
BASELINE_STEPS = 100
_ROWS = 256  # whose scores are held at once when a teacher is measured


def fitted(objective: Objective, student: nn.Module, teacher: Teacher, tokenizer: Any) -> Objective:
    """The objective, cut to the shared vocabulary, once both models are known to fit each other.

    Raises:
        VocabularyError: They do not mean the same token by the same id, or start decoding differently.
        ValueError: The teacher is the student itself.
    """
    theirs = getattr(teacher, "model", teacher)  # a cache stands for the model that it asked
    if theirs is student:
        raise ValueError("the teacher is the student itself; give LiveTeacher a model of its own.")
    check = getattr(teacher, "check_objective", None)
    if check is not None:
        check(objective)
    configs = [getattr(model, "config", None) for model in (student, theirs)]
    sizes = [getattr(config, "vocab_size", None) for config in configs]
    starts = [getattr(config, "decoder_start_token_id", None) for config in configs]
    if objective.task == "seq2seq" and None not in starts and starts[0] != starts[1]:
        raise VocabularyError(
            f"student and teacher start decoding with different tokens ({starts[0]} and {starts[1]}); "
            "set the student's decoder_start_token_id to the teacher's: both read the same inputs."
        )
    of_teacher = getattr(teacher, "tokenizer", None)
    if of_teacher is None or tokenizer is None:
        _logger.warning("vocabularies unchecked: give LiveTeacher(tokenizer=) and processing_class=.")
        if None not in sizes and sizes[0] != sizes[1] and objective.vocab_size is None:
            raise VocabularyError(
                f"the student scores {sizes[0]} tokens and the teacher {sizes[1]}; give LiveTeacher its "
                "tokenizer and the trainer processing_class=, so that the shared part can be found."
            )
        return objective
    shared = check_vocabularies(tokenizer, of_teacher, student_size=sizes[0], teacher_size=sizes[1])
    if shared.message:
        _logger.warning("%s", shared.message)
    return replace(objective, vocab_size=shared.tokens)


def label_round_trip(tokenizer: "PreTrainedTokenizerBase | None", batch: Mapping[str, Tensor]) -> str:
    """The first row of a batch as a model sees it: its inputs and its labels, back in text.

    Args:
        tokenizer: Ids are shown as they are without one.
        batch: ``input_ids`` and ``labels``, ``(batch, seq)``; causal labels are those of the next position.

    Returns:
        A line: what is read, what is to be learnt, and how many positions count.
    """
    ids, labels = (batch[name][0].tolist() for name in ("input_ids", "labels"))
    kept = [label for label in labels if label != IGNORED]
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


def before_training(trainer: "DistillationTrainer") -> None:
    """Show the first row's labels, and stop if the teacher has nothing to teach.

    What is found is said on stderr, unless the arguments disable progress bars, and in the log.

    Raises:
        WorseTeacherError: The teacher is no better than the student without it, and that is not accepted.
    """
    rows = trainer.train_dataset
    if rows is None or not hasattr(rows, "__getitem__") or not hasattr(rows, "__len__") or not len(rows):
        return
    tokenizer: Any = trainer.processing_class  # a Trainer's may also be an image processor
    _say(trainer, label_round_trip(tokenizer, trainer.data_collator([rows[0]])))
    verdict = judge_teacher(trainer)
    if verdict is None:
        _say(trainer, "the teacher was not judged: that takes one validation set, or a cache with a score.")
        return
    _say(trainer, str(verdict))
    if not verdict.worth_it and not trainer.accept_worse_teacher:
        raise WorseTeacherError(
            f"{verdict}. Such a teacher has nothing to teach: train it further, take another, or go on all "
            "the same with accept_worse_teacher=True."
        )


def judge_teacher(trainer: "DistillationTrainer") -> Verdict | None:
    """Compare the teacher with the student without it, on validation; None where that cannot be done."""
    if trainer.eval_dataset is None or isinstance(trainer.eval_dataset, dict):
        return None
    header = getattr(trainer.teacher, "header", {})
    of_teacher = header.get("validation_score")
    if of_teacher is None:
        if header.get("k") is not None:  # a truncated cache: a label may have no score
            return None
        of_teacher = teacher_loss(trainer)
    if trainer.baseline is not None:
        return Verdict(float(of_teacher), trainer.baseline, None)
    return Verdict(float(of_teacher), *baseline_loss(trainer))


def teacher_loss(trainer: "DistillationTrainer") -> float:
    """The teacher's cross-entropy on the validation set, in nats a token, over all processes."""
    total, objective = torch.zeros(2), trainer.objective
    with _same_randomness():
        for given in trainer.get_eval_dataloader():
            batch = trainer.with_decoder_inputs(given)
            index, labels = objective.labelled(batch["labels"])
            rows = rows_of(trainer.teacher.target(batch), index, torch.empty(0, device=labels.device))
            for start in range(0, len(index), _ROWS):
                (scores,) = rows(slice(start, start + _ROWS))
                kept = labels[start : start + _ROWS]
                loss, _ = kernels.cross_entropy(scores[:, : objective.vocab_size], kept)
                total += torch.tensor([float(loss), len(kept)])
    summed, tokens = trainer.accelerator.reduce(total.to(trainer.args.device), "sum").tolist()
    return float(summed / max(tokens, 1))


def baseline_loss(trainer: "DistillationTrainer") -> tuple[float, int]:
    """Validation loss of a copy of the student after some steps on labels alone, and how many.

    As many as a tenth of the run's, 100 at most. Nothing of the trainer is changed, random states included.

    Raises:
        NonFiniteError: It is no finite number: the learning rate is too high.
    """
    args = trainer.args
    batches = len(trainer.get_train_dataloader()) / args.gradient_accumulation_steps
    total = args.max_steps if args.max_steps > 0 else args.num_train_epochs * batches
    steps = min(BASELINE_STEPS, math.ceil(total / 10))
    with tempfile.TemporaryDirectory() as folder, _same_randomness():
        plain = SafeTrainer(
            copy.deepcopy(trainer.model),
            args=_quiet(args, folder, steps),
            train_dataset=trainer.train_dataset,
            eval_dataset=trainer.eval_dataset,
            data_collator=trainer.data_collator,
            verify_gradients=False,
        )
        plain.train()
        loss = float(plain.evaluate()["eval_loss"])
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"the student's loss on validation is {loss} after {steps} steps on labels alone. Lower the "
            "learning rate."
        )
    return loss, steps


def _say(trainer: "DistillationTrainer", line: str) -> None:
    """Once, whatever the number of processes."""
    _logger.info("%s", line)
    if trainer.is_world_process_zero() and not trainer.args.disable_tqdm:
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
def _same_randomness() -> Iterator[None]:
    """Random numbers go on as if nothing had been drawn."""
    import numpy as np

    pythons, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)
