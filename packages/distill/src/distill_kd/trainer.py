"""The one trainer of a student: what differs from fine-tuning is the loss."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill_adapters import SafeTrainer, decoder_inputs
from distill_kd.errors import HeadError, WorseTeacherError
from distill_kd.lm_head import OutputHead, check_head, head_of, stopped_at_head
from distill_kd.objective import LossParts, Objective
from distill_kd.preflight import (
    Verdict,
    announce,
    baseline_loss,
    label_round_trip,
    same_randomness,
    teacher_loss,
)
from distill_kd.teachers import Teacher, accepted_inputs, takes
from distill_kd.vocabulary import match_vocabularies

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.trainer_utils import TrainOutput

_logger = logging.getLogger(__name__)


class DistillationTrainer(SafeTrainer):
    """Train ``model`` on labels and a teacher at once; everything but the loss is :class:`SafeTrainer`'s.

    The loss is summed over the valid tokens and divided once by those of the effective batch, over
    accumulation and processes, and is computed without all logits in memory. Its parts are logged beside it
    as ``ce`` and ``kd`` (``eval_ce``, ``eval_kd``); evaluation weighs every token alike. The teacher is
    neither trained nor saved.

    Args:
        model: The student; full, or with an adapter.
        teacher: Produces the targets of every batch.
        objective: The loss; its ``task`` determines which label belongs to which logits.
        baseline: Validation cross-entropy of the same student trained without the teacher, nats a token.
            None measures it, on a copy of the student and labels alone, for a tenth of the steps and 100 at
            most. Without ``eval_dataset`` the teacher is not judged.
        accept_worse_teacher: Continue with a teacher that is not better than that.
        scores: Called with the student at each evaluation, to let it generate for instance; what it returns
            is logged as ``eval_NAME``.
        **options: The options of :class:`SafeTrainer`: ``args``, ``train_dataset``, ``eval_dataset``,
            ``data_collator``, ``processing_class``, ``on_progress``, ...

    Raises:
        VocabularyError: Teacher and student do not mean the same token by the same id, or start decoding
            differently.
        ConfigError: The teacher is the student itself.
    """

    def __init__(
        self,
        model: "PreTrainedModel | nn.Module",
        *,
        teacher: Teacher,
        objective: Objective,
        baseline: float | None = None,
        accept_worse_teacher: bool = False,
        scores: Callable[[nn.Module], Mapping[str, float]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.teacher = teacher
        smoothing = float(self.args.label_smoothing_factor or objective.label_smoothing)
        self.objective: Objective = match_vocabularies(
            replace(objective, label_smoothing=smoothing), model, teacher, self.processing_class
        )
        self.task = self.objective.task  # by which SafeTrainer counts the tokens of a step
        # Both say that the loss is divided by the effective batch already; transformers 4.57 reads the first.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self.baseline, self.accept_worse_teacher, self.scores = baseline, accept_worse_teacher, scores
        self._sums = {True: torch.zeros(4), False: torch.zeros(4)}  # training or not: ce, kd, total, share
        self._chunks: bool | None = None  # whether the student's head can be applied separately, once known
        self._wants_logits = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the overridden signature
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective of one micro-batch; the teacher reads the student's own (decoder) inputs."""
        student, labels = self.accelerator.unwrap_model(model), inputs["labels"]
        inputs = self.with_decoder_inputs(inputs)
        target = self.teacher.target(inputs)  # first: the student's graph is not yet in memory
        options = {"use_cache": False} if takes(student, "use_cache") else {}
        given = {**accepted_inputs(student, inputs), **options}
        counted = num_items_in_batch if model.training else None
        items = self.objective.count_tokens(labels) if counted is None else float(counted)
        head = None if return_outputs and self._wants_logits else self._head(model, student, given)
        outputs: Any = {}
        if head is None:
            outputs = model(**given)
            parts = self.objective(outputs.logits, target, labels, num_items=items)
        else:
            made: list[LossParts] = []

            def loss_of(hidden: Tensor) -> Tensor:
                made.append(self.objective.from_hidden(hidden, head, target, labels, num_items=items))
                return made[0].total

            with stopped_at_head(student, loss_of):
                total = model(**given)
            parts = replace(made[0], total=total)
        if counted is not None:
            self._note(parts, training=True, scale=1.0, share=parts.tokens / max(items, 1))
        elif not model.training:
            self._note(parts, training=False, scale=float(parts.tokens), share=float(parts.tokens))
        # Gradients are averaged over processes, but the loss is already divided by the tokens of all of them.
        loss = parts.total * self.accelerator.num_processes if model.training else parts.total
        return (loss, outputs) if return_outputs else loss

    def with_decoder_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of both models: an encoder-decoder reads the labels shifted behind the start token."""
        if self.objective.task != "seq2seq" or "decoder_input_ids" in inputs:
            return dict(inputs)
        student = self.accelerator.unwrap_model(self.model)
        made = decoder_inputs(student, inputs["labels"])
        return {**inputs, "decoder_input_ids": made}

    def _head(self, model: nn.Module, student: nn.Module, given: Mapping[str, Any]) -> OutputHead | None:
        """The student's head; None where all logits must be computed, which is logged once."""
        if model is not student and not isinstance(model, DistributedDataParallel):
            return None  # sharded, compiled or replicated: only the whole forward pass is safe to call
        if self._chunks is None:
            try:
                check_head(student, head_of(student), given)
                self._chunks = True
            except HeadError as error:
                _logger.warning("the student's logits are made all at once: %s", error)
                self._chunks = False
        return head_of(student) if self._chunks else None

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,  # noqa: FBT001 - the overridden signature
        *args: Any,
        **options: Any,
    ) -> "TrainOutput":
        """Train; before the first step of a new run, show a row's labels and judge the teacher.

        Raises:
            WorseTeacherError: The teacher is no better on validation than the student without it.
        """
        checkpoints = Path(str(self.args.output_dir)).glob("checkpoint-*")
        if not (any(checkpoints) if resume_from_checkpoint is True else resume_from_checkpoint):
            self._check_before_training()
        return super().train(resume_from_checkpoint, *args, **options)

    def _check_before_training(self) -> None:
        """Show the first row's labels, and stop if the teacher has nothing to teach."""
        rows = self.train_dataset
        if rows is None or not hasattr(rows, "__getitem__") or not hasattr(rows, "__len__") or not len(rows):
            return
        on_screen = self.is_world_process_zero() and not self.args.disable_tqdm
        tokenizer: Any = self.processing_class  # a Trainer's may also be an image processor
        announce(label_round_trip(tokenizer, self.data_collator([rows[0]])), on_screen=on_screen)
        verdict = self._judge_teacher()
        if verdict is None:
            line = "the teacher was not judged: that takes one validation set, or a cache with a score."
            announce(line, on_screen=on_screen)
            return
        announce(str(verdict), on_screen=on_screen)
        if not verdict.worth_it and not self.accept_worse_teacher:
            raise WorseTeacherError(
                f"{verdict}. Such a teacher has nothing to teach: train it further, take another, or go "
                "on all the same with accept_worse_teacher=True.",
                teacher=verdict.teacher,
                student=verdict.student,
            )

    def _judge_teacher(self) -> Verdict | None:
        """Compare the teacher with the student without it, on validation; None where that is not possible."""
        if self.eval_dataset is None or isinstance(self.eval_dataset, dict):
            return None
        header = getattr(self.teacher, "header", {})
        score = header.get("validation_score")
        if score is None:
            if header.get("k") is not None:  # a truncated cache: a label may have no score
                return None
            with same_randomness():
                batches = map(self.with_decoder_inputs, self.get_eval_dataloader())
                sums = teacher_loss(self.teacher, self.objective, batches)
            total, tokens = self.accelerator.reduce(sums.to(self.args.device), "sum").tolist()
            score = total / max(tokens, 1)
        if self.baseline is not None:
            return Verdict(float(score), self.baseline, None)
        args = self.args
        batches_per_epoch = len(self.get_train_dataloader()) / args.gradient_accumulation_steps
        steps = args.max_steps if args.max_steps > 0 else args.num_train_epochs * batches_per_epoch
        data = {name: getattr(self, name) for name in ("train_dataset", "eval_dataset", "data_collator")}
        return Verdict(float(score), *baseline_loss(self.model, args, total_steps=steps, **data))

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """As transformers'; logits are made where they are asked for."""
        self._wants_logits = not (args[0] if args else options["prediction_loss_only"])
        return super().prediction_step(model, inputs, *args, **options)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """As transformers', with what ``scores`` returns for the student."""
        metrics: dict[str, float] = super().evaluate(*args, **options)
        if self.scores is not None:
            prefix = options.get("metric_key_prefix", "eval")
            found = self.scores(self.accelerator.unwrap_model(self.model))
            added = {f"{prefix}_{name}": float(value) for name, value in found.items()}
            self.log(added)
            metrics |= added
        return metrics

    def _note(self, parts: LossParts, *, training: bool, scale: float, share: float) -> None:
        """Keep for the next log. In training the shares of one step's batches add up to 1."""
        values = torch.stack([parts.ce, parts.kd, parts.total.detach()]).float().cpu() * scale
        self._sums[training] += torch.cat([values, torch.tensor([share])])
        if training:
            for name, value in zip(("ce", "kd"), values.tolist(), strict=False):
                self.step_parts[name] = self.step_parts.get(name, 0.0) + value

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
