"""Read rows from files one by one, so that every problem can name its row.

Nothing here imports datasets: the columns of a file are known in milliseconds.
"""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from distill_datakit.errors import DataError, nearest

if TYPE_CHECKING:
    import _csv

FORMATS = (
    ".jsonl",
    ".jsonl.gz",
    ".csv",
    ".csv.gz",
    ".tsv",
    ".tsv.gz",
    ".txt",
    ".txt.gz",
    ".parquet",
    ".arrow",
)
Row = dict[str, object]


def file_format(path: Path) -> str:
    """The suffix that says how to read ``path``, without ``.gz``.

    ``"folder"`` for a folder, ``"datasets"`` for one that ``datasets`` saved.

    Raises:
        DataError: There is no such file, or its suffix is not one of ``FORMATS``.
    """
    if path.is_dir():
        saved = any((path / name).exists() for name in ("state.json", "dataset_dict.json"))
        return "datasets" if saved else "folder"
    if not path.exists():
        raise DataError(
            "no such file. Check the path; relative paths start where the command runs.", file=str(path)
        )
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in FORMATS or (suffix in (".parquet", ".arrow") and path.name.lower().endswith(".gz")):
        raise DataError(
            f"unknown file type. Readable are {', '.join(FORMATS)}.",
            file=str(path), found=suffix, allowed=FORMATS, suggestion=nearest(suffix, FORMATS))  # fmt: skip
    return suffix


def read_rows(
    path: Path, *, first_only: bool = False, split: str | None = None, quotes: bool | None = None
) -> Iterator[tuple[int, Row | DataError]]:
    """The rows of a file with their numbers (from 1); a row that cannot be read comes as its error.

    Args:
        path: A file of one of ``FORMATS``, a folder of ``.txt`` files (one example each, sorted by name) or
            one that ``datasets`` saved.
        first_only: Whether the caller only needs the first row; then a Parquet file is not read whole.
        split: The split to read from a folder that ``datasets`` saved with several.
        quotes: Whether cells of a table may stand in quotation marks. By default only those of CSV files may.

    Raises:
        DataError: What makes the rest of the file unreadable: damaged compression, text that is not
            UTF-8, a CSV whose quotes do not close.
    """
    kind = file_format(path)
    if kind == "datasets":
        yield from _saved(path, split)
    elif kind == "folder":
        yield from _folder(path)
    elif kind == ".arrow":
        yield from enumerate(_arrow(path), start=1)
    elif kind == ".parquet":
        yield from _parquet(path, first_only=first_only)
    else:
        try:
            with _open(path) as stream:
                if kind == ".jsonl":
                    yield from _jsonl(stream, str(path))
                elif kind == ".txt":
                    yield from _lines(stream)
                else:
                    yield from _table(stream, str(path), kind, quotes=quotes)
        except UnicodeDecodeError as error:
            raise DataError(
                f"not UTF-8 ({error.reason}). Convert the file to UTF-8.", file=str(path)
            ) from error
        except (EOFError, OSError) as error:
            raise DataError(f"cannot be read: {error}", file=str(path)) from error


def inspect_columns(path: str | Path) -> tuple[str, ...]:
    """Read the column names of a file from its header or first row alone.

    This is fast and needs neither datasets nor torch, so that a run file can be checked before anything heavy
    is imported.

    Args:
        path: A file that ``load_data`` reads.

    Returns:
        The names in the order of the file; ``("text",)`` for plain text.

    Raises:
        DataError: The file is missing, empty or of an unknown type, or its first row cannot be read.

    Example:
        >>> from distill_datakit import inspect_columns
        >>> inspect_columns("pairs.jsonl")
        ('source', 'target')
    """
    path = Path(path)
    if file_format(path) in {".csv", ".tsv"}:
        with _open(path) as stream:
            header = next(_reader(stream, file_format(path)), None)
        if header:
            return tuple(header)
        raise DataError("holds no row.", file=str(path))
    rows = read_rows(path, first_only=True)
    for _, row in rows:
        rows.close()  # type: ignore[attr-defined]  # a generator: closes the file now, not at collection
        if isinstance(row, DataError):
            raise row
        return tuple(row)
    raise DataError("holds no row.", file=str(path))


