"""From files or rows in memory to a dataset of raw text, each row checked."""

import difflib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill_datakit.errors import DataError, DroppedRowsWarning
from distill_datakit.files import Row, read_rows

if TYPE_CHECKING:
    from datasets import Dataset

SHAPES: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "source": ("source", "target"),
    "prompt": ("prompt", "completion"),
    "text": ("text",),
}
_SHAPE_WORDS = "source/target, prompt/completion, messages, text, or text/label"


def load(
    source: "str | Path | Sequence[Mapping[str, object]]",
    *,
    columns: Mapping[str, str] | None = None,
    on_error: Literal["refuse", "drop"] = "refuse",
) -> "Dataset":
    """Read rows of raw text and check every one.

    The first row says the shape: ``source`` (with ``target``), ``prompt`` (with ``completion``),
    ``messages`` or ``text`` (with ``label``). The second column may be missing throughout: unlabelled
    data. ``references`` (a list of texts) and other columns are kept as they are.

    Args:
        source: A ``.jsonl``, ``.csv``, ``.tsv`` or ``.txt`` file (each also with ``.gz``), a ``.parquet``
            file, a folder of ``.txt`` files (one example each), or rows in memory.
        columns: Our name -> the file's name, as ``{"source": "word", "target": "phonemes"}``.
        on_error: ``"drop"`` leaves wrong rows out and warns with their number.

    Returns:
        The rows in file order. Text stays text: ``"NA"`` and ``"null"`` in a CSV are strings.

    Raises:
        DataError: A file, row or field that cannot be used, by name.

    Warns:
        DroppedRowsWarning: Rows were dropped.
    """
    if on_error not in ("refuse", "drop"):
        raise ValueError(f"on_error={on_error!r}: allowed are 'refuse' and 'drop'.")
    if isinstance(source, str | Path):
        name, numbered = str(source), read_rows(Path(source))
    else:
        name, numbered = "the given rows", _given(source)
    rows: list[Row] = []
    dropped: list[DataError] = []
    required: tuple[str, ...] | None = None
    for number, found in numbered:
        try:
            if isinstance(found, DataError):
                raise found
            row = _renamed(found, columns or {}, name, number)
            if required is None:
                required = _required(row, name)
            _check(row, required, name, number)
        except DataError as error:
            if on_error == "refuse" or (required is None and not isinstance(found, DataError)):
                raise
            dropped.append(error)
        else:
            rows.append(row)
    if dropped:
        warnings.warn(f"{len(dropped)} of {len(dropped) + len(rows)} rows dropped; first: {dropped[0]}",
                      DroppedRowsWarning, stacklevel=2)  # fmt: skip
    if not rows:
        raise DataError("holds no usable row.", file=name)
    return _dataset(rows, name)


def _given(rows: Iterable[object]) -> Iterator[tuple[int, Row | DataError]]:
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Mapping):
            yield number, dict(row)
        else:
            yield (
                number,
                DataError(
                    f"a {type(row).__name__}; each row must be a mapping.", file="the given rows", row=number
                ),
            )


def _renamed(row: Row, columns: Mapping[str, str], file: str, number: int) -> Row:
    for theirs in columns.values():
        if theirs not in row:
            raise DataError(_missing(theirs, row), file=file, row=number, field=theirs)
    ours = {theirs: name for name, theirs in columns.items()}
    taken = set(ours.values()) & (set(row) - set(ours))
    if taken:
        clash = min(taken)
        raise DataError(f"{columns[clash]!r} is mapped to it, but the row has a column of that name.",
                        file=file, row=number, field=clash)  # fmt: skip
    return {ours.get(name, name): value for name, value in row.items()}


def _missing(field: str, row: Row) -> str:
    near = difflib.get_close_matches(field, row, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"missing; the row has {', '.join(map(repr, row)) or 'no field'}.{hint}"


def _required(row: Row, file: str) -> tuple[str, ...]:
    for first, names in SHAPES.items():
        if first in row:
            required = tuple(name for name in names if name in row)
            unlike = [name for name in names if name not in row]
            near = (
                difflib.get_close_matches(unlike[0], [n for n in row if n not in names], n=1, cutoff=0.75)
                if unlike
                else []
            )
            if near:
                raise DataError(_missing(unlike[0], row), file=file, row=1, field=unlike[0])
            return required
    near = difflib.get_close_matches(" ".join(row), SHAPES, n=1) or [
        first for first in SHAPES for name in row if difflib.get_close_matches(first, [name], cutoff=0.75)
    ]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DataError(
        f"columns {', '.join(map(repr, row)) or 'none'}; known shapes are {_SHAPE_WORDS}.{hint} "
        "Map other names with columns={'source': 'their name', ...}.", file=file)  # fmt: skip


def _check(row: Row, required: tuple[str, ...], file: str, number: int) -> None:
    for field in required:
        if field not in row:
            raise DataError(_missing(field, row), file=file, row=number, field=field)
        problem = _messages_problem(row[field]) if field == "messages" else _text_problem(row[field])
        if problem:
            raise DataError(problem, file=file, row=number, field=field)
    references = row.get("references")
    if references is not None:
        if isinstance(references, list | tuple):
            problem = next(filter(None, map(_text_problem, references)), None)
        else:
            problem = "must be a list of texts."
        if problem:
            raise DataError(problem, file=file, row=number, field="references")


def _text_problem(value: object) -> str | None:
    if not isinstance(value, str):
        shown = (
            "nothing (null)"
            if value is None
            else f"{json.dumps(value, default=str)[:40]} ({type(value).__name__})"
        )
        return f"{shown} where a text is needed. Write it as a string."
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is no character. Repair the text."
    return None


def _messages_problem(value: object) -> str | None:
    if not isinstance(value, list | tuple) or not value:
        return 'must be a list of {"role": ..., "content": ...}.'
    for index, message in enumerate(value):
        if not isinstance(message, Mapping):
            return f'message {index + 1} is no {{"role": ..., "content": ...}}.'
        for key in ("role", "content"):
            problem = _text_problem(message.get(key))
            if problem:
                return f"message {index + 1}, {key}: {problem}"
    return None


def _dataset(rows: list[Row], file: str) -> "Dataset":
    import pyarrow as pa  # type: ignore[import-untyped]  # it publishes no types
    from datasets import Dataset

    names = dict.fromkeys(name for row in rows for name in row)
    arrays = {}
    for name in names:
        try:
            arrays[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise DataError(f"its values do not agree in type: {error}", file=file, field=name) from error
    return Dataset(pa.table(arrays))
