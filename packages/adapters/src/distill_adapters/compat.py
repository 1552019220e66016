"""``ModelLoader`` and ``QLoRAFineTuner``: the names of the original system, kept with their meaning."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.adapter import attach
from distill_adapters.config import AdapterConfig, Task, TrainConfig, check_at_least, unknown_value
from distill_adapters.errors import ConfigError
from distill_adapters.finetuning import FineTuner, TrainOutcome
from distill_adapters.loading import load_model
from distill_adapters.reports import model_report
from distill_adapters.saving import save_model

if TYPE_CHECKING:
    from datasets import DatasetDict
    from torch import Tensor

    from distill_hwdetect import ExecutionPolicy

_LOG = logging.getLogger(__name__)
_TASKS: dict[str, Task] = {"causal_lm": "causal", "seq2seq_lm": "seq2seq", "masked_lm": "masked"}


def _task(model_type: str) -> Task:
    if model_type not in _TASKS:
        raise unknown_value("model_type", model_type, tuple(_TASKS))
    return _TASKS[model_type]


def _policy(model: str, task: Task, *, adapter: str, training: bool) -> "ExecutionPolicy":
    from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts

    path = Path(model)
    if not path.is_dir():
        from transformers import AutoConfig

        facts = read_model_facts(AutoConfig.from_pretrained(model).to_dict())
    else:
        facts = read_model_facts(path)
    kind: Any = adapter
    return choose_policy(detect(), Requirements(task=task, model=facts, training=training, adapter=kind))


class ModelLoader:
    """Load a model for a task, as this machine allows.

    Args:
        model_name: A folder or a hub name.
        model_type: ``causal_lm``, ``seq2seq_lm`` or ``masked_lm``.
        adapter_path: A folder with an adapter that was trained on this model.
        lora_config: A fresh adapter to attach; True is the default one.
        use_qlora: Load the weights in 4 bits, where the device can.
        max_length: Tokens of a text, at least 1.
        train_mode: Whether the model is to be trained.

    Attributes:
        model, tokenizer: What was loaded.
        device, dtype: Where and in what it computes.
        use_cuda, use_xpu, use_gpu, use_fp16, use_bf16: The same as flags.
        policy: Every decision with its reason.

    Raises:
        ConfigError: ``max_length`` is below 1, the name is empty, the type is unknown, or two adapters are
            given.
        ModelLoadError: There is no such model or adapter.
    """

    def __init__(
        self,
        model_name: str,
        model_type: str = "causal_lm",
        adapter_path: str | Path | None = None,
        lora_config: AdapterConfig | bool | None = None,  # noqa: FBT001 - the original's signature
        *,
        use_qlora: bool = False,
        max_length: int = 128,
        train_mode: bool = False,
    ) -> None:
        if not str(model_name).strip():
            raise ConfigError(
                "model_name is empty; give a folder or a hub name.", field="model_name", found=model_name
            )
        check_at_least(1, max_length=max_length)
        if adapter_path is not None and lora_config:
            raise ConfigError(
                "adapter_path and lora_config were both given; give one of them.",
                field="lora_config",
                found=lora_config,
            )
        task = _task(model_type)
        self.max_length = max_length
        adapter = "qlora" if use_qlora else "lora" if adapter_path or lora_config else "auto"
        self.policy = _policy(str(model_name), task, adapter=adapter, training=train_mode)
        self.loaded = load_model(adapter_path or model_name, self.policy, task, training=train_mode)
        if lora_config:
            self.loaded = attach(self.loaded, lora_config if isinstance(lora_config, AdapterConfig) else None)
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer
        self.device = self.policy.device.value
        self.dtype = self.policy.compute_dtype.value
        self.use_cuda, self.use_xpu = self.device.startswith("cuda"), self.device.startswith("xpu")
        self.use_gpu = self.device != "cpu"
        self.use_fp16, self.use_bf16 = self.dtype == "float16", self.dtype == "bfloat16"

    def get_model_profile(self) -> dict[str, object]:
        """The model's size: parameters, bytes, quantized share."""
        return model_report(self.loaded).to_dict()

    def generate_logits(self, texts: Sequence[str]) -> dict[str, "Tensor"]:
        """Scores of every token for texts cut to ``max_length``, padded on the right.

        A seq2seq model reads each text as its own target, as the original did.

        Returns:
            ``logits``, ``(texts, longest, vocabulary)``, and ``attention_mask``, ``(texts, longest)``.
        """
        import torch

        batch = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
            padding_side="right",
        ).to(self.model.device)
        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        model, mode = self.model, self.model.training
        if self.loaded.task == "seq2seq":
            given["labels"] = batch["input_ids"]
        model.train(mode=False)
        with torch.inference_mode():
            logits = model(**given).logits
        model.train(mode=mode)
        return {"logits": logits, "attention_mask": batch["attention_mask"]}


