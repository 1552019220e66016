"""What a user decides about adapters, training and generating; imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Task = Literal["causal", "seq2seq", "masked"]
TASKS: tuple[Task, ...] = ("causal", "seq2seq", "masked")
# The label of a position at which nothing is learned; torch's cross-entropy leaves it out.
IGNORE_INDEX = -100
_KINDS = ("lora", "qlora", "ia3", "miss")
_FORBID: Mapping[str, str] = {"extra": "forbid"}


def check_task(task: str) -> Task:
    """Return ``task``, or refuse an unknown one.

    Raises:
        ValueError: ``task`` is none of ``causal``, ``seq2seq`` and ``masked``.
    """
    for known in TASKS:
        if task == known:
            return known
    raise ValueError(f"task {task!r} was asked for; there are {', '.join(TASKS)}.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. The device, types and micro-batch are the policy's.

    Args:
        steps: Optimizer steps; None trains ``epochs``.
        epochs: Passes over the data where ``steps`` is None; None is 3.
        batch_size: Examples per optimizer step, whatever the memory: the effective batch.
        learning_rate: Its peak.
        warmup: Share of the steps in which the learning rate rises to it.
        schedule: How it falls: a name that ``TrainingArguments(lr_scheduler_type=...)`` takes.
        weight_decay: Of AdamW.
        max_grad_norm: Gradients are scaled down to this norm; 0 leaves them.
        label_smoothing: Share of the target spread over the vocabulary.
        evaluate_every: Steps between evaluations; None never evaluates.
        save_every: Steps between checkpoints; None writes one only where the run is asked to stop.
        extra: Further arguments of ``transformers.TrainingArguments``.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = _FORBID

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.06
    schedule: str = "cosine"
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    label_smoothing: float = 0.0
    evaluate_every: int | None = None
    save_every: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps = {self.steps} and epochs = {self.epochs} were both given; give one.")
        for name in ("steps", "epochs", "batch_size", "learning_rate", "evaluate_every", "save_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} = {value} was asked for; it must be above 0.")
        for name in ("warmup", "label_smoothing"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} = {value} was asked for; it must be at least 0 and below 1.")
        for name in ("weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not value >= 0.0:
                raise ValueError(f"{name} = {value} was asked for; it must be at least 0.")


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What is trained beside frozen weights.

    Args:
        kind: ``lora``; ``qlora``: LoRA on weights that were loaded in nf4; ``ia3``: learned scales, which
            take neither rank, alpha nor dropout; ``miss``: shared shards, which take no alpha.
        rank: Of the two matrices of LoRA; of MiSS the width of its shards.
        alpha: Scale: LoRA's output is multiplied by ``alpha / rank``.
        dropout: Of the adapter's input.
        targets: ``auto`` and ``all-linear`` (every linear layer that is no head), ``attention``, or names and
            patterns as :func:`resolve_targets` takes.
        rank_stabilized: Scale by ``alpha / sqrt(rank)`` (rsLoRA).
        decomposed: Train magnitude and direction (DoRA).
        modules_to_save: Modules trained whole and saved with the adapter.
        extra: Further arguments of PEFT's configuration of this kind, untested here.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = _FORBID

    kind: str = "lora"
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.05
    targets: str | tuple[str, ...] = "auto"
    rank_stabilized: bool = False
    decomposed: bool = False
    modules_to_save: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no adapter."""
        if self.kind not in _KINDS:
            raise ValueError(f"kind = {self.kind!r} was asked for; there are {', '.join(_KINDS)}.")
        for name in ("rank_stabilized", "decomposed"):
            if getattr(self, name) and self.kind not in ("lora", "qlora"):
                raise ValueError(f"{name} is LoRA's, and kind = {self.kind!r} was asked for; leave one out.")
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} was asked for; it must be at least 1.")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout = {self.dropout} was asked for; it must be at least 0 and below 1.")


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How texts are generated.

    Args:
        max_new_tokens: The most tokens of an output.
        beams: 1 is greedy; more is beam search.
        batch_size: Texts generated at once.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = _FORBID

    max_new_tokens: int = 64
    beams: int = 1
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse what generates nothing."""
        for name in ("max_new_tokens", "beams", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} was asked for; it must be at least 1.")
