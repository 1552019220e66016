"""What was asked for, checked in milliseconds: no torch, no transformers, no datasets."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from distill_metrics import UnknownMetricError, check_metric_names

Task = Literal["causal", "seq2seq", "masked"]
Split = Literal["test", "all"]
Kind = Literal["model", "adapter", "export"]

_MARKS: tuple[tuple[str, Kind], ...] = (
    ("certificate.json", "export"),
    ("adapter_config.json", "adapter"),
    ("config.json", "model"),
)
_INPUTS = ("source", "prompt", "text")
_REFERENCES = ("references", "target", "completion", "label")


class UsageError(ValueError):
    """What was asked for cannot be done; one line says what was found, what is allowed and what to do."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """A checked request.

    Attributes:
        model: Folder of the model.
        kind: What the folder holds.
        data: File of examples.
        input_column: Column that the model reads.
        reference_column: Column with what is right, a text or a list of texts.
        metrics: Metric names; empty takes those that suit most texts.
        split: ``"all"`` rows of the file, or the ``"test"`` tenth of a split with seed 42.
        task: What the model does; None takes it from the model.
        out: Folder for the results, or None.
        prefix: Put before every input.
        max_new_tokens: Longest answer.
        beams: Beams of the search; 1 is greedy.
        batch_size: Rows predicted at once.
    """

    model: Path
    kind: Kind
    data: Path
    input_column: str
    reference_column: str
    metrics: tuple[str, ...] = ()
    split: Split = "all"
    task: Task | None = None
    out: Path | None = None
    prefix: str = ""
    max_new_tokens: int = 64
    beams: int = 1
    batch_size: int = 64


def check_request(
    *,
    model: str,
    data: str,
    metrics: Sequence[str] = (),
    split: str = "all",
    task: str | None = None,
    out: str | None = None,
    prefix: str = "",
    max_new_tokens: int = 64,
    beams: int = 1,
    batch_size: int = 64,
) -> EvaluationRequest:
    """Check everything that can be known before a model is loaded.

    Raises:
        UsageError: A metric does not exist, a file, column or model is missing, ``out`` exists, or a number
            is out of range.
    """
    if metrics:
        try:
            check_metric_names(metrics)
        except UnknownMetricError as error:
            raise UsageError(str(error)) from None
    for name, number in (("max-new-tokens", max_new_tokens), ("beams", beams), ("batch-size", batch_size)):
        if number < 1:
            raise UsageError(f"--{name} {number} was asked for; at least 1 is needed.")
    folder, kind = _model(model)
    input_column, reference_column = _columns(data)
    if out is not None and Path(out).exists():
        raise UsageError(f"{out} exists; name a new folder for the results.")
    return EvaluationRequest(
        model=folder,
        kind=kind,
        data=Path(data),
        input_column=input_column,
        reference_column=reference_column,
        metrics=tuple(dict.fromkeys(metrics)),
        split=_split(split),
        task=_task(task),
        out=None if out is None else Path(out),
        prefix=prefix,
        max_new_tokens=max_new_tokens,
        beams=beams,
        batch_size=batch_size,
    )


def base_of(adapter: Path) -> str:
    """The model that an adapter folder was trained on, as its adapter_config.json names it.

    Raises:
        UsageError: The file is not JSON, or names no model.
    """
    try:
        content = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        base = content["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise UsageError(f"{adapter / 'adapter_config.json'} names no base_model_name_or_path.")
    return base


def _model(model: str) -> tuple[Path, Kind]:
    folder = Path(model)
    if not folder.exists():
        raise UsageError(f"There is no folder {model}.{_neighbours(folder)}")
    if not folder.is_dir():
        raise UsageError(f"{model} is a file; the folder of a model is needed.")
    for mark, kind in _MARKS:
        if (folder / mark).is_file():
            return folder, kind
    marks = ", ".join(mark for mark, _ in reversed(_MARKS))
    raise UsageError(f"{model} is no model: it holds none of {marks}.{_inside(folder)}")


def _neighbours(folder: Path) -> str:
    import difflib

    if not folder.parent.is_dir():
        return f" Nor is there a folder {folder.parent}."
    near = difflib.get_close_matches(folder.name, [entry.name for entry in folder.parent.iterdir()], n=1)
    return f" Did you mean {folder.parent / near[0]}?" if near else ""


def _inside(folder: Path) -> str:
    """A hint to models one level below."""
    below = sorted(
        str(entry)
        for entry in folder.iterdir()
        if entry.is_dir() and any((entry / m).is_file() for m, _ in _MARKS)
    )
    return f" Models below it: {', '.join(below)}." if below else ""


def _columns(data: str) -> tuple[str, str]:
    from distill_datakit import DataError, inspect_columns

    path = Path(data)
    if not path.is_file():
        raise UsageError(f"There is no file {data}.{_neighbours(path)}")
    try:
        found = inspect_columns(path)
    except (DataError, OSError) as error:
        raise UsageError(str(error)) from None
    inputs = [name for name in _INPUTS if name in found]
    rights = [name for name in _REFERENCES if name in found]
    if not inputs or not rights:
        missing = f"one of {', '.join(_INPUTS)}" if not inputs else f"one of {', '.join(_REFERENCES)}"
        raise UsageError(f"{data} lacks a column: {missing} is needed; found: {', '.join(found) or 'none'}.")
    return inputs[0], rights[0]


def _split(split: str) -> Split:
    for allowed in get_args(Split):
        if split == allowed:
            chosen: Split = allowed
            return chosen
    raise UsageError(f"--split {split!r} was asked for; allowed: {', '.join(get_args(Split))}.")


def _task(task: str | None) -> Task | None:
    if task is None:
        return None
    for allowed in get_args(Task):
        if task == allowed:
            chosen: Task = allowed
            return chosen
    raise UsageError(f"--task {task!r} was asked for; allowed: {', '.join(get_args(Task))}.")
