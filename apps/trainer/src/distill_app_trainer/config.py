"""The run file: its fields, how it is read, and how it is written again.

Validated by pydantic out of frozen dataclasses; nothing here imports torch.
"""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast

from pydantic import Field

from distill_adapters import TrainSettings
from distill_app_trainer.errors import RunFileError
from distill_kd import CacheSettings, DistillSettings

Task = Literal["causal", "seq2seq", "masked"]
Adapter = Literal["auto", "full", "lora", "qlora"]
FORBID: Mapping[str, str] = {"extra": "forbid"}
UNDER_DATA = ("limits", "split")
"""Tables that stand under ``[data]`` and are no data."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """``[run]``: what the run is called and how it is seeded.

    Attributes:
        name: Of the run folder, letters, digits, ``-``, ``_`` and ``.``.
        seed: Of everything random.
        task: What the models do; ``auto`` reads it from them.
        folder: Where run folders are made, relative to the working directory.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    name: str
    seed: int = 42
    task: Literal["auto", "causal", "seq2seq", "masked"] = "auto"
    folder: str = "runs"

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
        path: Relative to the run file.
        columns: Our name -> the file's name.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    path: str
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """``[data.limits]``: lengths in tokens beyond which texts are cut; None cuts nothing."""

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
        path: Folder of a saved model, relative to the run file, ``packaged:NAME``, or a name on the hub.
        config: Configuration of a fresh model, with its ``model_type``.
        tokenizer: A model's name, a folder or a name on the hub; a saved model brings its own.
        adapter: What is trained of it.
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
    """Train ``model`` on ``data``."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["finetune"]
    model: str
    data: Names = "train"
    seeds: tuple[int, ...] = ()
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True, kw_only=True)
class DistillStage:
    """Train ``model`` on ``data`` and on what ``teacher``, a model or a store stage, says about it."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["distill"]
    model: str
    teacher: str
    data: Names = "train"
    seeds: tuple[int, ...] = ()
    train: TrainSettings = field(default_factory=TrainSettings)
    objective: DistillSettings = field(default_factory=DistillSettings)


@dataclass(frozen=True, kw_only=True)
class LabelStage:
    """Let ``model`` answer ``data``; the answers are data under the stage's name."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["label"]
    model: str
    data: Names
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    beams: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 128


@dataclass(frozen=True, kw_only=True)
class StoreStage:
    """Write down the distributions of ``model`` over ``data`` once; a distill stage names it as teacher.

    Attributes:
        cache: How much of each distribution is kept.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["store"]
    model: str
    data: Names
    cache: CacheSettings = field(default_factory=CacheSettings)


@dataclass(frozen=True, kw_only=True)
class MergeStage:
    """Merge the adapter of ``model`` into its base."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["merge"]
    model: str


@dataclass(frozen=True, kw_only=True)
class EvaluateStage:
    """Score ``systems`` on the raw texts of ``data`` and compare them by pairs."""

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
    """Export ``model`` so that it runs without torch, compared with it on held-out ``data``."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: Literal["export"]
    model: str
    format: Literal["auto", "ctranslate2", "onnx"] = "auto"
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
    | LabelStage
    | StoreStage
    | MergeStage
    | EvaluateStage
    | ExportStage
    | ReportStage
)
STAGE_KINDS: Mapping[str, type] = {
    "finetune": FinetuneStage,
    "label": LabelStage,
    "store": StoreStage,
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


def read_run_file(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and validate a run file; files and models it names are looked for by ``check_run``.

    Args:
        path: The TOML file.
        overrides: ``"a.b=value"`` each; the value is read as TOML, or else as text.

    Returns:
        The configuration, its paths absolute, so that it means the same wherever it is written.

    Raises:
        RunFileError: The file is no TOML, or a key or value is not allowed; one line.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RunFileError(f"{path} is no TOML: {error}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} cannot be read: {error}.") from error
    for text in overrides:
        _override(raw, text)
    return with_absolute_paths(validate(raw, name=path.name), path.parent)


def validate(raw: Mapping[str, object], *, name: str = "run file") -> RunConfig:
    """Validate the content of a run file.

    Raises:
        RunFileError: The first thing that is wrong, with the nearest right spelling.
    """
    from pydantic import TypeAdapter, ValidationError

    from distill_app_trainer.messages import explain

    shaped = _shaped(raw)
    try:
        return TypeAdapter(RunConfig).validate_python(shaped)
    except ValidationError as error:
        raise RunFileError(f"{name}: {explain(error)}") from None


def run_file_schema() -> dict[str, object]:
    """The JSON schema of a run file: limits lie under ``data``, and a plain path is a data source."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(RunConfig).json_schema()
    fields = schema["properties"]
    path_or_table = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/DataSource"}]}
    fields["data"] = {
        "type": "object",
        "properties": {name: fields.pop(name) for name in UNDER_DATA},
        "additionalProperties": path_or_table,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Run file", **schema}


def _shaped(raw: Mapping[str, object]) -> dict[str, object]:
    """The file's content as RunConfig's fields: limits beside data, plain paths as tables."""
    shaped = dict(raw)
    for name in UNDER_DATA:
        if name in shaped:
            raise RunFileError(f"[{name}] is unknown. Did you mean [data.{name}]?")
    data = shaped.get("data")
    if isinstance(data, Mapping):
        files = dict(data)
        shaped |= {name: files.pop(name) for name in UNDER_DATA if name in files}
        shaped["data"] = {
            key: {"path": value} if isinstance(value, str) else value for key, value in files.items()
        }
    return shaped


def _override(raw: dict[str, object], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise RunFileError(f"--set {text!r}: key.path=value is needed, such as run.seed=7.")
    table = raw
    for part in parts[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RunFileError(f"--set {text!r}: {part} is a value and no table.")
        table = inner
    try:
        table[parts[-1]] = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        table[parts[-1]] = value.strip()


def with_absolute_paths(config: RunConfig, base: Path) -> RunConfig:
    """The same configuration with every path seen from ``base``."""
    from distill_app_trainer.runfiles import resolve

    def model(source: ModelSource) -> ModelSource:
        path = None if source.path is None else resolve(source.path, base)
        tokenizer = source.tokenizer
        if tokenizer is not None and tokenizer not in config.models:
            tokenizer = resolve(tokenizer, base)
        return dataclasses.replace(source, path=path, tokenizer=tokenizer)

    return dataclasses.replace(
        config,
        data={
            name: dataclasses.replace(source, path=resolve(source.path, base))
            for name, source in config.data.items()
        },
        models={name: model(source) for name, source in config.models.items()},
    )


def to_toml(config: RunConfig) -> str:
    """The configuration as a run file, which ``read_run_file`` reads back equal."""
    import tomli_w

    plain = cast("dict[str, object]", _plain(config))
    data = dict(cast("Mapping[str, object]", plain["data"]))
    data |= {name: table for name in UNDER_DATA if (table := plain.pop(name))}
    return tomli_w.dumps({**plain, "data": data})


def _plain(value: object) -> object:
    """Dataclasses and tuples as tables and lists; TOML has no None, which is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
