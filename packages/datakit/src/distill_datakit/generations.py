"""Teacher generations as files: written resumably, read as training data."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distill_datakit.errors import DataError
from distill_datakit.files import Row, file_format, read_rows
from distill_datakit.importers import PIPELINE, convert_generations
from distill_datakit.loading import OnError, check_on_error, warn_of_dropped

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from distill_datakit.importers import Inputs

FIELDS = ("id", "input", "output", "score")
_THEIRS = {"custom_id", "request_id", *PIPELINE}  # one of these stands in each row of another tool


def write_generations(rows: Iterable[Mapping[str, object]], path: str | Path) -> int:
    """Append teacher generations to a file, except those whose ``id`` it already holds.

    A ``.jsonl`` file is written row by row, so that an interruption loses nothing that was generated before
    it; an incomplete last line is removed first. A ``.parquet`` file is replaced as a whole at the end.

    Args:
        rows: Mappings with ``id`` (text or integer), ``input`` and ``output`` (texts) and ``score`` (a
            number or None).
        path: A ``.jsonl`` or ``.parquet`` file. It is made, with its folder, if it is missing.

    Returns:
        The number of rows that were added.

    Raises:
        DataError: A row lacks a field or has one of the wrong type, or the file is of another kind.

    Example:
        >>> from distill_datakit import existing_ids, write_generations
        >>> rows = [{"id": n, "input": f"w{n}", "output": f"W{n}", "score": -0.5} for n in range(3)]
        >>> write_generations(rows[:2], "generations.jsonl")
        2
        >>> write_generations(rows, "generations.jsonl"), sorted(existing_ids("generations.jsonl"))
        (1, [0, 1, 2])
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in {".jsonl", ".parquet"}:
        raise DataError(
            "generations are written as .jsonl or .parquet.",
            file=str(path), found=suffix, allowed=(".jsonl", ".parquet"), suggestion=".jsonl")  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _fresh(rows, existing_ids(path), str(path))
    return _append_lines(fresh, path) if suffix == ".jsonl" else _append_parquet(fresh, path)


def existing_ids(path: str | Path) -> set[str | int]:
    """List the ids that a file of generations already holds.

    Args:
        path: A file that ``write_generations`` writes; it may be missing.

    Returns:
        The ids; none if there is no file.

    Raises:
        DataError: A complete row is not a generation, or the file is compressed.

    Example:
        >>> from distill_datakit import existing_ids
        >>> existing_ids("no-such-file.jsonl")
        set()
    """
    path = Path(path)
    if not path.exists():
        return set()
    _check_ends(path)
    ids: set[str | int] = set()
    for number, row in _whole_rows(path):
        ids.add(_checked(row, str(path), number)["id"])  # type: ignore[arg-type]  # _checked has made sure
    return ids


def read_generations(
    path: str | Path,
    *,
    inputs: "Inputs | None" = None,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    scores: bool = False,
    on_error: OnError = "refuse",
) -> "Dataset":
    """Read generations as training rows: ``input`` becomes ``source``, ``output`` becomes ``target``.

    Rows whose output is blank are left out, since nothing can be learnt from them.

    Args:
        path: A file that ``write_generations`` wrote, or a file with one output of another tool on each
            line, as ``convert_generations`` reads them.
        inputs: The texts of the requests, for files of other tools that do not hold them.
        tokenizer: The tokenizer that decodes ids, for files of ids.
        scores: Whether to keep ``id`` (as text) and ``score`` too.
        on_error: ``"drop"`` leaves out failed requests and rows that are not generations, and warns.

    Returns:
        Columns ``source`` and ``target``, which can be concatenated with labelled rows.

    Raises:
        DataError: There is no such file, a request failed, a row is not a generation, or no row has an
            output.

    Warns:
        DroppedRowsWarning: Rows were dropped.

    Example:
        >>> from distill_datakit import read_generations, write_generations
        >>> row = {"id": 1, "input": "w1", "output": "W1", "score": None}
        >>> write_generations([row, {**row, "id": 2, "output": " "}], "labels.jsonl")
        2
        >>> read_generations("labels.jsonl")[:]
        {'source': ['w1'], 'target': ['W1']}
    """
    from datasets import Dataset

    check_on_error(on_error)
    path = Path(path)
    file_format(path)
    rows, dropped = _sorted(path, _converted(path, inputs, tokenizer), on_error)
    if dropped:
        warn_of_dropped(dropped[0], len(dropped), len(dropped) + len(rows))
    kept = [row for row in rows if str(row["output"]).strip()]
    if not kept:
        raise DataError(f"none of {len(rows)} generations has an output.", file=str(path))
    columns = {"source": [row["input"] for row in kept], "target": [row["output"] for row in kept]}
    if scores:
        columns |= {"id": [str(row["id"]) for row in kept], "score": [row["score"] for row in kept]}
    return Dataset.from_dict(columns)


