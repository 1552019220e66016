"""Fine-tuning of a loaded model, adapted or whole."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.arguments import training_arguments
from distill_adapters.backend import set_threads
from distill_adapters.config import Task, TrainConfig
from distill_adapters.loaded import LoadedModel

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase, TrainerCallback

    from distill_adapters.timing import StepRate
    from distill_adapters.trainer import SafeTrainer
    from distill_hwdetect import ExecutionPolicy

Collator = Callable[[list[dict[str, Any]]], "dict[str, Tensor]"]


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """How training went.

    Args:
        steps: Optimizer steps, those before a resume included.
        loss: Mean training loss over the steps, in nats a token.
        seconds: Wall time of this call.
        metrics: What the last evaluation found; empty without one.
        memory: Resident bytes at each stage.
    """

    steps: int
    loss: float
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    memory: Sequence[Mapping[str, float | str]] = ()


class FineTuner:
    """Fine-tune a model on tokenized rows.

    Args:
        loaded: The model; what is trainable in it is trained.
        config: How.
        policy: On what.
        output_dir: Where checkpoints go, when ``config.save_every`` asks for them.
        seed: Of order and dropout.
        data_collator: Makes batches of rows; None takes transformers' own of the task, so that masked rows
            are masked either way.
        on_progress: Told after each step.
        callbacks: Further callbacks of transformers.
        compute_metrics: As ``transformers.Trainer`` takes it.
        data_fingerprint: What the data is, field by field; a checkpoint of other data is refused.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        config: TrainConfig,
        policy: "ExecutionPolicy",
        output_dir: Path | str,
        seed: int = 42,
        data_collator: Collator | None = None,
        on_progress: Callable[[dict[str, float]], None] | None = None,
        callbacks: "Sequence[TrainerCallback]" = (),
        compute_metrics: Callable[[Any], dict[str, float]] | None = None,
        data_fingerprint: Mapping[str, str] | None = None,
    ) -> None:
        self.loaded = loaded
        self.config = config
        self.policy = policy
        self.output_dir = Path(output_dir)
        self.seed = seed
        self.data_collator = data_collator or default_collator(loaded.tokenizer, loaded.task)
        self._on_progress = on_progress
        self._callbacks = list(callbacks)
        self._compute_metrics = compute_metrics
        self._data_fingerprint = data_fingerprint

    def train(self, data: "Mapping[str, Dataset]", *, resume: bool = False) -> TrainOutcome:
        """Train on ``data["train"]``, and evaluate on ``data["validation"]`` where there is one.

        Args:
            data: Tokenized splits.
            resume: Go on from the newest checkpoint in ``output_dir`` that verifies, or begin where there
                is none.

        Raises:
            ValueError: ``data`` has no ``train``, or evaluation is asked for and it has no ``validation``.
            LabelError, GradientError, NonFiniteError, ResumeError, TrainingStoppedError: As
                :class:`SafeTrainer`.
        """
        started, existed = time.perf_counter(), self.output_dir.exists()
        trainer = self._trainer(data)
        output = trainer.train(resume_from_checkpoint=resume)
        if not existed:  # transformers makes the folder whether anything is written or not
            with contextlib.suppress(OSError):
                self.output_dir.rmdir()
        evaluated = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
        return TrainOutcome(
            steps=int(output.global_step),
            loss=float(output.training_loss),
            seconds=time.perf_counter() - started,
            metrics=dict(evaluated[-1]) if evaluated else {},
            memory=tuple(trainer.memory),
        )

    def measure_rate(self, data: "Mapping[str, Dataset]", *, steps: int = 5) -> "StepRate":
        """Time real steps on ``data["train"]``; the model and random states are afterwards what they were.

        Args:
            data: Tokenized splits.
            steps: How many are timed, > 0.
        """
        existed = self.output_dir.exists()
        rate = self._trainer(data).measure_rate(steps)
        if not existed:
            with contextlib.suppress(OSError):
                self.output_dir.rmdir()
        return rate

    def _trainer(self, data: "Mapping[str, Dataset]") -> "SafeTrainer":
        from transformers import set_seed

        from distill_adapters.trainer import SafeTrainer

        self._check_splits(data)
        set_threads(self.policy)
        set_seed(self.seed)
        return SafeTrainer(
            self.loaded.model,
            args=training_arguments(
                self.config, self.policy, self.output_dir, task=self.loaded.task, seed=self.seed
            ),
            train_dataset=data["train"],
            eval_dataset=data.get("validation"),
            data_collator=self.data_collator,
            processing_class=self.loaded.tokenizer,
            callbacks=self._callbacks,
            compute_metrics=self._compute_metrics,
            on_progress=self._on_progress,
            data_fingerprint=self._data_fingerprint,
        )

    def _check_splits(self, data: "Mapping[str, Dataset]") -> None:
        if "train" not in data:
            raise ValueError(f"a split named 'train' is needed; found {', '.join(data) or 'none'}.")
        if self.config.evaluate_every and "validation" not in data:
            raise ValueError(
                f"evaluate_every = {self.config.evaluate_every} needs a split named 'validation'; found "
                f"{', '.join(data)}."
            )


def default_collator(tokenizer: "PreTrainedTokenizerBase", task: Task) -> Collator:
    """Return the collator of transformers for a task, with ``row_id`` kept in the batch."""
    return _Kept(tokenizer, task)


class _Kept:
    """Pads rows, and masks those of masked models; what it does not know it leaves out."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", task: Task) -> None:
        from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq

        names = ("input_ids", "attention_mask", "labels")
        self._names = names[:2] if task == "masked" else names  # that collator makes labels by masking
        self._inner: Any = (
            DataCollatorForLanguageModeling(tokenizer, mlm=True)
            if task == "masked"
            else DataCollatorForSeq2Seq(tokenizer)
        )

    def __call__(self, rows: list[dict[str, Any]]) -> "dict[str, Tensor]":
        """Rows of unequal length to tensors, ``(batch, longest)``.

        Raises:
            ValueError: The rows are packed: without their own collator one text would read another.
        """
        import torch

        if "position_ids" in rows[0]:
            raise ValueError(
                "the rows hold position_ids: several texts are packed in each, which only the collator made "
                "for them keeps apart. Give data_collator=, such as distill_datakit.collator(...)."
            )
        kept = [{name: row[name] for name in self._names if name in row} for row in rows]
        batch = dict(self._inner(kept))
        if all("row_id" in row for row in rows):
            batch["row_id"] = torch.tensor([row["row_id"] for row in rows])
        return batch
