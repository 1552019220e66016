"""The kinds of stages of this app, and the registry of all kinds; nothing here imports torch."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distill_adapters import TrainConfig
from distill_app_trainer.runfile.stage import ENTRY_POINTS, CountRows, Names, Stage, TrainingStage, Work
from distill_kd import CacheConfig, DistillConfig

AtLeastOne = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class FinetuneStage(TrainingStage):
    """Train ``model`` on ``data``.

    Attributes:
        model: The model to train.
        data: The name of the data, or a list of names.
        seeds: The stage is repeated for each seed; an empty list takes the run's seed.
        train: How it is trained; see the table ``train``.
    """

    kind: Literal["finetune"]
    model: str
    data: Names = "train"
    seeds: tuple[int, ...] = ()
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True, kw_only=True)
class DistillStage(TrainingStage):
    """Train ``model`` on ``data`` and on the distributions of ``teacher`` over it.

    Attributes:
        model: The student.
        teacher: The model whose distributions it learns from, or the cache_teacher stage that keeps them.
        data: The name of the data, or a list of names.
        seeds: The stage is repeated for each seed; an empty list takes the run's seed.
        train: How it is trained; see the table ``train``.
        objective: What it minimizes; see the table ``objective``.
        accept_worse_teacher: Continue with a teacher that is no better on validation than the student alone.
    """

    kind: Literal["distill"]
    model: str
    teacher: str
    data: Names = "train"
    seeds: tuple[int, ...] = ()
    train: TrainConfig = field(default_factory=TrainConfig)
    objective: DistillConfig = field(default_factory=DistillConfig)
    accept_worse_teacher: bool = False

    def uses_models(self) -> tuple[tuple[str, str], ...]:
        """Student and teacher."""
        return (("model", self.model), ("teacher", self.teacher))


@dataclass(frozen=True, kw_only=True)
class PseudoLabelStage(Stage):
    """Let ``model`` answer ``data``; the answers are data under the stage's name.

    Attributes:
        model: The model that answers.
        data: The name of the data that is answered, or a list of names.
        max_new_tokens: The length of the longest answer, in tokens.
        beams: The beams of the search; 1 is greedy.
        batch_size: The number of texts generated at once.
    """

    makes: ClassVar[Literal["data"]] = "data"
    parallel: ClassVar[bool] = True

    kind: Literal["pseudo_label"]
    model: str
    data: Names
    max_new_tokens: AtLeastOne = 64
    beams: AtLeastOne = 1
    batch_size: AtLeastOne = 128

    def reads(self) -> Literal["inputs"]:
        """It answers them."""
        return "inputs"

    def work(self, count_rows: CountRows) -> Work:
        """One answer a row."""
        return Work(training=False, rows=count_rows(self.data), models=(self.model,))


@dataclass(frozen=True, kw_only=True)
class CacheTeacherStage(Stage):
    """Write the distributions of ``model`` over ``data`` once; a distill stage names it as its teacher.

    Attributes:
        model: The model whose distributions are cached.
        data: The name of the data they are computed over, or a list of names.
        cache: How much of each distribution is kept; see the table ``cache``.
    """

    makes: ClassVar[Literal["cache"]] = "cache"
    parallel: ClassVar[bool] = True

    kind: Literal["cache_teacher"]
    model: str
    data: Names
    cache: CacheConfig = field(default_factory=CacheConfig)

    def reads(self) -> Literal["examples"]:
        """It reads what a student will learn from."""
        return "examples"

    def work(self, count_rows: CountRows) -> Work:
        """One forward pass a row."""
        return Work(training=False, rows=count_rows(self.data), models=(self.model,))


@dataclass(frozen=True, kw_only=True)
class MergeStage(Stage):
    """Merge the adapter of ``model`` into its base.

    Attributes:
        model: The stage, or the model of the file, whose adapter is merged.
    """

    makes: ClassVar[Literal["model"]] = "model"
    writes_weights: ClassVar[bool] = True

    kind: Literal["merge"]
    model: str


@dataclass(frozen=True, kw_only=True)
class EvaluateStage(Stage):
    """Score ``systems`` on the raw texts of ``data`` and compare pairs of them.

    Attributes:
        systems: The models to score; a stage with seeds stands for all of them.
        data: The name of the data.
        metrics: Names of ``distill_metrics.metric_names()``, ``accuracy`` (the share of answers that are
            right as a whole) or, for masked models, ``nll``.
        compare: Pairs of systems; the further seeds of a stage are ``NAME_seedN``.
        max_new_tokens: The length of the longest answer, in tokens.
        beams: The beams of the search; 1 is greedy.
        batch_size: The number of texts generated at once.
    """

    kind: Literal["evaluate"]
    systems: tuple[str, ...]
    data: str = "test"
    metrics: tuple[str, ...]
    compare: tuple[tuple[str, str], ...] = ()
    max_new_tokens: AtLeastOne = 64
    beams: AtLeastOne = 1
    batch_size: AtLeastOne = 64

    def uses_models(self) -> tuple[tuple[str, str], ...]:
        """Its systems."""
        return tuple(("systems", name) for name in self.systems)

    def reads(self) -> Literal["references"]:
        """It compares answers with them."""
        return "references"

    def work(self, count_rows: CountRows) -> Work:
        """One answer a row and system."""
        return Work(training=False, rows=count_rows(self.data), models=self.systems, each_seed=True)


@dataclass(frozen=True, kw_only=True)
class ExportStage(Stage):
    """Export ``model`` so that it runs without torch, compared with it on held-out ``data``.

    Attributes:
        model: The model to export; an adapter is merged first.
        format: ``"ctranslate2"`` (causal, seq2seq), ``"onnx"`` (masked), what Optimum exports: ``"onnx"``
            (seq2seq, masked) and ``"openvino"`` (causal, masked), or a format that an installed package adds;
            auto chooses.
        exporter: ``"own"``, ``"optimum"``, or auto, which takes our own exporter where it has the format.
        isolated: Run Optimum in an environment of its own, which uv creates once.
        precision: ``"int8"`` or ``"fp32"``.
        data: The name of the held-out data for the certificate.
        metrics: The export is scored with these metrics as a system of its own; they need ``data``.
        min_agreement: The smallest share of equal tokens that passes, 0 to 1; None takes 0.99, for masked
            models 0.97.
        allow_failed: Keep an export that misses ``min_agreement``.
        max_new_tokens: The length of the longest answer, in tokens.
    """

    writes_weights: ClassVar[bool] = True

    kind: Literal["export"]
    model: str
    format: str = "auto"
    exporter: Literal["auto", "own", "optimum"] = "auto"
    isolated: bool = False
    precision: Literal["int8", "fp32"] = "int8"
    data: str | None = None
    metrics: tuple[str, ...] = ()
    min_agreement: float | None = None
    allow_failed: bool = False
    max_new_tokens: AtLeastOne = 64

    def reads(self) -> Literal["inputs", "references"]:
        """Inputs for the certificate, references for the metrics."""
        return "references" if self.metrics else "inputs"

    def parent(self) -> None:
        """An export is not a model that a stage can use."""
        return

    def work(self, count_rows: CountRows) -> Work | None:
        """One answer a row of the held-out data."""
        if self.data is None:
            return None
        return Work(training=False, rows=count_rows(self.data), models=(self.model,))


@dataclass(frozen=True, kw_only=True)
class ReportStage(Stage):
    """Write report.json, report.html and the model cards of what has been done so far."""

    reads_results: ClassVar[bool] = True

    kind: Literal["report"]


STAGE_KINDS: dict[str, type[Stage]] = {
    "finetune": FinetuneStage,
    "pseudo_label": PseudoLabelStage,
    "cache_teacher": CacheTeacherStage,
    "distill": DistillStage,
    "merge": MergeStage,
    "evaluate": EvaluateStage,
    "export": ExportStage,
    "report": ReportStage,
}
"""The kinds of this app, and those of installed packages once ``add_installed_kinds`` was called."""


def add_installed_kinds() -> None:
    """Add the kinds of stages that installed packages declare to ``STAGE_KINDS``.

    An entry point of the group ``distill_app_trainer.stages`` is named like its kind and names a module with
    the dataclass ``Config``; what the module does is described in ``distill_app_trainer.stages``.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        if point.name not in STAGE_KINDS:
            STAGE_KINDS[point.name] = point.load().Config
