"""Fine-tuning of a loaded model: its adapter, or all of its weights."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.arguments import training_arguments
from distill_adapters.backend import set_threads
from distill_adapters.config import Task, TrainConfig
from distill_adapters.errors import ConfigError
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
    """The result of a training.

    Args:
        steps: Number of optimizer steps, those before a resume included.
        loss: Mean training loss over the steps, in nats per token.
        seconds: Wall time of this call, in seconds.
        metrics: Metrics of the last evaluation; empty if there was none.
        memory: Resident bytes at each stage of the training.
    """

    steps: int
    loss: float
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    memory: Sequence[Mapping[str, float | str]] = ()


class FineTuner:
    """Fine-tune a model on tokenized rows.

    Args:
        loaded: The model. Its trainable parameters are trained.
        config: How to train.
        policy: The decisions about this machine: device, number types, micro-batch.
        output_dir: The folder for checkpoints, which ``config.save_every`` asks for.
        seed: Seed of data order and dropout.
        data_collator: Makes batches of rows. None takes the one of transformers for the task, which also
            masks the rows of masked models.
        on_progress: Called after each step with its progress, as :class:`SafeTrainer` calls it.
        callbacks: Further callbacks of transformers.
        compute_metrics: Computes metrics in evaluation, as for ``transformers.Trainer``.
        data_fingerprint: Fingerprint of the data, field by field. A checkpoint of other data is refused.
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
            resume: Continue from the newest checkpoint in ``output_dir`` that verifies; start from the
                beginning if there is none.

        Raises:
            ConfigError: ``data`` has no ``train``, or ``evaluate_every`` is set and it has no ``validation``.
            LabelError, GradientError, NonFiniteError, ResumeError, TrainingStoppedError: As for
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
        """Time real steps on ``data["train"]``, then restore the model and all random states.

        Args:
            data: Tokenized splits.
            steps: Number of steps that are timed, > 0.
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
            raise ConfigError(
                f"a split named 'train' is needed; found {', '.join(data) or 'none'}.",
                field="data",
                found=tuple(data),
                suggestion="train",
            )
        if self.config.evaluate_every and "validation" not in data:
            raise ConfigError(
                f"evaluate_every = {self.config.evaluate_every} needs a split named 'validation'; found "
                f"{', '.join(data)}.",
                field="data",
                found=tuple(data),
                suggestion="validation",
            )


def default_collator(tokenizer: "PreTrainedTokenizerBase", task: Task) -> Collator:
    """Return the collator of transformers for a task, with ``row_id`` kept in the batch."""
    return _Kept(tokenizer, task)


class _Kept:
    """Pads rows, and masks those of masked models; unknown columns are left out."""

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
        """Pad rows of unequal length to tensors, ``(batch, longest)``.

        Raises:
            ConfigError: The rows are packed: without their own collator, one text would attend to another.
        """
        import torch

        if "position_ids" in rows[0]:
            raise ConfigError(
                "the rows hold position_ids: each packs several texts, which only the collator made for them "
                "keeps separate. Give data_collator=, such as distill_datakit.collator(...).",
                field="data_collator",
            )
        kept = [{name: row[name] for name in self._names if name in row} for row in rows]
        batch = dict(self._inner(kept))
        if all("row_id" in row for row in rows):
            batch["row_id"] = torch.tensor([row["row_id"] for row in rows])
        return batch
