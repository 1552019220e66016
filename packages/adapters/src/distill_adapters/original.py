"""The names that users of the original system know, with their meaning and without its faults."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.attaching import attach
from distill_adapters.finetuning import FineTuner, TrainOutcome
from distill_adapters.loading import LoadedModel, load_model, save_model
from distill_adapters.reports import model_report
from distill_adapters.settings import AdapterConfig, Task, TrainSettings

if TYPE_CHECKING:
    from datasets import DatasetDict

    from distill_hwdetect import ExecutionPolicy

_TASKS: dict[str, Task] = {"causal_lm": "causal", "seq2seq_lm": "seq2seq", "masked_lm": "masked"}


def _task(model_type: str) -> Task:
    if model_type not in _TASKS:
        raise ValueError(f"model_type = {model_type!r} was asked for; it must be one of {', '.join(_TASKS)}.")
    return _TASKS[model_type]


def _policy(model: str, task: Task, *, adapter: str, training: bool) -> "ExecutionPolicy":
    from distill_hwdetect import Requirements, detect, plan, read_model_facts

    path = Path(model)
    if not path.is_dir():
        from transformers import AutoConfig

        facts = read_model_facts(AutoConfig.from_pretrained(model).to_dict())
    else:
        facts = read_model_facts(path)
    kind: Any = adapter
    return plan(detect(), Requirements(task=task, model=facts, training=training, adapter=kind))


class ModelLoader:
    """Load a model for a task, as this machine allows.

    Args:
        model_name: A folder or a hub name.
        model_type: ``causal_lm``, ``seq2seq_lm`` or ``masked_lm``.
        max_length: Tokens of a text, at least 1.
        use_qlora: Load the weights in 4 bits.
        train_mode: Whether the model is to be trained.

    Attributes:
        model, tokenizer: What was loaded.
        device, dtype: Where and in what it computes.
        policy: Every decision with its reason.

    Raises:
        ValueError: ``max_length`` is below 1, the name is empty, or the type is unknown.
    """

    def __init__(
        self,
        model_name: str,
        model_type: str = "causal_lm",
        *,
        max_length: int = 128,
        use_qlora: bool = False,
        train_mode: bool = False,
    ) -> None:
        if not str(model_name).strip():
            raise ValueError("model_name is empty; give a folder or a hub name.")
        if max_length < 1:
            raise ValueError(f"max_length = {max_length} was asked for; it must be at least 1.")
        task = _task(model_type)
        self.max_length = max_length
        self.policy = _policy(
            str(model_name), task, adapter="qlora" if use_qlora else "auto", training=train_mode
        )
        self.loaded: LoadedModel = load_model(model_name, self.policy, task, training=train_mode)
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer
        self.device = str(self.policy.value("device"))
        self.dtype = str(self.policy.value("compute_dtype"))

    def get_model_profile(self) -> dict[str, object]:
        """The model's size: parameters, bytes, quantized share."""
        return model_report(self.loaded).to_dict()


class QLoRAFineTuner:
    """Fine-tune with QLoRA wherever the device can do it, else with LoRA, which :attr:`method` says.

    Args:
        base_model: A folder or a hub name.
        model_type: ``causal_lm``, ``seq2seq_lm`` or ``masked_lm``.
        lora_rank: Inner dimension of the adapter.
        lora_alpha: Its scale.
        lora_dropout: Dropout on its input.
        target_modules: Layers to adapt; None finds them by structure.
        use_qlora: False trains a plain LoRA.
        seed: Of adapter weights, data order and dropout.
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
        self.policy = _policy(base_model, task, adapter="qlora" if possible else "lora", training=True)
        self.method = str(self.policy.value("adapter"))
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
                targets=list(target_modules) if target_modules else "auto",
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
        data_collator: Any = None,
    ) -> TrainOutcome:
        """Train, and write ``output_dir/model`` (the adapter) and ``output_dir/tokenizer``.

        Args:
            dataset_dict: Tokenized splits; ``train`` is needed.
            output_dir: Where the results go.
            per_device_train_batch_size: Rows of a micro-batch.
            gradient_accumulation_steps: Micro-batches a step.
            num_train_epochs: Passes over the data.
            learning_rate: Peak.
            data_collator: Makes batches; None is transformers' own for the task.

        Raises:
            LabelError: There is no ``train`` split.
            FileExistsError: ``output_dir/model`` is there.
        """
        from distill_deploy import save

        folder = Path(output_dir)
        if (folder / "model").exists():
            raise FileExistsError(f"{folder / 'model'} exists; choose another output_dir.")
        tuner = FineTuner(
            self.loaded,
            settings=TrainSettings(
                epochs=num_train_epochs,
                batch_size=per_device_train_batch_size * gradient_accumulation_steps,
                learning_rate=learning_rate,
                warmup=0.05,
                max_grad_norm=0.3,
            ),
            policy=self.policy,
            output_dir=folder / "checkpoints",
            seed=self.seed,
            data_collator=data_collator,
        )
        outcome = tuner.train(dataset_dict)
        save_model(self.loaded, folder / "model", metadata={"method": self.method})
        save(None, self.tokenizer, folder / "tokenizer")
        return outcome
