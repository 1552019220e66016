"""Exact match and token F1."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from distill_metrics.errors import SettingError
from distill_metrics.results import MetricResult, Reference, Statistics, ratio_percent
from distill_metrics.texts import count_empty, is_blank, pair

Normalization = Literal["blanks", "squad"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(
    predictions: Sequence[str], references: Sequence[Reference], *, normalize: Normalization = "blanks"
) -> MetricResult:
    """Share of predictions equal to one of their references, in percent.

    Args:
        predictions: One text an example.
        references: One text or a list of texts an example. A blank one is met by a blank prediction.
        normalize: ``"blanks"`` takes any run of white space as one blank and ignores it at both ends;
            ``"squad"`` also ignores case, ASCII punctuation and the English articles.

    Raises:
        ShapeError: Predictions and references do not pair up.
        TextTypeError: Something is not a ``str``.
        SettingError: ``normalize`` is unknown.

    Example:
        >>> from distill_metrics import exact_match
        >>> exact_match(["The cat!", "dogs"], ["the cat", ["dog", "dogs"]]).value
        50.0
        >>> exact_match(["The cat!"], ["cat"], normalize="squad").value
        100.0

    Source:
        Rajpurkar et al. 2016, arXiv:1606.05250, and its evaluation script v1.1, for ``"squad"``.
    """
    return exact_match_statistics(predictions, references, normalize=normalize).result()


def token_f1(
    predictions: Sequence[str], references: Sequence[Reference], *, normalize: Normalization = "blanks"
) -> MetricResult:
    """F1 of the blank-separated tokens shared with the best reference, averaged over examples, in percent.

    A prediction without tokens scores 0 and is counted. ``normalize`` is that of :func:`exact_match`.

    Raises:
        ShapeError: Predictions and references do not pair up.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A reference has no tokens.
        SettingError: ``normalize`` is unknown.

    Example:
        >>> from distill_metrics import token_f1
        >>> round(token_f1(["the big cat"], ["the cat"]).value, 2)
        80.0
    """
    return token_f1_statistics(predictions, references, normalize=normalize).result()


def exact_match_statistics(
    predictions: Sequence[str], references: Sequence[Reference], *, normalize: Normalization = "blanks"
) -> Statistics:
    """1 or 0 for each example, and a one beside it. Raises as :func:`exact_match`."""
    _check(normalize)
    pairs = pair(predictions, references)
    rows = [
        (float(_tokens(text, normalize) in [_tokens(right, normalize) for right in rights]), 1.0)
        for text, rights in zip(pairs.predictions, pairs.references, strict=True)
    ]
    empty = sum(map(is_blank, pairs.predictions))
    return _mean(rows, f"exact_match|normalize:{normalize}", empty)


def token_f1_statistics(
    predictions: Sequence[str], references: Sequence[Reference], *, normalize: Normalization = "blanks"
) -> Statistics:
    """The F1 of each example, and a one beside it. Raises as :func:`token_f1`."""
    _check(normalize)
    pairs = pair(predictions, references)
    empty = count_empty(
        pairs,
        lambda text: not _tokens(text, normalize),
        advice='Set normalize="blanks", or remove the example.',
    )
    rows = [
        (max(_f1(_tokens(text, normalize), _tokens(right, normalize)) for right in rights), 1.0)
        for text, rights in zip(pairs.predictions, pairs.references, strict=True)
    ]
    return _mean(rows, f"token_f1|normalize:{normalize}", empty)


def _mean(rows: Sequence[Sequence[float]], signature: str, empty: int) -> Statistics:
    return Statistics(
        rows=rows,
        value=ratio_percent,
        is_ratio=True,
        per_example=True,
        signature=signature,
        empty_predictions=empty,
    )


def _check(normalize: str) -> None:
    if normalize not in ("blanks", "squad"):
        raise SettingError(
            f"There is no normalization {normalize!r}. Allowed: blanks, squad.",
            field="normalize",
            found=normalize,
            allowed=("blanks", "squad"),
            suggestion="blanks",
        )


def _tokens(text: str, normalize: str) -> list[str]:
    if normalize == "squad":
        text = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    return text.split()


def _f1(prediction: list[str], reference: list[str]) -> float:
    shared = sum((Counter(prediction) & Counter(reference)).values())
    return 2.0 * shared / (len(prediction) + len(reference))
