"""From files or rows in memory to a dataset of raw text, each row checked."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from distill_datakit.errors import DataError, DroppedRowsWarning, OptionError
from distill_datakit.files import Row
from distill_datakit.reading import CheckedRows

if TYPE_CHECKING:
    from datasets import Dataset

    from distill_datakit.reading import Source

OnError = Literal["refuse", "drop"]


def load_data(
    source: "Source",
    *,
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "refuse",
    split: str | None = None,
    quotes: bool | None = None,
) -> "Dataset":
    """Read rows of raw text and check every one.

    The first row decides which columns all rows must have: ``source`` (with ``target``), ``prompt`` (with
    ``completion``), ``messages``, or ``text`` (with ``label``). Unlabelled data lacks the second column in
    every row. ``references`` (a list of texts) and other columns are kept as they are. Nothing is cached:
    the rows are always those that the file holds now.

    Args:
        source: A ``.jsonl``, ``.csv``, ``.tsv`` or ``.txt`` file (each also with ``.gz``), a ``.parquet`` or
            ``.arrow`` file, a folder of ``.txt`` files (one example each), a folder that ``datasets`` saved,
            ``owner/name`` on the hub, a ``Dataset``, or rows in memory.
        columns: A mapping from column names of this package to those of the file, such as ``{"source":
            "word", "target": "phonemes"}``.
        on_error: ``"drop"`` leaves wrong rows out and warns with their number.
        split: The split to read from a folder or hub dataset that has several; ``"train"`` by default on
            the hub.
        quotes: Whether cells of a CSV or TSV file may stand in quotation marks, which protect delimiters and
            line breaks in the cell. By default CSV files have such cells and TSV files do not: in them a
            quotation mark is an ordinary character.

    Returns:
        The rows in the order of the file. Text stays text: ``"NA"`` and ``"null"`` in a CSV file are strings.

    Raises:
        DataError: A file, row or field cannot be used; the error names it.
        OptionError: ``on_error`` has another value.

    Warns:
        DroppedRowsWarning: Rows were dropped.

    Example:
        >>> from distill_datakit import load_data
        >>> load_data("pairs.jsonl")[0]
        {'source': 'w0 w1 w2 w3', 'target': 'w3 w2 w1 w0'}
        >>> rows = [{"word": "cat", "phonemes": "K AE T"}]
        >>> load_data(rows, columns={"source": "word", "target": "phonemes"})[0]
        {'source': 'cat', 'target': 'K AE T'}
    """
    check_on_error(on_error)
    checked = CheckedRows(source, columns, split=split, quotes=quotes)
    rows, dropped = _sorted(checked, on_error)
    if dropped:
        warn_of_dropped(dropped[0], len(dropped), len(dropped) + len(rows))
    if not rows:
        raise DataError("holds no usable row.", file=checked.name)
    return _dataset(rows, checked.name)


def _sorted(checked: CheckedRows, on_error: OnError) -> tuple[list[Row], list[DataError]]:
    """The rows that can be used, and what is wrong with the others."""
    rows: list[Row] = []
    dropped: list[DataError] = []
    for _, row in checked:
        if not isinstance(row, DataError):
            rows.append(row)
        elif on_error == "refuse":
            raise row
        else:
            dropped.append(row)
    return rows, dropped


def check_on_error(on_error: str) -> None:
    """Raise ``OptionError`` unless it is ``"refuse"`` or ``"drop"``."""
    if on_error not in ("refuse", "drop"):
        raise OptionError.of("on_error", on_error, ("refuse", "drop"))


def warn_of_dropped(first: object, dropped: int, rows: int) -> None:
    """Say how many rows were left out, to the caller of the public function."""
    warnings.warn(f"{dropped} of {rows} rows dropped; first: {first}", DroppedRowsWarning, stacklevel=3)


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
