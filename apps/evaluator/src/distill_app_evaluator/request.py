"""What was asked for, checked in milliseconds: no torch, no transformers, no datasets."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from distill_app_evaluator.errors import Option, UsageError
from distill_app_evaluator.folders import (
    TASKS,
    System,
    Task,
    find_systems,
    nearest,
    neighbour,
    neighbours,
    readable,
)
from distill_datakit.columns import REFERENCES, TEXT_INPUTS
from distill_metrics.names import METRIC_GROUPS, METRIC_NAMES

Split = Literal["test", "all"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows are asked.

    Attributes:
        path: File of examples.
        columns: Our name -> the file's.
        input: Column that the model reads, by our name.
        reference: Column with what is right: a text, or a list of texts.
        split: ``"all"`` rows of the file, or the ``"test"`` tenth of a split with seed 42.
        slices: ``"length"``, a column by our name, or None for no parts.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    input: str
    reference: str
    split: Split = "all"
    slices: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answering:
    """How a model answers.

    Attributes:
        prefix: Put before every input.
        max_new_tokens: Longest answer.
        beams: Beams of the search; 1 is greedy.
        batch_size: Rows predicted at once.
    """

    prefix: str = ""
    max_new_tokens: int = 64
    beams: int = 1
    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """A checked request.

    Attributes:
        systems: The models, and last the teacher where there is one.
        rows: What they are asked.
        answering: How they answer.
        metrics: Metric names; empty takes those that suit most texts.
        samples: How many of the worst rows are shown.
        out: Folder for the results, or None.
    """

    systems: tuple[System, ...]
    rows: Rows
    answering: Answering
    metrics: tuple[str, ...] = ()
    samples: int = 0
    out: Path | None = None

    @property
    def teacher(self) -> System | None:
        """The one that the others are measured against."""
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
        columns: Our name of a column -> the file's.
        split: ``"all"`` or ``"test"``.
        slices: ``"length"`` or the name of a column.
        samples: How many of the worst rows are shown.
        task: What models do whose configuration does not tell.
        out: New folder for the results.
        prefix: Put before every input.
        max_new_tokens: Longest answer.
        beams: Of the search.
        batch_size: Rows predicted at once.

    Raises:
        UsageError: A metric does not exist, a file, column or model is missing, ``out`` exists or cannot be
            made, or a number is out of range.
    """
    for name, number, least in (
        ("samples", samples, 0),
        ("max-new-tokens", max_new_tokens, 1),
        ("beams", beams, 1),
        ("batch-size", batch_size, 1),
    ):
        if number < least:
            raise UsageError(
                f"--{name} {number} was asked for; at least {least} is needed.",
                fix=Option(f"--{name}", str(least)),
            )
    return EvaluationRequest(
        metrics=_metrics(metrics),
        rows=_rows(data, columns or {}, _split(split), slices),
        out=_out(out),
        systems=find_systems(models, teacher, _task(task)),
        answering=Answering(prefix=prefix, max_new_tokens=max_new_tokens, beams=beams, batch_size=batch_size),
        samples=samples,
    )


def _metrics(asked: Sequence[str]) -> tuple[str, ...]:
    from distill_metrics import UnknownMetricError, check_metric_names

    if not asked:
        return ()
    try:
        check_metric_names(asked, allowed=(*METRIC_NAMES, *METRIC_GROUPS))
    except UnknownMetricError as error:
        known = (*METRIC_NAMES, *METRIC_GROUPS)
        right = [name if name in known else nearest(name, known) for name in asked]
        names = ",".join(dict.fromkeys(name for name in right if name is not None))
        raise UsageError(str(error), fix=Option("--metrics", names or None)) from None
    return tuple(dict.fromkeys(full for name in asked for full in METRIC_GROUPS.get(name, (name,))))


def _rows(data: str, columns: Mapping[str, str], split: Split, slices: str | None) -> Rows:
    from distill_datakit import DataError, inspect_columns

    path = Path(data)
    if not path.is_file():
        near = neighbour(path) or next(iter(readable(path)), None)
        raise UsageError(
            f"There is no file {data}.{neighbours(path)}",
            fix=None if near is None else Option("--data", near),
        )
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
            "'length' parts by the length of the references.",
            fix=Option("--slices", nearest(str(slices), ("length", *found)) or "length"),
        )
    return Rows(
        path=path,
        columns=dict(columns),
        input=_first(data, TEXT_INPUTS, found, columns),
        reference=_first(data, REFERENCES, found, columns),
        split=split,
        slices=slices,
    )


def _lacks(data: str, column: str, found: Sequence[str]) -> str:
    near = nearest(column, found)
    hint = f" Did you mean {near!r}?" if near else ""
    return f"{data} has no column {column!r}.{hint} Allowed: {', '.join(found)}."


def _map(columns: Mapping[str, str]) -> Option:
    return Option("--columns", ",".join(f"{ours}={theirs}" for ours, theirs in columns.items()))


def _first(data: str, wanted: Sequence[str], found: Sequence[str], columns: Mapping[str, str]) -> str:
    for name in wanted:
        if name in found:
            return name
    ours = "source" if wanted is TEXT_INPUTS else "target"
    free = [name for name in found if name not in (*TEXT_INPUTS, *REFERENCES)]
    like = [name for name in free if nearest(name, wanted)] or free
    raise UsageError(
        f"{data} lacks a column: one of {', '.join(wanted)} is needed; found: {', '.join(found) or 'none'}. "
        f"Say which one it is, as in --columns {ours}=THEIR_NAME.",
        fix=_map({**columns, ours: like[0]}) if like else None,
    )


def _split(split: str) -> Split:
    for allowed in get_args(Split):
        if split == allowed:
            chosen: Split = allowed
            return chosen
    raise UsageError(
        f"--split {split!r} was asked for; allowed: {', '.join(get_args(Split))}.",
        fix=Option("--split", nearest(split, get_args(Split)) or "all"),
    )


def _task(task: str | None) -> Task | None:
    if task is None:
        return None
    for allowed in TASKS:
        if task == allowed:
            return allowed
    raise UsageError(
        f"--task {task!r} was asked for; allowed: {', '.join(TASKS)}.",
        fix=Option("--task", nearest(task, TASKS)),
    )


def _out(out: str | None) -> Path | None:
    """A folder that is not there yet and can be made."""
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
