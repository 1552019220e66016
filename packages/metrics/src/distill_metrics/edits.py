"""Word, phoneme and character error rates: edits to the nearest reference."""

from collections.abc import Callable, Sequence

from distill_metrics.results import MetricResult, Reference, Statistics, ratio_percent, version_of
from distill_metrics.texts import count_empty, is_blank, pair

_UNITS: dict[str, str] = {"wer": "words", "per": "phonemes", "cer": "characters"}


def wer(predictions: Sequence[str], references: Sequence[Reference]) -> MetricResult:
    """Word error rate, in percent: edits to the nearest reference over the summed lengths of those chosen.

    Words are what stands between white space. Of several references the one with the fewest edits counts, of
    those with equally few the longest. Lower is better; predictions that are too long can exceed 100.

    Raises:
        ShapeError: Predictions and references do not pair up.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A reference is blank.

    Example:
        >>> from distill_metrics import wer
        >>> result = wer(["the cat sat", "a b"], ["the cat sat down", ["a c", "a b d"]])
        >>> round(result.value, 2), result.per_example[0]
        (28.57, 25.0)

    Source:
        Levenshtein 1966, unit costs, computed by rapidfuzz.
    """
    return edit_statistics("wer", predictions, references).result()


def per(predictions: Sequence[str], references: Sequence[Reference]) -> MetricResult:
    """Phoneme error rate: :func:`wer` where the blank-separated tokens are phonemes.

    Example:
        >>> from distill_metrics import per
        >>> per(["K AE T", "D AO G"], ["K AE T", "D AA G"]).value == 100 * 1 / 6
        True
    """
    return edit_statistics("per", predictions, references).result()


def cer(predictions: Sequence[str], references: Sequence[Reference]) -> MetricResult:
    """Character error rate: :func:`wer` over the code points of the text without white space at its ends.

    Example:
        >>> from distill_metrics import cer
        >>> cer(["colour"], ["color"]).value  # one edit of five characters
        20.0
    """
    return edit_statistics("cer", predictions, references).result()


def edit_statistics(name: str, predictions: Sequence[str], references: Sequence[Reference]) -> Statistics:
    """Edits and length of the chosen reference of each example. Raises as :func:`wer`."""
    pairs = pair(predictions, references)
    empty = count_empty(pairs, is_blank)
    split: Callable[[str], Sequence[str]] = str.strip if name == "cer" else str.split
    rows = [
        _nearest(split(text), [split(right) for right in rights])
        for text, rights in zip(pairs.predictions, pairs.references, strict=True)
    ]
    return Statistics(
        rows=rows,
        value=ratio_percent,
        is_ratio=True,
        per_example=True,
        signature=f"{name}|units:{_UNITS[name]}|nearest reference, ties to the longest|{_version()}",
        empty_predictions=empty,
    )


def _nearest(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, float]:
    from rapidfuzz.distance import Levenshtein

    candidates = ((Levenshtein.distance(prediction, right), -len(right)) for right in references)
    edits, negative_length = min(candidates)
    return float(edits), float(-negative_length)


def _version() -> str:
    return f"rapidfuzz:{version_of('rapidfuzz')}"
