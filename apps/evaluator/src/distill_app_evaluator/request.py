"""What was asked for, checked in milliseconds: no torch, no transformers, no datasets."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from distill_app_evaluator.errors import Option, UsageError, nearest
from distill_app_evaluator.systems import System, find_systems
from distill_datakit.columns import REFERENCES, TASKS, TEXT_INPUTS, input_column, reference_column
from distill_metrics.names import METRIC_GROUPS, check_metric_names

if TYPE_CHECKING:
    from distill_adapters import DecodingConfig

Split = Literal["test", "all"]
SPLITS: tuple[Split, ...] = get_args(Split)
Name = TypeVar("Name", bound=str)

_READABLE = (".jsonl", ".csv", ".tsv", ".parquet", ".gz")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows that every model answers.

    Attributes:
        path: File of examples.
        columns: The name of a column here -> its name in the file.
        input: Column that the model reads, by its name here.
        reference: Column with the right answer, or a list of right answers.
        split: ``"all"`` rows of the file, or the ``"test"`` tenth of a split with seed 42.
        slices: ``"length"``, a column by its name here, or None for no slices.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    input: str
    reference: str
    split: Split = "all"
    slices: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """A checked request.

    Attributes:
        systems: The models, and last the teacher if there is one.
        rows: What they answer.
        decoding: How they answer.
        prefix: Text before every input.
        metrics: Metric names; empty takes the default metrics that can score the references.
        samples: How many of the worst rows are shown.
        out: Folder for the results, or None.
    """

    systems: tuple[System, ...]
    rows: Rows
    decoding: "DecodingConfig"
    prefix: str = ""
    metrics: tuple[str, ...] = ()
    samples: int = 0
    out: Path | None = None

    @property
    def teacher(self) -> System | None:
        """The model that the others are measured against."""
        return next((system for system in self.systems if system.role == "teacher"), None)


def check_request(
    *,
    models: Sequence[str],
    data: str,
    teacher: str | None = None,
    metrics: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    split: str = "all",
    slices: str | None = None,
    samples: int = 0,
    task: str | None = None,
    out: str | None = None,
    prefix: str = "",
    max_new_tokens: int = 64,
    beams: int = 1,
    batch_size: int = 64,
) -> EvaluationRequest:
    """Check everything that can be known before rows are read and a model is loaded.

    Args:
        models: Folders of models, adapters or exports.
        data: File of examples.
        teacher: Folder of the model that the others are measured against.
        metrics: Names of metrics.
        columns: The name of a column here -> its name in the file.
        split: ``"all"`` or ``"test"``.
        slices: ``"length"`` or the name of a column.
        samples: How many of the worst rows are shown.
        task: The task of models whose configuration does not name one.
        out: New folder for the results.
        prefix: Text before every input.
        max_new_tokens: The most tokens of an answer.
        beams: 1 is greedy; more is beam search.
        batch_size: Rows answered at once.

    Raises:
        UsageError: A metric does not exist, a file, column or model is missing, ``out`` exists or cannot be
            made, or a number is out of range.
    """
    if samples < 0:
        raise UsageError(f"--samples {samples}: at least 0 is needed.", fix=Option("--samples", "0"))
    checked_metrics = _metrics(metrics)
    rows = _rows(data, columns or {}, _choice("--split", split, SPLITS), slices)
    folder = _out(out)
    systems = find_systems(models, teacher, None if task is None else _choice("--task", task, TASKS))
    return EvaluationRequest(
        metrics=checked_metrics,
        rows=rows,
        out=folder,
        systems=systems,
        decoding=_decoding(max_new_tokens=max_new_tokens, beams=beams, batch_size=batch_size),
        prefix=prefix,
        samples=samples,
    )


def _decoding(**numbers: int) -> "DecodingConfig":
    from distill_adapters import ConfigError, DecodingConfig

    try:
        return DecodingConfig(**numbers)
    except ConfigError as error:
        flag = f"--{str(error.field).replace('_', '-')}"
        raise UsageError(f"{flag}: {error}", fix=Option(flag, str(error.suggestion))) from None


def _choice(flag: str, given: str, allowed: tuple[Name, ...]) -> Name:
    for one in allowed:
        if given == one:
            return one
    raise UsageError(
        f"{flag} {given!r} was asked for; allowed: {', '.join(allowed)}.",
        fix=Option(flag, nearest(given, allowed) or allowed[-1]),
    )


def _metrics(asked: Sequence[str]) -> tuple[str, ...]:
    from distill_metrics import UnknownMetricError

    names = [full for name in asked for full in METRIC_GROUPS.get(name, (name,))]
    try:
        return check_metric_names(tuple(dict.fromkeys(names)), also=METRIC_GROUPS) if names else ()
    except UnknownMetricError as error:
        right = [name if name in error.allowed else nearest(name, map(str, error.allowed)) for name in asked]
        known = ",".join(dict.fromkeys(name for name in right if name is not None))
        raise UsageError(str(error), fix=Option("--metrics", known or None)) from None


def _rows(data: str, columns: Mapping[str, str], split: Split, slices: str | None) -> Rows:
    from distill_adapters import nearest_paths
    from distill_datakit import DataError, inspect_columns

    path = Path(data)
    if not path.is_file():
        near = nearest_paths(path, lambda one: one.is_file() and one.suffix in _READABLE)
        hint, fix = (f" The nearest is {near[0]}.", Option("--data", str(near[0]))) if near else ("", None)
        raise UsageError(f"There is no file {data}.{hint}", fix=fix)
    try:
        theirs = inspect_columns(path)
    except (DataError, OSError) as error:
        raise UsageError(str(error)) from None
    for ours, column in columns.items():
        if column not in theirs:
            right = nearest(column, theirs) or (ours if ours in theirs else next(iter(theirs)))
            raise UsageError(
                f"--columns {ours}={column}: {_lacks(data, column, theirs)}",
                fix=_map({**columns, ours: right}),
            )
    renamed = {column: ours for ours, column in columns.items()}
    found = [renamed.get(column, column) for column in theirs]
    if slices not in (None, "length", *found):
        raise UsageError(
            f"--slices {slices}: {_lacks(data, str(slices), ('length', *found))} "
            "'length' slices by the length of the references.",
            fix=Option("--slices", nearest(str(slices), ("length", *found)) or "length"),
        )
    try:
        asked, right = input_column(found), reference_column(found)
    except DataError as error:
        ours = "source" if error.allowed == TEXT_INPUTS else "target"
        free = [name for name in found if name not in (*TEXT_INPUTS, *REFERENCES)]
        meant = [name for name in free if name == error.suggestion] or free
        raise UsageError(
            f"{data}: {error} Name it as in --columns {ours}=THEIR_NAME.",
            fix=_map({**columns, ours: meant[0]}) if meant else None,
        ) from None
    return Rows(path=path, columns=dict(columns), input=asked, reference=right, split=split, slices=slices)


def _lacks(data: str, column: str, found: Sequence[str]) -> str:
    near = nearest(column, found)
    hint = f" Did you mean {near!r}?" if near else ""
    return f"{data} has no column {column!r}.{hint} Allowed: {', '.join(found)}."


def _map(columns: Mapping[str, str]) -> Option:
    return Option("--columns", ",".join(f"{ours}={theirs}" for ours, theirs in columns.items()))


def _out(out: str | None) -> Path | None:
    """A folder that does not exist yet and can be made."""
    if out is None:
        return None
    folder = Path(out)
    if folder.exists():
        raise UsageError(
            f"{out} exists; name a new folder for the results, or remove it first.", fix=_free(folder)
        )
    above = next(place for place in Path(os.path.abspath(out)).parents if place.exists())  # noqa: PTH100
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UsageError(
            f"--out {out}: nothing can be written into {above}; name another folder.",
            fix=_free(Path("results")) if os.access(Path.cwd(), os.W_OK) else None,
        )
    return folder


def _free(folder: Path) -> Option:
    """The folder under the first name that is not taken."""
    names = (folder, *(folder.with_name(f"{folder.name}-{number}") for number in range(2, 1000)))
    return Option("--out", str(next(name for name in names if not name.exists())))
