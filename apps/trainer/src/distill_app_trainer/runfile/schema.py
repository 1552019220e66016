"""The fields of a run file.

pydantic validates frozen dataclasses; nothing here imports torch.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, GetPydanticSchema

from distill_app_trainer.errors import ConfigError
from distill_app_trainer.runfile.kinds import STAGE_KINDS
from distill_app_trainer.runfile.stage import FORBID, Stage

Adapter = Literal["auto", "full", "lora", "qlora"]
UNDER_DATA = ("limits", "split")
"""Tables that stand under ``[data]`` and do not name data."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """``[run]``: the name of the run and its seed.

    Attributes:
        name: The name of the run folder: letters, digits, ``-``, ``_`` and ``.``.
        seed: The seed of everything random.
        task: ``"causal"``, ``"seq2seq"`` or ``"masked"``; auto reads it from the models.
        folder: Where run folders are made, relative to the working directory.
        report_to: Further places that training reports to: ``"tensorboard"`` (the extra of that name; the
            curves are in the run's ``logs``), ``"wandb"``, ``"mlflow"``, ``"trackio"``, ``"comet_ml"``,
            ``"swanlab"``.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    name: str
    seed: int = 42
    task: Literal["auto", "causal", "seq2seq", "masked"] = "auto"
    folder: str = "runs"
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a name that cannot be the name of a folder."""
        kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.name).strip("-.")
        if not self.name or self.name != kept:
            raise ConfigError(
                f"{self.name!r} is not a valid name; use letters, digits, '-', '_' and '.'.",
                field="name",
                found=self.name,
                suggestion=kept or "mine",
            )


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One file of ``[data]``.

    Attributes:
        path: The file, relative to the run file.
        columns: The name of a column here -> its name in the file.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    path: str
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """``[data.limits]``: the lengths at which texts are truncated.

    Attributes:
        max_source_length: Sources, prompts and texts keep at most this many tokens; None truncates nothing.
        max_target_length: Targets and completions keep at most this many tokens; None truncates nothing.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    max_source_length: int | None = None
    max_target_length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Split:
    """``[data.split]``: how ``train`` alone is split into train, validation and test.

    Attributes:
        exact: Whether the counts are exact; otherwise a row keeps its part when the data grows, and the
            counts are approximate.
        key: Rows that have the same value in this column stay together.
        seed: The seed of the split.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    exact: bool = False
    key: str | None = None
    seed: int = 42


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """``[models.NAME]``: a saved model, or the configuration and tokenizer of a fresh one.

    Attributes:
        path: A ``save_pretrained`` folder, relative to the run file, ``packaged:NAME`` for a model that ships
            with this app, or a name on the hub such as ``google-t5/t5-small``.
        config: A fresh model: ``model_type`` and further keys of its transformers configuration.
        tokenizer: The name of a model here, a folder or a name on the hub; a fresh model needs it, a saved
            one has its own.
        adapter: What is trained: ``"full"``, ``"lora"`` or ``"qlora"``; auto leaves it to the execution
            policy.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    path: str | None = None
    config: Mapping[str, object] | None = None
    tokenizer: str | None = None
    adapter: Adapter = "auto"

    def __post_init__(self) -> None:
        """Require exactly one of path and config, and what a fresh model needs."""
        if self.path is not None and self.config is not None:
            raise ConfigError(
                "give either path (a saved model) or config (a fresh one), not both.", field="path"
            )
        if self.path is not None:
            return
        if self.config is None:
            raise ConfigError("give either path (a saved model) or config (a fresh one).", field="config")
        if self.tokenizer is None:
            raise ConfigError(
                "a fresh model needs tokenizer = the name of a model or a folder.", field="tokenizer"
            )
        if "model_type" not in self.config:
            raise ConfigError(
                "config needs a model_type, such as 'marian', 'gpt2' or 'bert'.", field="config.model_type"
            )
        if self.adapter in ("lora", "qlora"):
            raise ConfigError(
                f"adapter = {self.adapter!r} adapts trained weights, and a fresh model has none.",
                field="adapter",
                found=self.adapter,
                allowed=("full", "auto"),
                suggestion="full",
            )


def _of_any_kind(_source: object, handler: Callable[[Any], Any]) -> Any:
    """The pydantic schema of a stage: the union of the kinds that are known when it is built."""
    every: Any = functools.reduce(operator.or_, STAGE_KINDS.values())
    return handler(Annotated[every, Field(discriminator="kind")])


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run file.

    Attributes:
        run: The name of the run, its seed and its task.
        data: Files by name; the names are free.
        limits: ``[data.limits]``.
        split: ``[data.split]``.
        models: Models by name.
        hardware: Fields of the execution policy that are set by hand.
        stages: Stages by name, in the order of the file.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    run: RunInfo
    data: Mapping[str, DataSource]
    limits: Limits = field(default_factory=Limits)
    split: Split = field(default_factory=Split)
    models: Mapping[str, ModelSource]
    hardware: Mapping[str, object] = field(default_factory=dict)
    stages: Mapping[str, Annotated[Stage, GetPydanticSchema(_of_any_kind)]]
