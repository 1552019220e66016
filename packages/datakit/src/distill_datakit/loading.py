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

    The first row says the shape: ``source`` (with ``target``), ``prompt`` (with ``completion``),
    ``messages`` or ``text`` (with ``label``). The second column may be missing throughout: unlabelled
    data. ``references`` (a list of texts) and other columns are kept as they are. Nothing is cached: what
    the file holds now is what is read.

    Args:
        source: A ``.jsonl``, ``.csv``, ``.tsv`` or ``.txt`` file (each also with ``.gz``), a ``.parquet`` or
            ``.arrow`` file, a folder of ``.txt`` files (one example each), a folder that ``datasets`` saved,
            ``owner/name`` on the hub, a ``Dataset``, or rows in memory.
        columns: Our name -> the file's name, as ``{"source": "word", "target": "phonemes"}``.
        on_error: ``"drop"`` leaves wrong rows out and warns with their number.
        split: Which one of a folder or hub dataset that has several; on the hub ``"train"`` when None.
        quotes: Whether cells of a CSV or TSV file may stand in quotation marks, between which delimiters and
            line ends are text. None, the default: those of a CSV file may, those of a TSV file, in which a
            quotation mark is a character like others, may not.

    Returns:
        The rows in file order. Text stays text: ``"NA"`` and ``"null"`` in a CSV are strings.

    Raises:
        DataError: A file, row or field that cannot be used, by name.

    Warns:
        DroppedRowsWarning: Rows were dropped.
    """
    check_on_error(on_error)
    checked = CheckedRows(source, columns, split=split, quotes=quotes)
    rows: list[Row] = []
    dropped: list[DataError] = []
    for _, row in checked:
        if not isinstance(row, DataError):
            rows.append(row)
        elif on_error == "refuse":
            raise row
        else:
            dropped.append(row)
    if dropped:
        warn_of_dropped(dropped[0], len(dropped), len(dropped) + len(rows))
    if not rows:
        raise DataError("holds no usable row.", file=checked.name)
    return _dataset(rows, checked.name)


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
