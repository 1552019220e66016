"""The one trainer of a student: what differs from fine-tuning is the loss."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill_adapters import SafeTrainer
from distill_kd.errors import VocabularyError
from distill_kd.objective import LossParts, Objective
from distill_kd.teachers import Teacher, accepted_inputs, takes
from distill_kd.vocabulary import check_vocabularies

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_logger = logging.getLogger(__name__)


class DistillationTrainer(SafeTrainer):
    """Train ``model`` on labels and a teacher at once; everything but the loss is :class:`SafeTrainer`'s.

    The loss is summed over the valid tokens and divided once by those of the effective batch, over
    accumulation and processes. Its parts are logged beside it as ``ce`` and ``kd`` (``eval_ce``,
    ``eval_kd``); evaluation weighs every token alike. The teacher is neither trained nor saved.

    Args:
        model: The student; full, or with an adapter.
        teacher: What is asked about every batch.
        objective: The loss; its ``task`` says how logits meet labels.
        **options: Those of :class:`SafeTrainer`: ``args``, ``train_dataset``, ``eval_dataset``,
            ``data_collator``, ``processing_class``, ``on_progress``, ...

    Raises:
        VocabularyError: Teacher and student do not mean the same token by the same id, or start decoding
            differently.
        ValueError: The teacher is the student itself.
    """

    def __init__(
        self,
        model: "PreTrainedModel | nn.Module",
        *,
        teacher: Teacher,
        objective: Objective,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.teacher = teacher
        self.objective: Objective = self._checked(model, objective)
        # Both say that the loss is divided by the effective batch already; transformers 4.57 reads the first.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._sums = {True: torch.zeros(4), False: torch.zeros(4)}  # training or not: ce, kd, total, share

    def _checked(self, model: nn.Module, objective: Objective) -> Objective:
        """The objective, cut to the shared vocabulary, once both models are known to fit each other."""
        theirs = getattr(self.teacher, "model", None)
        if theirs is model:
            raise ValueError("the teacher is the student itself; give LiveTeacher a model of its own.")
        student, teacher = getattr(model, "config", None), getattr(theirs, "config", None)
        sizes = [getattr(config, "vocab_size", None) for config in (student, teacher)]
        starts = [getattr(config, "decoder_start_token_id", None) for config in (student, teacher)]
        if objective.task == "seq2seq" and None not in starts and starts[0] != starts[1]:
            raise VocabularyError(
                f"student and teacher start decoding with different tokens ({starts[0]} and {starts[1]}); "
                "set the student's decoder_start_token_id to the teacher's: both read the same inputs."
            )
        smoothing = float(self.args.label_smoothing_factor or objective.label_smoothing)
        objective = replace(objective, label_smoothing=smoothing)
        tokenizer = getattr(self.teacher, "tokenizer", None)
        if tokenizer is None or self.processing_class is None:
            _logger.warning("vocabularies unchecked: give LiveTeacher(tokenizer=) and processing_class=.")
            if None not in sizes and sizes[0] != sizes[1] and objective.vocab_size is None:
                raise VocabularyError(
                    f"the student scores {sizes[0]} tokens and the teacher {sizes[1]}; give LiveTeacher its "
                    "tokenizer and the trainer processing_class=, so that the shared part can be found."
                )
            return objective
        own: Any = self.processing_class  # a Trainer's may also be an image processor
        shared = check_vocabularies(own, tokenizer, student_size=sizes[0], teacher_size=sizes[1])
        if shared.message:
            _logger.warning("%s", shared.message)
        return replace(objective, vocab_size=shared.tokens)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """The micro-batches of one step, and their valid tokens over all processes."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        tokens = self.objective.count_tokens(sample["labels"] for sample in samples)
        return samples, self.accelerator.gather(torch.tensor([tokens], device=device)).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the overridden signature
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective of one micro-batch; the teacher reads the student's own (decoder) inputs."""
        student = self.accelerator.unwrap_model(model)
        labels = inputs["labels"]
        if self.objective.task == "seq2seq" and "decoder_input_ids" not in inputs:
            made = student.prepare_decoder_input_ids_from_labels(labels=labels)
            inputs = {**inputs, "decoder_input_ids": made}
        target = self.teacher.target(inputs)  # first: the student's graph is not yet in memory
        options = {"use_cache": False} if takes(student, "use_cache") else {}
        outputs = model(**accepted_inputs(student, inputs), **options)
        counted = num_items_in_batch if model.training else None
        items = self.objective.count_tokens(labels) if counted is None else float(counted)
        parts = self.objective(outputs.logits, target, labels, num_items=items)
        if counted is not None:
            self._note(parts, training=True, scale=1.0, share=parts.tokens / max(items, 1))
        elif not model.training:
            self._note(parts, training=False, scale=float(parts.tokens), share=float(parts.tokens))
        # Gradients are averaged over processes, but the loss is already divided by the tokens of all of them.
        loss = parts.total * self.accelerator.num_processes if model.training else parts.total
        return (loss, outputs) if return_outputs else loss

    def _note(self, parts: LossParts, *, training: bool, scale: float, share: float) -> None:
        """Keep for the next log. In training the shares of one step's batches add up to 1."""
        values = torch.stack([parts.ce, parts.kd, parts.total.detach()]).float().cpu() * scale
        self._sums[training] += torch.cat([values, torch.tensor([share])])

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add ``ce`` and ``kd`` to training logs, ``eval_ce`` and ``eval_kd`` to evaluations (in place)."""
        name = next((key for key in logs if key.endswith("loss") and key != "train_loss"), None)
        if name is not None:
            noted = self._sums[name == "loss"]
            ce, kd, total, share = self.accelerator.reduce(noted.to(self.args.device), "sum").tolist()
            noted.zero_()
            if share:
                prefix = name.removesuffix("loss")
                logs |= {f"{prefix}ce": ce / share, f"{prefix}kd": kd / share}
                if prefix:  # an evaluation: every token alike, where the Trainer averages over batches
                    logs[name] = total / share
        super().log(logs, *args, **kwargs)
