"""The metric ``length_ratio``: words of the predictions for each word of the references."""

from collections.abc import Sequence

from distill_metrics import TextMetric


def count_words(prediction: str, references: Sequence[str]) -> tuple[int, int]:
    """Words of the prediction, and words of the first reference."""
    return len(prediction.split()), max(1, len(references[0].split()))


LENGTH_RATIO = TextMetric(counts=count_words, unit="ratio")
