"""The configuration of adapters, training and decoding; imports nothing heavy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill_adapters.errors import ConfigError
from distill_adapters.spelling import did_you_mean, near

Task = Literal["causal", "seq2seq", "masked"]
TASKS: tuple[Task, ...] = ("causal", "seq2seq", "masked")
# The label of a position at which nothing is learned; torch's cross-entropy leaves it out.
IGNORE_INDEX = -100
_KINDS = ("lora", "qlora", "ia3", "miss")
_FORBID: Mapping[str, str] = {"extra": "forbid"}


def check_task(task: str) -> Task:
    """Return ``task``, or refuse an unknown one.

    Raises:
        ConfigError: ``task`` is not ``causal``, ``seq2seq`` or ``masked``.
    """
    for known in TASKS:
        if task == known:
            return known
    raise unknown_value("task", task, TASKS)


def unknown_value(field: str, found: object, allowed: Sequence[str]) -> ConfigError:
    """The error of a value that is not one of those allowed."""
    suggestion = near(found, allowed)
    return ConfigError(
        f"{field} = {found!r} was given; it must be one of {', '.join(allowed)}.{did_you_mean(suggestion)}",
        field=field,
        found=found,
        allowed=allowed,
        suggestion=suggestion,
    )


def check_at_least(least: int, **values: int) -> None:
    """Refuse a value below a bound.

    Raises:
        ConfigError: A value is below ``least``.
    """
    for name, value in values.items():
        if value < least:
            raise ConfigError(
                f"{name} = {value} was given; it must be at least {least}.",
                field=name,
                found=value,
                suggestion=least,
            )


def _check_share(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 <= value < 1.0:
            raise ConfigError(
                f"{name} = {value} was given; it must be at least 0 and below 1.",
                field=name,
                found=value,
                suggestion=0.0,
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. Device, number types and micro-batch are decided by the policy.

    Args:
        steps: Number of optimizer steps. None trains for ``epochs`` instead.
        epochs: Number of passes over the training data, where ``steps`` is None. None means 3 passes.
        batch_size: Number of examples per optimizer step (the effective batch size). It does not depend on
            memory: a micro-batch that fits is accumulated to it.
        learning_rate: Peak learning rate after warmup.
        warmup: Share of the steps in which the learning rate rises from 0 to its peak.
        schedule: How the learning rate falls after warmup: a name that
            ``TrainingArguments(lr_scheduler_type=...)`` takes, such as ``cosine`` or ``linear``.
        weight_decay: Weight decay of the AdamW optimizer.
        max_grad_norm: Largest norm of the gradients; larger ones are scaled down to it. 0 turns this off.
        label_smoothing: Share of the target probability that is spread over the whole vocabulary.
        evaluate_every: Number of steps between evaluations. None never evaluates.
        save_every: Number of steps between checkpoints. None writes a checkpoint only when the run is
            stopped.
        extra: Further arguments of ``transformers.TrainingArguments``.

    Raises:
        ConfigError: A value cannot train; its ``field`` names it.
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
        """Refuse values that cannot train."""
        if self.steps is not None and self.epochs is not None:
            raise ConfigError(
                f"steps = {self.steps} and epochs = {self.epochs} were both given; give one of them.",
                field="epochs",
                found=self.epochs,
            )
        for name in ("steps", "epochs", "batch_size", "learning_rate", "evaluate_every", "save_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                default = type(self).__dataclass_fields__[name].default
                raise ConfigError(
                    f"{name} = {value} was given; it must be above 0.",
                    field=name,
                    found=value,
                    suggestion=default,
                )
        _check_share(warmup=self.warmup, label_smoothing=self.label_smoothing)
        for name in ("weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not value >= 0.0:
                raise ConfigError(
                    f"{name} = {value} was given; it must be at least 0.",
                    field=name,
                    found=value,
                    suggestion=0.0,
                )


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What is trained beside the frozen weights of a model.

    Args:
        kind: Kind of adapter: ``lora``; ``qlora``, which is LoRA on weights that were loaded in 4 or 8 bits;
            ``ia3``, learned scales without rank, alpha or dropout; or ``miss``, shared shards without alpha.
        rank: Rank of the two matrices of LoRA, or the width of the shards of MiSS.
        alpha: Scale of LoRA: the adapter's output is multiplied by ``alpha / rank``.
        dropout: Dropout probability on the adapter's input.
        targets: Layers that get an adapter: ``auto`` or ``all-linear`` (every linear layer except the heads),
            ``attention`` (those in attention modules), or names and patterns as ``resolve_targets`` takes
            them.
        rank_stabilized: Scale LoRA by ``alpha / sqrt(rank)`` instead (rsLoRA).
        decomposed: Train the magnitude and the direction of weights separately (DoRA).
        modules_to_save: Modules that are trained whole and saved with the adapter.
        extra: Further arguments of PEFT's configuration class of this kind. They are passed on unchecked.

    Raises:
        ConfigError: A value does not describe an adapter; its ``field`` names it.
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
        """Refuse values that do not describe an adapter."""
        if self.kind not in _KINDS:
            raise unknown_value("kind", self.kind, _KINDS)
        for name in ("rank_stabilized", "decomposed"):
            if getattr(self, name) and self.kind not in ("lora", "qlora"):
                raise ConfigError(
                    f"{name} applies to LoRA, but kind = {self.kind!r} was given; leave one of them out.",
                    field=name,
                    found=True,
                    suggestion=False,
                )
        check_at_least(1, rank=self.rank, alpha=self.alpha)
        _check_share(dropout=self.dropout)


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How text is generated.

    Args:
        max_new_tokens: Largest number of tokens that are generated for one text.
        beams: Number of beams. 1 decodes greedily; more is beam search.
        batch_size: Number of texts that are generated at once.

    Raises:
        ConfigError: A value is below 1; its ``field`` names it.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = _FORBID

    max_new_tokens: int = 64
    beams: int = 1
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse values that generate nothing."""
        check_at_least(1, max_new_tokens=self.max_new_tokens, beams=self.beams, batch_size=self.batch_size)
