"""Accuracy and F1 of labels: of the words that a masked model fills in, or of classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from distill_metrics.arrays import IGNORED, as_array
from distill_metrics.errors import SettingError, ShapeError
from distill_metrics.results import MetricResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Average = Literal["macro", "weighted"]


def accuracy(predictions: object, labels: object) -> MetricResult:
    """Share of positions whose predicted label is the right one, in percent.

    Args:
        predictions: Labels of any shape: token ids ``(batch, seq)``, classes ``(batch,)``; arrays, tensors
            or lists, of numbers or texts.
        labels: The right ones in the same shape. A position with -100 does not count.

    Returns:
        ``n`` is the number of positions that count, and ``per_example`` holds 100 or 0 for each.

    Raises:
        ShapeError: The shapes differ, or no position counts.

    Example:
        >>> from distill_metrics import accuracy
        >>> accuracy([3, 5, 2], [3, 4, -100]).value
        50.0
    """
    said, right = counted(predictions, labels)
    hits = (said == right).astype(float) * 100.0
    return MetricResult(
        value=float(hits.mean()),
        unit="percent",
        n=len(hits),
        signature=f"accuracy|ignored:{IGNORED}",
        per_example=tuple(hits.tolist()),
    )


def f1(predictions: object, labels: object, *, average: Average = "macro") -> MetricResult:
    """F1 of each label that was predicted or right, averaged over labels, in percent.

    Args:
        predictions: As in :func:`accuracy`.
        labels: As in :func:`accuracy`.
        average: ``"macro"`` counts every label alike, ``"weighted"`` by how often it is right. (The micro
            average is the accuracy.)

    Raises:
        ShapeError: The shapes differ, or no position counts.
        SettingError: ``average`` is unknown.

    Example:
        >>> from distill_metrics import f1
        >>> result = f1(["cat", "dog", "cat"], ["cat", "cat", "cat"])
        >>> round(result.value, 1), result.n
        (40.0, 3)

    Source:
        ``sklearn.metrics.f1_score``, with a label that has neither hits nor misses left out.
    """
    import numpy as np

    if average not in ("macro", "weighted"):
        raise SettingError(
            f"There is no average {average!r}. Allowed: macro, weighted.",
            field="average",
            found=average,
            allowed=("macro", "weighted"),
            suggestion="macro",
        )
    said, right = counted(predictions, labels)
    names, codes = np.unique(np.concatenate([said, right]), return_inverse=True)
    first, second = codes[: len(said)], codes[len(said) :]
    hits = np.bincount(first[first == second], minlength=len(names))
    often = np.bincount(second, minlength=len(names))
    scores = 2.0 * hits / (np.bincount(first, minlength=len(names)) + often)
    weights = None if average == "macro" else often
    return MetricResult(
        value=100.0 * float(np.average(scores, weights=weights)),
        unit="percent",
        n=len(said),
        signature=f"f1|average:{average}|labels:{len(names)}|ignored:{IGNORED}",
    )


def counted(predictions: object, labels: object) -> tuple["NDArray[np.generic]", "NDArray[np.generic]"]:
    """Both flat, without the positions that do not count.

    Raises:
        ShapeError: The shapes differ, or no position counts.
    """
    said, right = as_array(_plain(predictions)), as_array(_plain(labels))
    if said.shape != right.shape:
        raise ShapeError(
            f"Predictions of shape {said.shape} do not fit labels of shape {right.shape}; one predicted "
            "label for each label is needed (of logits, take the argmax).",
            field="predictions",
            found=said.shape,
            allowed=(right.shape,),
        )
    keep = right != IGNORED if right.dtype.kind in "iuf" else right == right
    if not keep.any():
        raise ShapeError(
            f"None of the {right.size} labels counts: all are {IGNORED}, or there are none.", field="labels"
        )
    return said[keep], right[keep]


def _plain(labels: object) -> object:
    """A tuple of labels as a list: elsewhere a tuple holds a model's outputs."""
    return list(labels) if isinstance(labels, Sequence) and not isinstance(labels, str) else labels
