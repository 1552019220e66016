"""Rows of whatever the user has, one by one, each checked."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from distill_datakit.columns import SHAPES
from distill_datakit.errors import DataError, nearest
from distill_datakit.files import FORMATS, Row, read_rows

if TYPE_CHECKING:
    from datasets import Dataset

    Source: TypeAlias = str | Path | Sequence[Mapping[str, object]] | Dataset

_SHAPE_WORDS = "source/target, prompt/completion, messages, text, or text/label"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class CheckedRows:
    """The rows of a source with their numbers (from 1); a row that cannot be used comes as its error.

    The first row says the shape, which all others must have.

    Args:
        source: Anything that ``load_data`` reads.
        columns: A mapping from column names of this package to those of the source.
        split: The split to read from a ``datasets`` folder or hub dataset.
        name: A name for the source in errors, instead of that of the file.
        quotes: Whether cells of a table may stand in quotation marks.
    """

    def __init__(
        self,
        source: "Source",
        columns: Mapping[str, str] | None = None,
        *,
        split: str | None = None,
        name: str | None = None,
        quotes: bool | None = None,
    ) -> None:
        self._columns = dict(columns or {})
        if isinstance(source, str | Path):
            self.name = name or str(source)
            on_hub = is_hub_name(source)
            self._numbered = (
                _hub_rows(str(source), split)
                if on_hub
                else read_rows(Path(source), split=split, quotes=quotes)
            )
        else:
            self.name = name or "the given rows"
            self._numbered = _given(source, self.name)

    def __iter__(self) -> Iterator[tuple[int, Row | DataError]]:
        """Row after row, or what is wrong with it.

        Raises:
            DataError: Nothing of the source can be used: no such file, an unknown shape, a damaged file.
        """
        required: tuple[str, ...] | None = None
        for number, found in self._numbered:
            if isinstance(found, DataError):
                yield number, found
                continue
            try:
                row = _renamed(found, self._columns, self.name, number)
            except DataError as error:
                if required is None:
                    raise
                yield number, error
                continue
            if required is None:
                required = _required(row, self.name)
            try:
                _check(row, required, self.name, number)
            except DataError as error:
                yield number, error
            else:
                yield number, row


def is_hub_name(source: str | Path) -> bool:
    """Whether it reads as ``owner/name`` on the hub: no such file here, and no suffix of a file."""
    text = str(source)
    return (
        isinstance(source, str)
        and bool(_HUB_NAME.fullmatch(text))
        and not Path(text).exists()
        and not text.lower().endswith(FORMATS)
    )


def _hub_rows(name: str, split: str | None) -> Iterator[tuple[int, Row]]:
    import datasets

    split = split or "train"
    try:
        part = datasets.load_dataset(name, split=split)
    except Exception as error:  # whatever the network, the hub or the dataset raises
        raise DataError(
            f"neither a local file nor a dataset that the hub provides (split {split!r}): {error}",
            file=name,
        ) from error
    yield from enumerate(part, start=1)


def _given(rows: Iterable[object], name: str) -> Iterator[tuple[int, Row | DataError]]:
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Mapping):
            yield number, dict(row)
        else:
            yield (
                number,
                DataError(
                    f"a {type(row).__name__}; each row must be a mapping.", file=name, row=number, found=row
                ),
            )


def _renamed(row: Row, columns: Mapping[str, str], file: str, number: int) -> Row:
    for theirs in columns.values():
        if theirs not in row:
            raise DataError(
                _missing(theirs, row), file=file, row=number, field=theirs,
                found=theirs, allowed=tuple(row), suggestion=nearest(theirs, row))  # fmt: skip
    ours = {theirs: name for name, theirs in columns.items()}
    taken = set(ours.values()) & (set(row) - set(ours))
    if taken:
        clash = min(taken)
        raise DataError(f"{columns[clash]!r} is mapped to it, but the row has a column of that name.",
                        file=file, row=number, field=clash, found=columns[clash])  # fmt: skip
    return {ours.get(name, name): value for name, value in row.items()}


def _missing(field: str, row: Row) -> str:
    near = nearest(field, row)
    hint = f" Did you mean {near!r}?" if near else ""
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
                raise DataError(
                    _missing(unlike[0], row), file=file, row=1, field=unlike[0],
                    found=tuple(row), allowed=(unlike[0],), suggestion=near[0])  # fmt: skip
            return required
    near = difflib.get_close_matches(" ".join(row), SHAPES, n=1) or [
        first for first in SHAPES for name in row if difflib.get_close_matches(first, [name], cutoff=0.75)
    ]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DataError(
        f"columns {', '.join(map(repr, row)) or 'none'}; known shapes are {_SHAPE_WORDS}.{hint} "
        "Map other names with columns={'source': 'their name', ...}.",
        file=file, found=tuple(row), allowed=tuple(SHAPES), suggestion=near[0] if near else None)  # fmt: skip


def _check(row: Row, required: tuple[str, ...], file: str, number: int) -> None:
    for field in required:
        if field not in row:
            raise DataError(
                _missing(field, row), file=file, row=number, field=field,
                found=tuple(row), allowed=(field,), suggestion=nearest(field, row))  # fmt: skip
        problem = _messages_problem(row[field]) if field == "messages" else _text_problem(row[field])
        if problem:
            raise DataError(problem, file=file, row=number, field=field, found=row[field])
    references = row.get("references")
    if references is not None:
        if isinstance(references, list | tuple):
            problem = next(filter(None, map(_text_problem, references)), None)
        else:
            problem = "must be a list of texts."
        if problem:
            raise DataError(problem, file=file, row=number, field="references", found=references)


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
        return "holds half a surrogate pair, which is not a character. Repair the text."
    return None


def _messages_problem(value: object) -> str | None:
    if not isinstance(value, list | tuple) or not value:
        return 'must be a list of {"role": ..., "content": ...}.'
    for index, message in enumerate(value):
        if not isinstance(message, Mapping):
            return f'message {index + 1} is not of the form {{"role": ..., "content": ...}}.'
        for key in ("role", "content"):
            problem = _text_problem(message.get(key))
            if problem:
                return f"message {index + 1}, {key}: {problem}"
    return None
