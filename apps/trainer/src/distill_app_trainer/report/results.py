"""What a run measures, typed, and how it becomes ``report.json`` and is read back.

pydantic validates and writes the dataclasses; ``distill-train schema report`` prints their JSON schema.
"""

import functools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_VERSION = 2
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The value of a metric.

    Attributes:
        value: The value, in ``unit``.
        unit: ``percent``, ``nats`` and so on.
        n: Number of examples or positions.
        signature: Every setting and version that the value depends on.
        interval: Bounds of the 95 % interval.
        empty_predictions: Predictions without anything to count.
        tokens: Tokens that were scored, where the value is a mean over them.
    """

    value: float
    unit: str
    n: int
    signature: str = ""
    interval: tuple[float, float] | None = None
    empty_predictions: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Calibration of a system and its distance from its teacher.

    Attributes:
        ece: Expected calibration error.
        reliability: Bins of ``distill_metrics.ReliabilityBin``.
        kl: KL(teacher || student), where a teacher read the same tokens.
        top1_agreement: Positions at which both find the same token most likely.
        entropy_gap: The student's entropy minus the teacher's.
        by_place: Spans of ``distill_metrics.PlaceAgreement``.
    """

    ece: Metric
    reliability: list[dict[str, float]]
    kl: Metric | None = None
    top1_agreement: Metric | None = None
    entropy_gap: Metric | None = None
    by_place: list[dict[str, float]] = field(default_factory=list)


@dataclass(kw_only=True)
class SystemResult:
    """The figures of one system.

    Attributes:
        parameters: Number of parameters.
        bytes: Size of the weights, or of the export.
        metrics: By name.
        ms_per_example: Milliseconds an example, in batches.
        health: Rates of degenerate answers, those of ``distill_metrics.degeneration_rates``.
        distribution: Calibration and distance from the teacher.
    """

    parameters: int | None = None
    bytes: int
    metrics: dict[str, Metric]
    ms_per_example: float
    health: dict[str, float] | None = None
    distribution: Distribution | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one evaluate stage scored.

    Attributes:
        data: The name of the data.
        n: Number of rows.
        systems: By name.
    """

    data: str
    n: int
    systems: dict[str, SystemResult]


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """Two systems by one metric.

    Attributes:
        first: A system.
        second: The other.
        metric: The name of the metric.
        difference: ``first`` minus ``second``.
        interval: Bounds of the 95 % interval of the difference.
        p: The p-value of the paired bootstrap, adjusted for the number of pairs (Holm).
        better: The better system, or None.
        statement: The result in a sentence.
        retention: The share of its teacher's score that the student keeps.
    """

    first: str
    second: str
    metric: str
    difference: float
    interval: tuple[float, float]
    p: float
    better: str | None = None
    statement: str
    retention: Metric | None = None


@dataclass(kw_only=True)
class TrainResult:
    """What a training stage found; the figures of its end are None while it runs."""

    kind: Literal["finetune", "distill"]
    seed: int | None = None
    rows: int | None = None
    final_loss: float | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    memory_bytes: int = 0
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LabelResult:
    """What a pseudo_label stage made: rows answered, and rows kept because the answer was not empty."""

    kind: Literal["pseudo_label"] = "pseudo_label"
    rows: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class CacheResult:
    """What a cache_teacher stage wrote; ``k`` None keeps every token, ``kl_error`` is in nats a position."""

    kind: Literal["cache_teacher"] = "cache_teacher"
    rows: int
    tokens: int
    bytes: int
    bytes_per_token: float
    k: int | None = None
    kl_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class MergeResult:
    """What a merge stage merged."""

    kind: Literal["merge"] = "merge"
    model: str


@dataclass(frozen=True, kw_only=True)
class OtherResult:
    """The figures of a stage whose kind an installed package adds."""

    kind: str
    figures: dict[str, object] = field(default_factory=dict)


StageResult = TrainResult | LabelResult | CacheResult | MergeResult | OtherResult


@dataclass(kw_only=True)
class ExportResult:
    """What an export stage made.

    Attributes:
        path: The folder, within the run folder.
        model: What was exported.
        format: The format.
        precision: The precision.
        size_bytes: Size of the export.
        certificate: The certificate that is in the export.
        ms_alone: Milliseconds for a text alone: ``export`` and ``pytorch``.
    """

    path: str
    model: str
    format: str
    precision: str
    size_bytes: int
    certificate: dict[str, object]
    ms_alone: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row with what each system answered."""

    input: str
    reference: str | list[str]
    answers: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Rows spread over the data, and those that ``worst_of`` answers worst, worst first."""

    rows: list[Sample] = field(default_factory=list)
    worst: list[Sample] = field(default_factory=list)
    worst_of: str = ""


@dataclass(kw_only=True)
class RunResults:
    """What the stages of a run have found so far, by name."""

    systems: dict[str, SystemResult] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    comparisons: dict[str, dict[str, PairResult]] = field(default_factory=dict)
    stages: dict[str, StageResult] = field(default_factory=dict)
    exports: dict[str, ExportResult] = field(default_factory=dict)
    truncated_percent: dict[str, float] = field(default_factory=dict)
    samples: Samples = field(default_factory=Samples)

    def add(self, other: "RunResults") -> None:
        """Take over what another process found."""
        for name, found in vars(other).items():
            if isinstance(found, dict):
                getattr(self, name).update(found)
        self.samples = self.samples if self.samples.rows else other.samples


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The run itself: its name, task and seed, and what took how long, in seconds."""

    name: str
    task: str
    seed: int
    date: str
    seconds: float | None = None
    forecast_seconds: float | None = None
    stage_seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """The content of report.json.

    Attributes:
        schema_version: The version of this schema.
        run: Name, task, seed and durations.
        plan: Machine, models and execution policies, those of ``RunPlan.to_dict``.
        data: Facts of each name of data.
        systems, evaluations, comparisons, stages, exports, samples: What the stages found, as in
        ``RunResults``.
        other_runs: Systems of earlier runs of the same name.
        notes: What a reader of the figures should know.
        versions: Versions that a result depends on.
        run_file: The run file.
        statements: The result in sentences.
    """

    schema_version: int = SCHEMA_VERSION
    run: RunFacts
    plan: dict[str, Any] = field(default_factory=dict)
    data: dict[str, dict[str, object]] = field(default_factory=dict)
    systems: dict[str, SystemResult] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    comparisons: dict[str, dict[str, PairResult]] = field(default_factory=dict)
    stages: dict[str, StageResult] = field(default_factory=dict)
    exports: dict[str, ExportResult] = field(default_factory=dict)
    samples: Samples = field(default_factory=Samples)
    other_runs: dict[str, dict[str, SystemResult]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    run_file: str = ""
    statements: list[str] = field(default_factory=list)


@functools.cache
def _adapter(kind: Hashable) -> "TypeAdapter[object]":
    from pydantic import TypeAdapter

    return TypeAdapter(cast("type[object]", kind))


def to_dict(value: object) -> dict[str, object]:
    """A result as plain JSON types; what is None is left out."""
    return cast(
        "dict[str, object]",
        _adapter(cast("Hashable", type(value))).dump_python(value, mode="json", exclude_none=True),
    )


def from_dict(kind: type[_T], content: Mapping[str, object]) -> _T:
    """Read a result back.

    Raises:
        ValueError: The content is not that of such a result.
    """
    return cast("_T", _adapter(cast("Hashable", kind)).validate_python(content))


def report_schema() -> dict[str, object]:
    """The JSON schema of report.json."""
    schema = _adapter(RunReport).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "report.json", **schema}
