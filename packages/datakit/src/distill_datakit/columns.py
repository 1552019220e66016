"""What the columns of raw rows mean: what a model reads and learns, and what its answers are compared with.

Nothing heavy is imported here, so that columns are checked before any data is read.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from distill_datakit.errors import DataError, OptionError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

Task = Literal["causal", "seq2seq", "masked"]
Reference = str | list[str]
TASKS: tuple[Task, ...] = ("causal", "seq2seq", "masked")
# The first column of a row says which columns all rows must have.
SHAPES: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "source": ("source", "target"),
    "prompt": ("prompt", "completion"),
    "text": ("text",),
}
TEXT_INPUTS = ("source", "prompt", "text")
INPUTS = (*TEXT_INPUTS, "messages")
REFERENCES = ("references", "target", "completion", "label")
# The columns that each task can learn from, in the order in which they are suggested.
TRAINING_COLUMNS: Mapping[Task, tuple[tuple[str, ...], ...]] = {
    "seq2seq": (("source", "target"), ("prompt", "completion")),
    "causal": (("prompt", "completion"), ("source", "target"), ("messages",), ("text",)),
    "masked": (("text",), ("target",)),
}
# Where a row has the columns of several, the first of these is read.
_PRECEDENCE = (("messages",), ("source", "target"), ("prompt", "completion"), ("text",), ("target",))
IGNORED = -100  # in ``labels``: the value that every transformers loss leaves out


def check_task(task: str) -> None:
    """Raise ``OptionError`` unless ``task`` is one of ``TASKS``."""
    if task not in TASKS:
        raise OptionError.of("task", task, TASKS)


def training_columns(task: Task, names: Collection[str], *, span_corruption: bool = False) -> tuple[str, ...]:
    """Choose the columns that a task learns from: one column, or the input and the output.

    Args:
        task: ``"causal"``, ``"seq2seq"`` or ``"masked"``.
        names: The columns that the data has.
        span_corruption: Whether a seq2seq model learns spans of plain texts, as masked models learn tokens.

    Returns:
        One of the tuples of ``TRAINING_COLUMNS[task]``. If the data has several of them, chats come before
        pairs, pairs before plain texts, and ``source`` before ``prompt``.

    Raises:
        DataError: The data has none of them.
        OptionError: ``task`` is not one of the three.

    Example:
        >>> from distill_datakit import training_columns
        >>> training_columns("seq2seq", ["id", "prompt", "completion"])
        ('prompt', 'completion')
        >>> training_columns("causal", ["source", "target", "messages"])
        ('messages',)
    """
    check_task(task)
    allowed = TRAINING_COLUMNS["masked" if span_corruption else task]
    for shape in _PRECEDENCE:
        if shape in allowed and set(shape) <= set(names):
            return shape
    wanted = " or ".join("/".join(shape) for shape in allowed)
    if task == "seq2seq" and not span_corruption:
        wanted += " (or text, with span_corruption=True)"
    raise DataError(
        f"task {task!r} needs the columns {wanted}; there are {', '.join(names) or 'none'}.",
        found=tuple(names), allowed=allowed, suggestion=_nearest(allowed, names))  # fmt: skip


def input_column(names: Collection[str]) -> str:
    """Choose the column whose texts a model answers.

    Args:
        names: The columns that the data has.

    Returns:
        The first of ``source``, ``prompt`` and ``text`` that the data has.

    Raises:
        DataError: The data has none of them.

    Example:
        >>> from distill_datakit import input_column, reference_column
        >>> names = ["id", "text", "label"]
        >>> input_column(names), reference_column(names)
        ('text', 'label')
    """
    return _first("text to answer", TEXT_INPUTS, names)


def reference_column(names: Collection[str]) -> str:
    """Choose the column that answers are compared with.

    Args:
        names: The columns that the data has.

    Returns:
        The first of ``references``, ``target``, ``completion`` and ``label`` that the data has.

    Raises:
        DataError: The data has none of them.

    Example:
        >>> from distill_datakit import reference_column
        >>> reference_column(["source", "target", "references"])
        'references'
    """
    return _first("reference to compare with", REFERENCES, names)


def inputs_of(part: "Dataset") -> list[str]:
    """Take the text of each row that a model answers.

    Args:
        part: Raw rows.

    Returns:
        The texts of ``input_column``, in the order of the rows.

    Raises:
        DataError: The data has no such column.

    Example:
        >>> from distill_datakit import inputs_of, load_data
        >>> inputs_of(load_data([{"prompt": "2 + 2 =", "completion": " 4"}]))
        ['2 + 2 =']
    """
    return [str(text) for text in part[input_column(part.column_names)]]


def references_of(part: "Dataset") -> list[Reference]:
    """Take the correct answer of each row, or the list of its correct answers.

    Args:
        part: Raw rows.

    Returns:
        The values of ``reference_column``, in the order of the rows.

    Raises:
        DataError: The data has no such column, or a row has neither a text nor a list of texts in it.

    Example:
        >>> from distill_datakit import load_data, references_of
        >>> references_of(load_data([{"source": "cat", "target": "Katze", "references": ["Katze", "Kater"]}]))
        [['Katze', 'Kater']]
        >>> references_of(load_data("pairs.jsonl"))[:2]
        ['w3 w2 w1 w0', 'w10 w9 w8 w7']
    """
    name = reference_column(part.column_names)
    values = list(part[name])
    for row, value in enumerate(values, start=1):
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"{value!r:.40} ({type(value).__name__}) where a text, or a list of texts, is needed.",
                row=row, field=name, found=value)  # fmt: skip
    return cast("list[Reference]", values)


def _first(what: str, wanted: tuple[str, ...], names: Collection[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise DataError(
        f"there is no {what}: a column {', '.join(wanted[:-1])} or {wanted[-1]} is needed; there are "
        f"{', '.join(names) or 'none'}.",
        found=tuple(names), allowed=wanted,
        suggestion=_nearest([(name,) for name in wanted], names))  # fmt: skip


def _nearest(wanted: Sequence[tuple[str, ...]], names: Collection[str]) -> str | None:
    """The column that is probably meant by one of those that are missing."""
    missing = [name for shape in wanted for name in shape if name not in names]
    return next(filter(None, (nearest(name, names) for name in missing)), None)