class QLoRAFineTuner:
    """Fine-tune with QLoRA if the device supports it, else with LoRA; :attr:`method` holds which.

    Args:
        base_model: A folder or a hub name.
        model_type: ``causal_lm``, ``seq2seq_lm`` or ``masked_lm``.
        lora_rank: Inner dimension of the adapter.
        lora_alpha: Scale of the adapter.
        lora_dropout: Dropout on the adapter's input.
        target_modules: Layers to adapt; None finds them by structure.
        use_qlora: False trains LoRA without quantization.
        seed: Seed of adapter weights, data order and dropout.
    """

    def __init__(
        self,
        base_model: str,
        model_type: str = "causal_lm",
        *,
        lora_rank: int = 8,
        lora_alpha: int = 32,
        lora_dropout: float = 0.05,
        target_modules: Sequence[str] | None = None,
        use_qlora: bool = True,
        seed: int = 42,
    ) -> None:
        import importlib.util

        from transformers import set_seed

        task = _task(model_type)
        possible = use_qlora and importlib.util.find_spec("bitsandbytes") is not None
        if use_qlora and not possible:
            _LOG.warning(
                "QLoRA needs bitsandbytes, so LoRA is trained: pip install 'distill-adapters[qlora]'"
            )
        self.policy = _policy(base_model, task, adapter="qlora" if possible else "lora", training=True)
        self.method = self.policy.adapter.value
        if possible and self.method != "qlora":
            _LOG.warning("%s is trained instead of QLoRA: %s", self.method, self.policy.adapter.reason)
        self.seed = seed
        set_seed(seed)
        base = load_model(base_model, self.policy, task)
        self.loaded = attach(
            base,
            AdapterConfig(
                kind="qlora" if self.method == "qlora" else "lora",
                rank=lora_rank,
                alpha=lora_alpha,
                dropout=lora_dropout,
                targets=tuple(target_modules) if target_modules else "auto",
            ),
        )
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer

    def train(
        self,
        dataset_dict: "DatasetDict",
        output_dir: str | Path,
        *,
        per_device_train_batch_size: int = 2,
        gradient_accumulation_steps: int = 4,
        num_train_epochs: float = 2,
        learning_rate: float = 1e-4,
        logging_steps: int = 10,
        save_strategy: str = "epoch",
        data_collator: Any = None,
        resume_from_checkpoint: bool = False,
    ) -> TrainOutcome:
        """Train, and write ``output_dir/model`` (the adapter) and ``output_dir/tokenizer``.

        Where there is a ``validation`` split its loss is measured after each epoch.

        Args:
            dataset_dict: Tokenized splits; ``train`` is needed.
            output_dir: Where the results go.
            per_device_train_batch_size: Rows of a micro-batch.
            gradient_accumulation_steps: Micro-batches a step.
            num_train_epochs: Passes over the data.
            learning_rate: Peak.
            logging_steps: Steps between entries of the log.
            save_strategy: ``epoch`` writes checkpoints under ``output_dir/checkpoints`` while it trains;
                ``no`` writes none.
            data_collator: Makes batches; None is transformers' own for the task.
            resume_from_checkpoint: Go on from the newest checkpoint that verifies, where there is one.

        Raises:
            ValueError: There is no ``train`` split.
            FileExistsError: ``output_dir/model`` is there.
        """
        from distill_deploy import save

        folder = Path(output_dir)
        if (folder / "model").exists():
            raise FileExistsError(f"{folder / 'model'} exists; choose another output_dir.")
        tuner = FineTuner(
            self.loaded,
            config=TrainConfig(
                epochs=num_train_epochs,
                batch_size=per_device_train_batch_size * gradient_accumulation_steps,
                learning_rate=learning_rate,
                warmup=0.05,
                max_grad_norm=0.3,
                extra=_extra(dataset_dict, logging_steps, save_strategy),
            ),
            policy=self.policy,
            output_dir=folder / "checkpoints",
            seed=self.seed,
            data_collator=data_collator,
        )
        outcome = tuner.train(dataset_dict, resume=resume_from_checkpoint)
        save_model(self.loaded, folder / "model", metadata={"method": self.method})
        save(None, self.tokenizer, folder / "tokenizer")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return outcome


def _extra(dataset_dict: "DatasetDict", logging_steps: int, save_strategy: str) -> dict[str, object]:
    return {
        "logging_steps": logging_steps,
        "save_strategy": save_strategy,
        "eval_strategy": "epoch" if "validation" in dataset_dict else "no",
        "save_total_limit": 1,
    }