def _open(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _folder(path: Path) -> Iterator[tuple[int, Row | DataError]]:
    names = sorted(path.glob("*.txt"))
    if not names:
        raise DataError(
            "a folder without .txt files. Give a file, or a folder of one example a file.", file=str(path)
        )
    for number, name in enumerate(names, start=1):
        try:
            yield number, {"text": name.read_text(encoding="utf-8-sig")}
        except UnicodeDecodeError as error:
            raise DataError(
                f"not UTF-8 ({error.reason}). Convert the file to UTF-8.", file=str(name)
            ) from error


def _lines(stream: IO[str]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(stream, start=1):
        text = line.rstrip("\r\n")
        if text.strip():
            yield number, {"text": text}


def _jsonl(stream: IO[str], file: str) -> Iterator[tuple[int, Row | DataError]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except RecursionError:
            yield number, DataError("nested too deeply to be a row of data.", file=file, row=number)
        except ValueError as error:
            yield number, DataError(f"not valid JSON: {error}", file=file, row=number)
        else:
            if isinstance(row, dict):
                yield number, row
            else:
                found = type(row).__name__
                yield (
                    number,
                    DataError(
                        f'a {found}; each line must be an object, {{"source": ...}}.', file=file, row=number
                    ),
                )


def _object(pairs: list[tuple[str, object]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return row


class _Lines:
    """The lines of a table, where those of the row that is being read can be looked at."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._stream, self.row, self.number = stream, "", 0

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            self.row = self.row or line
            yield line

    def next_row(self, last_line: int) -> None:
        """The row before ends with this line."""
        self.row, self.number = "", last_line


def _reader(lines: Iterable[str], kind: str, *, quotes: bool | None = None) -> "_csv.Reader":
    # The limit of a cell is one of the process; its default, 128 KiB, is less than many a document has.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    quoted = kind == ".csv" if quotes is None else quotes
    return csv.reader(
        lines, delimiter="\t" if kind == ".tsv" else ",", strict=True,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)  # fmt: skip


def _table(
    stream: IO[str], file: str, kind: str, *, quotes: bool | None = None
) -> Iterator[tuple[int, Row | DataError]]:
    lines = _Lines(stream)
    reader = _reader(lines, kind, quotes=quotes)
    header: list[str] | None = None
    try:
        for cells in reader:
            if header is None:
                header = cells
                if len(set(header)) < len(header):
                    raise DataError(
                        f"the header names a column twice: {header}. Rename one.", file=file, row=1
                    )
            elif len(cells) == len(header):
                yield reader.line_num, dict(zip(header, cells, strict=True))
            elif cells:
                yield reader.line_num, _uneven(lines, reader.line_num, len(cells), header, file, kind)
            lines.next_row(reader.line_num)
    except csv.Error as error:
        long = _long_cell(lines, reader.line_num, header or [], kind)
        row, field, cell = (long.row, long.field, long.message) if long else (reader.line_num, None, "")
        raise DataError(f"{error}. {cell}Check the quotes.", file=file, row=row, field=field) from error


def _uneven(lines: _Lines, last: int, count: int, header: list[str], file: str, kind: str) -> DataError:
    """A row with more or fewer cells than the header."""
    long = _long_cell(lines, last, header, kind)
    found = f"{count} cells, but {len(header)} in the header."
    if long is not None:
        return DataError(
            f"{found} {long.message}Check the quotes.", file=file, row=long.row, field=long.field
        )
    tab = "A cell cannot hold a tab." if kind == ".tsv" else "Quote cells with a ','."
    return DataError(f"{found} {tab}", file=file, row=last, found=count, allowed=(len(header),))


def _long_cell(lines: _Lines, last: int, header: list[str], kind: str) -> DataError | None:
    """Where a row of several lines begins, and the cell whose quotation mark took the others in."""
    first = lines.number + 1
    if last <= first:
        return None
    delimiter = "\t" if kind == ".tsv" else ","
    before = len(next(csv.reader([lines.row], delimiter=delimiter))) - 1
    return DataError(
        f"A cell that begins with a quotation mark takes in lines {first} to {last}. ",
        row=first, field=header[before] if before < len(header) else None)  # fmt: skip


def _parquet(path: Path, *, first_only: bool) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa  # type: ignore[import-untyped]  # it publishes no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # nor does this

    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1 if first_only else 4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as error:
        raise DataError(f"not a readable Parquet file: {error}", file=str(path)) from error


def _arrow(path: Path) -> Iterator[Row]:
    """The rows of an Arrow file or, as ``datasets`` writes it, stream; never more than a batch in memory."""
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as stream:
            if stream.read(6) == b"ARROW1":
                reader = pa.ipc.open_file(stream)
                batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                stream.seek(0)
                batches = iter(pa.ipc.open_stream(stream))
            for batch in batches:
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"not a readable Arrow file: {error}", file=str(path)) from error


def _saved(path: Path, split: str | None) -> Iterator[tuple[int, Row]]:
    """The rows of a folder that ``datasets`` saved."""
    several = path / "dataset_dict.json"
    try:
        if several.exists():
            names = json.loads(several.read_text(encoding="utf-8"))["splits"]
            chosen = split or (str(names[0]) if len(names) == 1 else "")
            if chosen not in names:
                found = "several splits" if split is None else f"no split {split!r}"
                raise DataError(
                    f"{found}; there are {', '.join(names)}. Give split, or the folder of one of them.",
                    file=str(path), field="split", found=split, allowed=names,
                    suggestion=nearest(chosen, names))  # fmt: skip
            path /= chosen
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        files = [path / str(entry["filename"]) for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"not a folder that datasets saved: {error!r}", file=str(path)) from error
    yield from enumerate((row for file in files for row in _arrow(file)), start=1)
