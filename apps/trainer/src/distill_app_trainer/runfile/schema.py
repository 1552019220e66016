"""The run file: its fields.

Validated by pydantic out of frozen dataclasses; nothing here imports torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distill_adapters import TrainConfig
from distill_kd import CacheConfig, DistillConfig

Task = Literal["causal", "seq2seq", "masked"]
Adapter = Literal["auto", "full", "lora", "qlora"]
FORBID: Mapping[str, str] = {"extra": "forbid"}
UNDER_DATA = ("limits", "split")
"""Tables that stand under ``[data]`` and are no data."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """``[run]``: what the run is called and how it is seeded.

    Attributes:
        name: Of the run folder: letters, digits, ``-``, ``_``, ``.``.
        seed: Of everything random.
        task: ``"causal"``, ``"seq2seq"``, ``"masked"``; auto reads it from the models.
        folder: Where run folders are made, relative to the working directory.
        report_to: Where training reports to as well: ``"tensorboard"`` (the extra of that name; curves in the
            run's ``logs``), ``"wandb"``, ``"mlflow"``, ``"trackio"``, ``"comet_ml"``, ``"swanlab"``.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    name: str
    seed: int = 42
    task: Literal["auto", "causal", "seq2seq", "masked"] = "auto"
    folder: str = "runs"
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a name that is no folder name."""
        if (
            not self.name
            or self.name.startswith(".")
            or not all(c.isalnum() or c in "-_." for c in self.name)
        ):
            raise ValueError(f"{self.name!r} is no name; use letters, digits, '-', '_' and '.'.")


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One file of ``[data]``.

    Attributes:
        path: The file, relative to the run file.
        columns: Our name of a column -> the file's.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    path: str
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """``[data.limits]``: lengths beyond which texts are cut.

    Attributes:
        max_source_length: Tokens beyond which sources, prompts and texts are cut; None cuts nothing.
        max_target_length: Tokens beyond which targets and completions are cut; None cuts nothing.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    max_source_length: int | None = None
    max_target_length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Split:
    """``[data.split]``: how ``train`` alone is parted into train, validation and test.

    Attributes:
        exact: Exact counts; else a row keeps its part when the data grows, and the counts are approximate.
        key: Rows that agree in this column stay together.
        seed: Another one, another partition.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    exact: bool = False
    key: str | None = None
    seed: int = 42


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """``[models.NAME]``: a folder, or the configuration and tokenizer of a fresh model.

    Attributes:
        path: A ``save_pretrained`` folder, relative to the run file, ``packaged:NAME`` among the files that
            ship, or a name on the hub such as ``google-t5/t5-small``.
        config: A fresh model: ``model_type`` and further keys of its transformers configuration.
        tokenizer: A model's name, a folder or a name on the hub; a fresh model needs it, a saved one brings
            its own.
        adapter: ``"full"``, ``"lora"``, ``"qlora"``: what is trained of it; auto asks the policy.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    path: str | None = None
    config: Mapping[str, object] | None = None
    tokenizer: str | None = None
    adapter: Adapter = "auto"

    def __post_init__(self) -> None:
        """Require exactly one of path and config."""
        if (self.path is None) == (self.config is None):
            raise ValueError("give either path (a saved model) or config (a fresh one), and not both.")
        if self.config is not None and self.tokenizer is None:
            raise ValueError("a fresh model needs tokenizer = a model's name or a folder.")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError("config needs a model_type, such as 'marian', 'gpt2' or 'bert'.")
        if self.config is not None and self.adapter in ("lora", "qlora"):
            raise ValueError(
                f"adapter = {self.adapter!r} adapts trained weights, and a fresh model has none."
            )


Names = str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FinetuneStage:
    """Train ``model`` on ``data``.

    Attributes:
        model: What is trained.
        data: A name or a list of names.
        seeds: Repeats the stage for each seed; none takes the run's.
        train: See below.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["finetune"]
    model: str
    data: Names = "train"
    seeds: tuple[int, ...] = ()
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True, kw_only=True)
class DistillStage:
    """Train ``model`` on ``data`` and on what ``teacher`` says about it.

    Attributes:
        model: The student.
        teacher: Whose distributions it follows: a model, or a cache_teacher stage.
        data: A name or a list of names.
        seeds: Repeats the stage for each seed; none takes the run's.
        train: See below.
        objective: See below.
        accept_worse_teacher: Go on with a teacher that is no better on validation than the student alone.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["distill"]
    model: str
    teacher: str
    data: Names = "train"
    seeds: tuple[int, ...] = ()
    train: TrainConfig = field(default_factory=TrainConfig)
    objective: DistillConfig = field(default_factory=DistillConfig)
    accept_worse_teacher: bool = False


@dataclass(frozen=True, kw_only=True)
class PseudoLabelStage:
    """Let ``model`` answer ``data``.

    Attributes:
        model: Who answers.
        data: What is answered, a name or a list of names; the answers are data under the stage's name.
        max_new_tokens: Longest answer.
        beams: Of the search; 1 is greedy.
        batch_size: Texts generated at once.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["pseudo_label"]
    model: str
    data: Names
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    beams: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 128


@dataclass(frozen=True, kw_only=True)
class CacheTeacherStage:
    """Write down the distributions of ``model`` over ``data`` once; a distill stage names it as teacher.

    Attributes:
        model: Whose distributions are stored.
        data: Over what, a name or a list of names.
        cache: How much of each distribution is kept: see below.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["cache_teacher"]
    model: str
    data: Names
    cache: CacheConfig = field(default_factory=CacheConfig)


@dataclass(frozen=True, kw_only=True)
class MergeStage:
    """Merge the adapter of ``model`` into its base.

    Attributes:
        model: The stage, or the model of the file, whose adapter is merged.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["merge"]
    model: str


@dataclass(frozen=True, kw_only=True)
class EvaluateStage:
    """Score ``systems`` on the raw texts of ``data`` and compare them by pairs.

    Attributes:
        systems: Models to score; a stage with seeds stands for all of them.
        data: On which texts.
        metrics: Names of ``distill_metrics.METRIC_NAMES``, ``accuracy`` (the share of whole answers that are
            right) or, of masked models, ``nll``.
        compare: Pairs of systems; the further seeds of a stage are ``NAME_seedN``.
        max_new_tokens: Longest answer.
        beams: Of the search; 1 is greedy.
        batch_size: Texts generated at once.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["evaluate"]
    systems: tuple[str, ...]
    data: str = "test"
    metrics: tuple[str, ...]
    compare: tuple[tuple[str, str], ...] = ()
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    beams: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 64


@dataclass(frozen=True, kw_only=True)
class ExportStage:
    """Export ``model`` so that it runs without torch, compared with it on held-out ``data``.

    Attributes:
        model: What is exported; an adapter is merged first.
        format: ``"ctranslate2"`` (causal, seq2seq), ``"onnx"`` (masked), or what Optimum makes: ``"onnx"``
            (seq2seq, masked), ``"openvino"`` (causal, masked); auto knows.
        exporter: ``"own"``, ``"optimum"``, or auto: our own where it has the format.
        isolated: Run Optimum in an environment of its own, which uv makes once.
        precision: Or ``"fp32"``.
        data: Held-out texts for the certificate.
        metrics: The export is scored by them as a system of its own; they need ``data``.
        floor: Least share of equal tokens, 0 to 1; None takes 0.99, of masked models 0.97.
        accept: Keep an export that misses its floor.
        max_new_tokens: Longest answer.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["export"]
    model: str
    format: Literal["auto", "ctranslate2", "onnx", "openvino"] = "auto"
    exporter: Literal["auto", "own", "optimum"] = "auto"
    isolated: bool = False
    precision: Literal["int8", "fp32"] = "int8"
    data: str | None = None
    metrics: tuple[str, ...] = ()
    floor: float | None = None
    accept: bool = False
    max_new_tokens: Annotated[int, Field(ge=1)] = 64


@dataclass(frozen=True, kw_only=True)
class ReportStage:
    """Write report.json, report.html and the model cards of what was done so far."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["report"]


TrainingStage = FinetuneStage | DistillStage
Stage = (
    FinetuneStage
    | DistillStage
    | PseudoLabelStage
    | CacheTeacherStage
    | MergeStage
    | EvaluateStage
    | ExportStage
    | ReportStage
)
STAGE_KINDS: Mapping[str, type] = {
    "finetune": FinetuneStage,
    "pseudo_label": PseudoLabelStage,
    "cache_teacher": CacheTeacherStage,
    "distill": DistillStage,
    "merge": MergeStage,
    "evaluate": EvaluateStage,
    "export": ExportStage,
    "report": ReportStage,
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run file.

    Attributes:
        run: Name, seed, task.
        data: Files by name; any names.
        limits: ``[data.limits]``.
        split: ``[data.split]``.
        models: Models by name.
        hardware: Fields of the execution policy set by hand.
        stages: Stages by name, in the order of the file.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    run: RunSettings
    data: Mapping[str, DataSource]
    limits: Limits = field(default_factory=Limits)
    split: Split = field(default_factory=Split)
    models: Mapping[str, ModelSource]
    hardware: Mapping[str, object] = field(default_factory=dict)
    stages: Mapping[str, Annotated[Stage, Field(discriminator="kind")]]
