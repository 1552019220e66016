"""The rows that every system is asked, read and checked before any model is loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill_app_evaluator.errors import Fix, Option, UsageError
from distill_app_evaluator.request import EvaluationRequest, Rows

Reference = str | list[str]
Say = Callable[[str], None]

MOST_PARTS = 20

# The original's default metrics, and the one that needs no explanation.
_DEFAULT_METRICS = ("rouge1", "rouge2", "rougeL", "bleu", "exact_match")


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Texts in file order.

    Attributes:
        inputs: One text a row, without the prefix.
        references: What is right: a text, or a list of texts.
        parts: For the name of each part the numbers of its rows; empty where none were asked for.
    """

    inputs: Sequence[str]
    references: Sequence[Reference]
    parts: dict[str, list[int]]


def read_examples(rows: Rows) -> Examples:
    """Read a file of examples.

    Raises:
        UsageError: A row is damaged or has no reference, the split is empty, or a column would make more
            than ``MOST_PARTS`` parts.
    """
    columns = _columns(rows)
    inputs = [_text(value, rows, rows.input, row) for row, value in enumerate(columns[rows.input], start=1)]
    references = [_reference(value, rows, row) for row, value in enumerate(columns[rows.reference], start=1)]
    return Examples(inputs=inputs, references=references, parts=_parts(rows, columns, references))


def usable_metrics(request: EvaluationRequest, references: Sequence[Reference], say: Say) -> tuple[str, ...]:
    """The metrics that can score these references.

    Raises:
        UsageError: One that was named cannot.
    """
    from distill_metrics import EmptyTextError, score

    perfect = [right if isinstance(right, str) else right[0] for right in references]
    usable = []
    for name in request.metrics or _DEFAULT_METRICS:
        try:
            score(perfect, references, metrics=[name], interval=None)
        except EmptyTextError as error:
            if request.metrics:
                others = ",".join(one for one in request.metrics if one != name)
                raise UsageError(
                    f"{name} cannot score {request.rows.path}: {error}",
                    fix=Option("--metrics", others or "exact_match"),
                ) from None
            say(f"Left out {name}: {error}")
            continue
        usable.append(name)
    return tuple(usable)


def _columns(rows: Rows) -> dict[str, list[object]]:
    from distill_datakit import DataError, load_data, split

    try:
        dataset = load_data(rows.path, columns=rows.columns)
        part = split(dataset)["test"] if rows.split == "test" else dataset
    except DataError as error:
        hint = " Or take every row: --split all." if rows.split == "test" and error.file is None else ""
        fix = Option("--split", "all") if hint else _delete(rows, error.row)
        raise UsageError(f"{error}{hint}", fix=fix) from error
    return {name: list(part[name]) for name in part.column_names}


def _delete(rows: Rows, row: int | None) -> Fix | None:
    """An edit that takes a row out of a file with a row a line."""
    lines = rows.split == "all" and rows.path.suffix in (".jsonl", ".csv", ".tsv")
    if row is None or not lines:
        return None
    return f"{rows.path}:{row + (rows.path.suffix != '.jsonl')}: delete"


def _text(value: object, rows: Rows, column: str, row: int) -> str:
    if isinstance(value, str):
        return value
    raise UsageError(
        f"Row {row}, column {column!r}: {_shown(value)} where a text is needed; write it as one.",
        fix=_delete(rows, row),
    )


def _reference(value: object, rows: Rows, row: int) -> Reference:
    if not isinstance(value, list):
        return _text(value, rows, rows.reference, row)
    if not value:
        raise UsageError(
            f"Row {row}, column {rows.reference!r}: an empty list; at least one text is needed.",
            fix=_delete(rows, row),
        )
    return [_text(one, rows, rows.reference, row) for one in value]


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{str(value)[:40]} ({type(value).__name__})"


def _parts(
    rows: Rows, columns: dict[str, list[object]], references: Sequence[Reference]
) -> dict[str, list[int]]:
    from distill_metrics.slices import slice_rows

    if rows.slices is None:
        return {}
    if rows.slices == "length":
        return slice_rows(references, "length")
    values = columns[rows.slices]
    different = len({str(value) for value in values})
    if different > MOST_PARTS:
        raise UsageError(
            f"--slices {rows.slices}: {different} different values in {len(values)} rows; at most "
            f"{MOST_PARTS} parts are compared. Name a column with fewer, or --slices length.",
            fix=Option("--slices", "length"),
        )
    return slice_rows(references, values)
