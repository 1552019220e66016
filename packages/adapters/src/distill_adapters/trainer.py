"""The trainer that fine-tuning and distillation share: transformers' Trainer with safeguards."""

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerState

from distill_adapters.base_identity import weights_fingerprint
from distill_adapters.callbacks import Progress, StopRequest, Watch, memory_bytes
from distill_adapters.checkpoints import (
    check_run,
    checkpoints,
    is_end,
    newest_verified,
    rotate,
    verified,
    written,
)
from distill_adapters.config import IGNORE_INDEX
from distill_adapters.errors import LabelError, NonFiniteError, ResumeError, TrainingStoppedError
from distill_adapters.gradients import check_gradients, recomputing
from distill_adapters.inspection import (
    accepted_names,
    base_of,
    decoder_inputs,
    refuse_without_labels,
    task_of_model,
)
from distill_adapters.malloc import return_freed_memory
from distill_adapters.quiet import quiet
from distill_adapters.timing import StepRate, time_steps

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.trainer_utils import EvalLoopOutput, TrainOutput

    from distill_adapters.config import Task

_LOG = logging.getLogger(__name__)
_CHECKED_ROWS = 4


class SafeTrainer(Trainer):
    """transformers' Trainer with a loss that does not depend on accumulation, and no silent failures.

    Cross-entropy is summed over the tokens with a label and divided by those of the whole effective batch. A
    loss or gradient that is not finite stops the run and names the step and rows. Checkpoints are written
    whole or not at all, with a manifest; resuming takes the newest that verifies and refuses those of another
    run. Ctrl-C and SIGTERM finish the step and write a checkpoint. Gradients are checked before training,
    after which the model is restored.

    Args:
        model: The model to train.
        on_progress: Called after each optimizer step with ``step``, ``total_steps``, ``loss`` and its parts,
            ``learning_rate``, ``epoch``, ``tokens`` (those with a label), and ``memory_bytes`` (of the
            accelerator, else of the process).
        verify_gradients: Check one batch before training.
        data_fingerprint: Fingerprint of the data, field by field. A checkpoint of other data is refused.
        **options: Further arguments of ``transformers.Trainer``, by name.
    """

    def __init__(
        self,
        model: "PreTrainedModel | nn.Module",
        *,
        on_progress: Progress | None = None,
        verify_gradients: bool = True,
        data_fingerprint: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        config: Any = getattr(base_of(model), "config", None)
        caches = getattr(config, "use_cache", None)
        super().__init__(model, **options)
        self._return_memory()
        if caches is not None:  # transformers writes False there, and it would be saved with the model
            config.use_cache = caches
        # Our loss divides by the tokens of the effective batch: transformers has to count, and not to divide.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self.remove_callback(PrinterCallback)
        self.add_callback(Watch(self, on_progress))
        self.model: Any  # never None here, as transformers allows before it is made
        self.task: Task = task_of_model(self.model)
        self.memory: list[dict[str, float | str]] = []
        self.step_loss, self.step_tokens = 0.0, 0
        self.step_parts: dict[str, float] = {}
        self._last_norm: float | None = None
        self._verify = verify_gradients
        self._data = dict(data_fingerprint or {})
        self._stop = StopRequest()
        self._accepted = accepted_names(self.model)
        self._redirected: Path | None = None
        self._parameters: int | None = None
        self._evaluated = torch.zeros(2, dtype=torch.float64)  # sum of losses, tokens
        self.log_memory("made")

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """The micro-batches of one step, and the number of their labelled tokens over all processes."""
        samples = list(itertools.islice(epoch_iterator, num_batches))
        self.step_loss, self.step_tokens, self.step_parts = 0.0, sum(map(self._tokens, samples)), {}
        tokens = torch.tensor([self.step_tokens], device=device)
        return samples, (self.accelerator.gather(tokens) if self.args.world_size > 1 else tokens).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the overridden signature
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Cross-entropy of one micro-batch: a sum, over the tokens of the effective batch.

        ``row_id`` and other columns that the model does not know stay out of its inputs.
        """
        labels = inputs.get("labels")
        if labels is None:
            raise LabelError(f"the batch has no labels, only {', '.join(inputs)}. Check the collator.")
        given = {name: value for name, value in inputs.items() if name in self._accepted}
        if self.task == "seq2seq" and "decoder_input_ids" not in given:
            given["decoder_input_ids"] = decoder_inputs(self.accelerator.unwrap_model(model), labels)
        if "use_cache" in self._accepted:
            given["use_cache"] = False
        outputs = model(**given)
        loss = self._cross_entropy(outputs.logits, labels)
        if num_items_in_batch is None or not model.training:
            tokens = self._tokens(inputs)
            self._evaluated += torch.tensor([float(loss.detach()), tokens], dtype=torch.float64)
            loss = loss / max(tokens, 1)
        else:
            # Gradients are averaged over processes, and the divisor is already that of all of them.
            loss = loss * self.args.world_size / max(int(num_items_in_batch), 1)
        return (loss, outputs) if return_outputs else loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum over tokens with a label; causal logits, ``(batch, seq, vocab)``, meet the label after them."""
        if self.task == "causal":
            logits, labels = logits[:, :-1], labels[:, 1:]
        return nn.functional.cross_entropy(
            logits.float().reshape(-1, logits.shape[-1]),
            labels.reshape(-1),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=float(self.args.label_smoothing_factor),
        )

    def _tokens(self, inputs: Mapping[str, Any]) -> int:
        labels = inputs.get("labels")
        if labels is None:
            return 0
        counted = labels[..., 1:] if self.task == "causal" else labels
        return int((counted != IGNORE_INDEX).sum())

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """One forward and backward pass.

        Raises:
            NonFiniteError: The loss is not finite; names the step and the rows.
        """
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        value = float(loss)
        if not math.isfinite(value):
            rows = inputs.get("row_id")
            which = "" if rows is None else f", rows {', '.join(map(str, rows.reshape(-1).tolist()[:16]))}"
            raise NonFiniteError(
                f"the loss is {value} in step {self.state.global_step + 1}{which}. The weights are those of "
                "the step before. Lower the learning rate, or look at these rows."
            )
        self.step_loss += value
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]  # untyped in transformers
        self._last_norm = None if norm is None else float(norm)
        return norm

    def gradient_norm(self) -> float:
        """Norm of all gradients of this step, before they were scaled down."""
        if self._last_norm is not None:
            norm, self._last_norm = self._last_norm, None
            return norm
        gradients = [part.grad for part in self.model.parameters() if part.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Six for each parameter and token; transformers would count the parameters again in each batch."""
        if self._parameters is None:
            self._parameters = sum(part.numel() for part in self.model.parameters())
        ids = inputs.get("input_ids")
        return 0 if ids is None else 6 * int(ids.numel()) * self._parameters

    # ---- evaluation

    def evaluation_loop(self, *args: Any, **options: Any) -> "EvalLoopOutput":
        """As in transformers, but every token has the same weight, whatever the batches."""
        self._evaluated.zero_()
        output = super().evaluation_loop(*args, **options)
        summed = self.accelerator.reduce(self._evaluated.to(self.args.device, torch.float32), "sum").tolist()
        prefix = str(options.get("metric_key_prefix", "eval"))
        metrics = output.metrics or {}
        if summed[1] and f"{prefix}_loss" in metrics:
            metrics[f"{prefix}_loss"] = summed[0] / summed[1]
        return output

    # ---- training and checkpoints

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,  # noqa: FBT001 - the overridden signature
        *args: Any,
        **options: Any,
    ) -> "TrainOutput":
        """Train, from the beginning or from a checkpoint.

        Args:
            resume_from_checkpoint: A checkpoint to continue from. True takes the newest in ``output_dir``
                that verifies, or starts from the beginning if there is none.
            *args: As for transformers' Trainer.
            **options: As for transformers' Trainer.

        Raises:
            LabelError: No row has a label.
            GradientError: The model cannot learn.
            ResumeError: A checkpoint belongs to another run, or would be mixed with those of this one.
            IntegrityError: The named checkpoint is damaged.
            TrainingStoppedError: Ctrl-C or SIGTERM was received, and a checkpoint written. A second signal
                stops at once, without a checkpoint.
        """
        refuse_without_labels(self.train_dataset, self.task)
        checkpoint = self._resumed(resume_from_checkpoint)
        if checkpoint is not None and is_end(checkpoint):
            return self._ended(checkpoint)
        if self._verify and self.train_dataset is not None:
            self.verify_gradients()
        self.log_memory("before training")
        with self._stop.heard():
            output: TrainOutput = super().train(checkpoint, *args, **options)
        self.log_memory("after training")
        if self._stop.signal is not None:
            step = self.state.global_step
            target = Path(self._get_output_dir(None)) / f"checkpoint-{step}"
            raise TrainingStoppedError(step, self.state.max_steps, target, self._stop.signal)
        return output

    def _ended(self, checkpoint: str) -> "TrainOutput":
        """The result of a run that was already complete; transformers would train one more step."""
        from transformers.trainer_utils import TrainOutput

        self._load_from_checkpoint(checkpoint)
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
        logged = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        return TrainOutput(self.state.global_step, logged[-1] if logged else math.nan, {})

    def _load_from_checkpoint(self, *args: Any, **options: Any) -> None:
        with quiet():  # it names tied weights as missing
            super()._load_from_checkpoint(*args, **options)

    def asked_to_stop(self) -> bool:
        """Whether Ctrl-C or SIGTERM came, in any of the processes."""
        asked = self._stop.signal is not None
        if self.args.world_size > 1:
            asked = bool(self.accelerator.gather(torch.tensor([asked], device=self.args.device)).any())
        return asked

    def measure_rate(self, steps: int = 5) -> StepRate:
        """Time real steps for a forecast, then restore weights, buffers and random states bit for bit.

        Args:
            steps: Number of steps that are timed, > 0, after a first one that is not.

        Raises:
            ConfigError: ``steps`` is not positive.
            NonFiniteError: A loss is not finite.
        """
        return time_steps(self, super().train, steps)

    def verify_gradients(self) -> None:
        """Check one small batch: every trainable parameter gets a finite gradient, and the loss can fall.

        Raises:
            GradientError: One of the two fails. The model is restored in any case.
        """
        rows = self.train_dataset
        if rows is None or not hasattr(rows, "__getitem__") or not hasattr(rows, "__len__"):
            return
        count = min(_CHECKED_ROWS, len(rows), self.args.train_batch_size)
        batch = self._prepare_inputs(self.data_collator([rows[place] for place in range(count)]))
        tokens = self._tokens(batch)
        if not tokens:
            return
        mode, model = self.model.training, self.model
        kind = torch.bfloat16 if self.args.bf16 else torch.float16
        model.train()

        def loss_of() -> Tensor:
            mixed = self.args.bf16 or self.args.fp16
            with torch.autocast(self.args.device.type, kind) if mixed else nullcontext():
                loss: Tensor = SafeTrainer.compute_loss(self, model, dict(batch), num_items_in_batch=tokens)
            return loss

        try:
            with recomputing(model, self.args):  # as in training: without it the batch may not fit
                check_gradients(model, loss_of)
        finally:
            model.train(mode)
            self._return_memory()

    def _return_memory(self) -> None:
        # Pages that are given back are asked for again: a third of a small model's step.
        if self.args.device.type == "cpu" and self.args.gradient_checkpointing:
            return_freed_memory()

    def facts(self) -> dict[str, str]:
        """What identifies this run: a checkpoint that differs in one of these values is refused."""
        args = self.args
        named = {name: str(getattr(args, name)) for name in ("max_steps", "num_train_epochs", "seed")}
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        shapes = sorted((name, tuple(part.shape)) for name, part in self.model.named_parameters())
        model = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16]
        data: Any = self.train_dataset
        rows = len(data) if hasattr(data, "__len__") else "unknown"
        adapted = hasattr(self.model, "peft_config")  # then a checkpoint holds no weights of the base
        base = weights_fingerprint(base_of(self.model).name_or_path) if adapted else None  # type: ignore[arg-type]
        return {
            **named,
            "batch_size": str(batch),
            "learning_rate": str(args.learning_rate),
            "schedule": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
            "rows": str(rows),
            "model": model,
            **({} if base is None else {"base": base}),
            **{f"data.{name}": value for name, value in self._data.items()},
        }

    def log_memory(self, stage: str) -> None:
        """Record resident memory and the accelerator's peak at a stage, in ``memory`` and the log."""
        entry: dict[str, float | str] = {"stage": stage, "rss_bytes": memory_bytes("cpu")}
        if self.args.device.type == "cuda":
            entry["peak_bytes"] = memory_bytes("cuda")
        self.memory.append(entry)
        _LOG.info("memory %s: %.0f MB", stage, float(entry["rss_bytes"]) / 1e6)

    def _resumed(self, asked: object) -> str | None:
        folder = Path(str(self.args.output_dir))
        if asked is True:
            found = newest_verified(folder, self.facts())
            return None if found is None else str(found)
        if asked:
            check_run(Path(str(asked)), verified(Path(str(asked))), self.facts())
            return str(asked)
        saves = str(getattr(self.args.save_strategy, "value", self.args.save_strategy)) != "no"
        if saves and checkpoints(folder):
            raise ResumeError(
                f"{folder} holds checkpoints of an earlier run, which this one would mix with its own. "
                "Resume from them (resume_from_checkpoint=True), or choose another output_dir."
            )
        return None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._redirected) if self._redirected is not None else str(super()._get_output_dir(trial))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint to a staging folder, seal and rename it, then remove the oldest."""
        from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]  # no types

        folder = Path(self._get_output_dir(trial))
        target = folder / f"checkpoint-{self.state.global_step}"
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(folder / f"checkpoint-{self.state.best_global_step}")
        main = self.args.should_save
        with written(target, self.facts()) if main else nullcontext(Path()) as staging:
            shared = [str(staging)]
            if self.args.world_size > 1:
                broadcast_object_list(shared)
            self._redirected = Path(shared[0])
            try:
                with quiet():
                    super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
            finally:
                self._redirected = None
        if main:
            rotate(folder, keep=self.args.save_total_limit, best=self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()