def _sorted(
    path: Path, converted: Iterable[tuple[int, Row | DataError]], on_error: OnError
) -> tuple[list[Row], list[DataError]]:
    """The generations, and what is wrong with the other rows."""
    rows: list[Row] = []
    dropped: list[DataError] = []
    for number, found in converted:
        try:
            if isinstance(found, DataError):
                raise found.at(str(path), number)
            rows.append(_checked(found, str(path), number))
        except DataError as error:
            if on_error == "refuse":
                raise
            dropped.append(error)
    return rows, dropped


def _converted(
    path: Path, inputs: "Inputs | None", tokenizer: "PreTrainedTokenizerBase | None"
) -> Iterator[tuple[int, Row | DataError]]:
    """Our own rows as they are, those of other tools converted, each with its number."""
    numbers: list[int] = []

    def theirs(row: Row) -> bool:
        return not {"id", "input", "output"} <= row.keys() and not row.keys().isdisjoint(_THEIRS)

    def rows() -> Iterator[Row]:
        for number, row in _whole_rows(path):
            numbers.append(number)
            yield row

    first = next(rows(), None)
    if first is None or not theirs(first):
        yield from _whole_rows(path)
        return
    numbers.clear()
    for found in convert_generations(rows(), inputs=inputs, tokenizer=tokenizer):
        yield numbers[-1], found


def _whole_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Every row, but not a half-written last line."""
    pending: DataError | None = None
    for number, row in read_rows(path):
        if pending is not None:
            raise pending
        if isinstance(row, DataError):
            pending = row
        else:
            yield number, row
    if pending is not None and _ends_whole(path):
        raise pending


def _ends_whole(path: Path) -> bool:
    if path.name.endswith(".gz") or path.suffix == ".parquet" or not path.stat().st_size:
        return True
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _fresh(rows: Iterable[Mapping[str, object]], seen: set[str | int], file: str) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        checked = _checked(row, f"generation for {file}", number)
        identity: str | int = checked["id"]  # type: ignore[assignment]  # _checked has made sure
        if identity not in seen:
            seen.add(identity)
            yield checked


def _checked(row: Mapping[str, object], file: str, number: int) -> Row:
    for name in FIELDS[:3]:
        allowed: tuple[type, ...] = (str, int) if name == "id" else (str,)
        value = row.get(name)
        if not isinstance(value, allowed) or isinstance(value, bool):
            found = "missing" if value is None else f"{value!r:.40}"
            raise DataError(
                f"{found}; a generation has id, input, output and score.", file=file, row=number, field=name,
                found=value)  # fmt: skip
    score = row.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise DataError(
            f"{score!r:.40} is not a number.", file=file, row=number, field="score", found=score)  # fmt: skip
    return {name: row.get(name) for name in FIELDS}


def _append_lines(rows: Iterator[Row], path: Path) -> int:
    count = 0
    with path.open("ab") as stream:
        _repair_last_line(path)
        for row in rows:
            # ASCII: a cut in the middle of a character cannot make the file unreadable.
            stream.write(json.dumps(row, allow_nan=False).encode() + b"\n")
            stream.flush()
            count += 1
        os.fsync(stream.fileno())
    return count


def _check_ends(path: Path) -> None:
    """Refuse a compressed file, which cannot be continued after an interruption."""
    if path.name.lower().endswith(".gz"):
        raise DataError(
            "compressed generations cannot be appended to. Decompress the file first.", file=str(path)
        )


def _repair_last_line(path: Path) -> None:
    """Complete or cut off what an interruption left behind the last whole line."""
    with path.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        tail, start = b"", end
        while start > 0 and b"\n" not in tail:
            start = max(0, start - 65536)
            stream.seek(start)
            tail = stream.read(end - start)
        rest = tail[tail.rfind(b"\n") + 1 :]
        if not rest:
            return
        try:
            json.loads(rest)
        except ValueError:
            stream.truncate(end - len(rest))
        else:
            stream.seek(end)
            stream.write(b"\n")


def _append_parquet(rows: Iterator[Row], path: Path) -> int:
    import pyarrow as pa  # type: ignore[import-untyped]  # it publishes no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # nor does this

    fresh = list(rows)
    if not fresh and path.exists():
        return 0
    old = [row for _, row in _whole_rows(path)] if path.exists() else []
    everything = [_checked(row, str(path), number) for number, row in enumerate([*old, *fresh], start=1)]
    try:
        identities = pa.array([row["id"] for row in everything])
    except pa.ArrowException as error:
        raise DataError("a Parquet column holds one type: give all ids as texts or all as integers.",
                        file=str(path), field="id") from error  # fmt: skip
    columns = [identities] + [
        pa.array([row[name] for row in everything], type=pa.string()) for name in FIELDS[1:3]
    ]
    columns.append(pa.array([row["score"] for row in everything], type=pa.float64()))
    staged = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(pa.table(dict(zip(FIELDS, columns, strict=True))), staged)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
    return len(fresh)
