"""The files that a run file names: whether they can be read and have the columns that the stages need."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from distill_app_trainer.errors import Fix, ReplaceText, RunFileError, SetKey
from distill_app_trainer.runfile.edit import to_utf8
from distill_app_trainer.runfile.schema import RunConfig
from distill_app_trainer.runfile.stage import Stage, Task
from distill_app_trainer.spelling import did_you_mean, nearest
from distill_datakit.columns import INPUTS, REFERENCES, TRAINING_COLUMNS

_READABLE = (".jsonl", ".csv", ".tsv", ".txt", ".parquet", ".gz")


def columns_of(config: RunConfig, name: str) -> tuple[str, ...]:
    """The columns of a file, by our names.

    Raises:
        RunFileError: There is no such file, it cannot be read, or it lacks a column that is named.
    """
    from distill_datakit import DataError, inspect_columns

    source, keys = config.data[name], ("data", name)
    path = Path(source.path)
    if not path.exists():
        hint, names = _missing(path, name)
        raise RunFileError(
            f"data.{name}: there is no file {path}.{hint}",
            fix=None if names is None else ReplaceText(keys, *names),
        )
    try:
        found = inspect_columns(path)
    except (DataError, OSError) as error:
        raise RunFileError(f"data.{name}: {error}", fix=_data_fix(keys, path, error)) from None
    for ours, theirs in source.columns.items():
        if theirs not in found:
            right = nearest(theirs, found) or found[0]
            raise RunFileError(
                f"data.{name}.columns.{ours} = {theirs!r}: {path.name} has no such column."
                f"{did_you_mean(theirs, found)} It has: {', '.join(found)}.",
                fix=ReplaceText((*keys, "columns", ours), f'"{theirs}"', f'"{right}"'),
            )
    renamed = {theirs: ours for ours, theirs in source.columns.items()}
    return tuple(renamed.get(column, column) for column in found)


def _missing(path: Path, wanted: str) -> tuple[str, tuple[str, str] | None]:
    """What is there in place of a path that is not: a hint, and the wrong and the right part."""
    wrong = path
    while not wrong.parent.exists():
        wrong = wrong.parent
    names = sorted(entry.name for entry in wrong.parent.iterdir() if not entry.name.startswith("."))
    right = nearest(wrong.name, names)
    if right is not None:
        return f" Did you mean {right!r}?", (wrong.name, right)
    usable = [name for name in names if Path(name).suffix in _READABLE]
    usable.sort(key=lambda name: not name.startswith(f"{wanted}."))
    above = f" There is no folder {wrong} either." if wrong != path else ""
    listed = f" There are: {', '.join(usable[:8])}." if usable else ""
    return above + listed, (str(path.relative_to(wrong.parent)), usable[0]) if usable else None


def _data_fix(keys: tuple[str, ...], path: Path, error: Exception) -> Fix | None:
    """The change that makes a file readable, or another file."""
    row = getattr(error, "row", None)
    if isinstance(error.__cause__, UnicodeDecodeError):
        return to_utf8(path)
    if isinstance(error, PermissionError):
        return f"chmod u+r {path}"
    if row is not None and path.suffix in (".jsonl", ".csv", ".tsv"):
        return f"{path}:{row}: delete"
    others = [
        one.name
        for one in path.parent.iterdir()
        if one.suffix in _READABLE and one.stem != path.stem and one.stat().st_size
    ]
    same = [one.name for one in path.parent.glob(f"{path.stem}.*") if one.suffix in _READABLE and one != path]
    right = next(iter(sorted(same)), nearest(path.name, others))
    return None if right is None else ReplaceText(keys, path.name, right)


def check_columns(
    config: RunConfig, name: str, stage: Stage, task: Task, columns: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse data without the columns that a stage reads."""
    for used in stage.uses_data():
        if used not in columns or stage.reads() is None:
            continue  # what an earlier stage makes has our columns
        found = columns[used]
        shapes = _shapes(stage, task, found)
        if any(all(column in found for column in shape) for shape in shapes):
            continue
        wanted = " or ".join(" and ".join(shape) for shape in shapes)
        close = next(
            (f" Did you mean {column!r} by {other!r}?" for column in dict.fromkeys(sum(shapes, ()))
             if column not in found for other in found if did_you_mean(column, [other])), ""
        )  # fmt: skip
        raise RunFileError(
            f"data.{used} has no column for stages.{name} ({stage.kind}, {task}): {wanted} is needed, found "
            f"{', '.join(found)}.{close} Map other names with columns = {{ source = 'their name' }}.",
            fix=_mapping(
                config, name, used, shapes if stage.makes == "data" else TRAINING_COLUMNS[task], columns
            ),
        )


def _shapes(stage: Stage, task: Task, found: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """The sets of columns of which a stage needs one."""
    if stage.reads() == "examples":
        return TRAINING_COLUMNS[task]
    if stage.reads() == "inputs":
        return tuple((column,) for column in INPUTS)
    if task == "masked":
        return (("text",),)
    if not any(column in found for column in INPUTS):
        return ((INPUTS[0],),)
    return tuple((right,) for right in REFERENCES)


def _mapping(
    config: RunConfig,
    stage: str,
    used: str,
    shapes: tuple[tuple[str, ...], ...],
    columns: Mapping[str, tuple[str, ...]],
) -> Fix | None:
    """The columns of a file under our names, else data that has them."""
    found = columns[used]
    free = [column for column in found if not any(column in shape for shape in shapes)]
    for shape in sorted(shapes, key=lambda one: -sum(column in found for column in one)):
        lacking = [column for column in shape if column not in found]
        if used in config.data and len(free) >= len(lacking):
            pairs = dict(config.data[used].columns)
            for column in lacking:
                pairs[column] = free.pop(free.index(nearest(column, free) or free[0]))
            path = os.path.relpath(config.data[used].path)
            return SetKey(("data", used), {"path": path, "columns": pairs})
    for other, theirs in columns.items():
        if any(all(column in theirs for column in shape) for shape in shapes):
            return ReplaceText(("stages", stage, "data"), f'"{used}"', f'"{other}"')
    return None
