"""The rows that every system answers, read and checked before any model is loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_app_evaluator.errors import Fix, Option, UsageError
from distill_app_evaluator.request import EvaluationRequest, Rows

if TYPE_CHECKING:
    from distill_datakit import Reference
    from distill_metrics.slices import Slicing

Say = Callable[[str], None]

MOST_SLICES = 20

# The original's default metrics, and the one that needs no explanation.
_DEFAULT_METRICS = ("rouge1", "rouge2", "rougeL", "bleu", "exact_match")


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Texts in file order.

    Attributes:
        inputs: One text a row, without the prefix.
        references: The right answer of each row, or a list of right answers.
        slices: ``"length"`` of the references, a value a row, or None for no slices.
    """

    inputs: Sequence[str]
    references: "Sequence[Reference]"
    slices: "Slicing | None" = None


def read_examples(rows: Rows) -> Examples:
    """Read a file of examples.

    Raises:
        UsageError: A row is damaged or has no reference, the split is empty, or a column has more than
            ``MOST_SLICES`` different values to slice by.
    """
    from distill_datakit import DataError, inputs_of, load_data, references_of, split

    try:
        part = load_data(rows.path, columns=rows.columns)
        if rows.split == "test":
            part = split(part)["test"]
        inputs, references = inputs_of(part), references_of(part)
    except DataError as error:
        hint = ""
        if rows.split == "test" and error.row is None:
            hint = " Or take every row: --split all."
        fix = Option("--split", "all") if hint else _delete(rows, error.row)
        raise UsageError(f"{error}{hint}", fix=fix) from error
    by: Slicing | None = None
    if rows.slices is not None:
        by = "length" if rows.slices == "length" else list(part[rows.slices])
        _check_slices(rows, by)
    return Examples(inputs=inputs, references=references, slices=by)


def _delete(rows: Rows, row: int | None) -> Fix | None:
    """An edit that takes a row out of a file with one row a line."""
    if row is None or rows.split != "all" or rows.path.suffix not in (".jsonl", ".csv", ".tsv"):
        return None
    return f"{rows.path}:{row + (rows.path.suffix != '.jsonl')}: delete"


def _check_slices(rows: Rows, by: "Slicing") -> None:
    different = len({str(value) for value in by})
    if by != "length" and different > MOST_SLICES:
        raise UsageError(
            f"--slices {rows.slices}: {different} different values in {len(by)} rows; at most "
            f"{MOST_SLICES} slices are compared. Name a column with fewer, or --slices length.",
            fix=Option("--slices", "length"),
        )


def usable_metrics(
    request: EvaluationRequest, references: "Sequence[Reference]", say: Say
) -> tuple[str, ...]:
    """Choose the metrics that can score these references.

    Raises:
        UsageError: A metric that was named cannot.
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
