"""Checks of the shape of what is scored, the same for every metric."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill_metrics.errors import EmptyTextError, ShapeError, TextTypeError
from distill_metrics.results import Reference


@dataclass(frozen=True)
class Pairs:
    """Predictions with the references of each, checked.

    Attributes:
        predictions: One text an example.
        references: For each example at least one reference.
    """

    predictions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]

    def streams(self) -> list[list[str | None]]:
        """The references transposed for sacrebleu, with None where an example has fewer."""
        depth = max(len(row) for row in self.references)
        return [[row[k] if k < len(row) else None for row in self.references] for k in range(depth)]


def pair(predictions: Sequence[str], references: Sequence[Reference]) -> Pairs:
    """Check that predictions and references are lists of texts that pair up one to one.

    Args:
        predictions: One text an example.
        references: One text or one list of texts an example, in the same order.

    Raises:
        TextTypeError: Either is a bare string, or something in them is not a ``str``; the row is named.
        ShapeError: The lengths differ, there are no examples, or an example has an empty list of references.
    """
    if isinstance(predictions, str) or isinstance(references, str):
        which = "predictions" if isinstance(predictions, str) else "references"
        raise TextTypeError(
            f"{which} is one string; a list with one text an example is needed.",
            field=which,
            found=predictions if which == "predictions" else references,
        )
    if len(predictions) != len(references):
        raise ShapeError(
            f"{len(predictions)} predictions but {len(references)} references; one entry an example is "
            "needed, each a text or a list of texts (not one list a reference set, as sacrebleu takes them).",
            field="predictions",
            found=len(predictions),
            allowed=(len(references),),
        )
    if not predictions:
        raise ShapeError(
            "There are no examples to score; at least one is needed.", field="predictions", found=0
        )
    checked = tuple(_text(text, "prediction", row) for row, text in enumerate(predictions))
    return Pairs(checked, tuple(_references(entry, row) for row, entry in enumerate(references)))


def _references(entry: Reference, row: int) -> tuple[str, ...]:
    if isinstance(entry, str):
        return (entry,)
    if not isinstance(entry, Sequence):
        raise TextTypeError(
            f"The reference of example {row} is a {type(entry).__name__}; a str or a list of str is needed.",
            field="references",
            found=entry,
        )
    if not entry:
        raise ShapeError(
            f"Example {row} has an empty list of references; at least one text is needed.",
            field="references",
            found=entry,
        )
    return tuple(_text(text, "reference", row) for text in entry)


def _text(text: object, what: str, row: int) -> str:
    if not isinstance(text, str):
        raise TextTypeError(
            f"The {what} of example {row} is a {type(text).__name__}; a str is needed.",
            field=f"{what}s",
            found=text,
        )
    return text


def count_empty(pairs: Pairs, is_empty: Callable[[str], bool], *, advice: str = "Remove the example.") -> int:
    """How many predictions hold nothing to count.

    Args:
        pairs: What is scored.
        is_empty: Whether the metric's tokenizer reduces a text to nothing.
        advice: What to do about a reference that is not blank and yet reduced to nothing.

    Raises:
        EmptyTextError: A reference is reduced to nothing: no prediction could be right.
    """
    for row, references in enumerate(pairs.references):
        for text in references:
            if is_empty(text):
                shown = text if len(text) <= 40 else f"{text[:40]}..."
                what = f"{shown!r}, which the tokenizer reduces to nothing. {advice}"
                if not text.strip():
                    what = "empty. Remove the example."
                raise EmptyTextError(
                    f"The reference of example {row} is {what}", field="references", found=text
                )
    return sum(is_empty(text) for text in pairs.predictions)


def is_blank(text: str) -> bool:
    """Whether a text has no character but white space."""
    return not text.strip()
