"""What BERTScore computes for one pair of encoded texts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import log
from typing import TYPE_CHECKING

from distill_metrics.encoder import Encoded, Encoder

if TYPE_CHECKING:
    import torch

Scores = tuple[float, float, float]
"""Precision, recall and F1, each at most 1."""


def match(
    said: Encoded, right: Encoded, said_weights: "torch.Tensor", right_weights: "torch.Tensor"
) -> Scores:
    """Precision, recall and F1 of one pair, from its tokens and their weights, which sum to 1."""
    similarity = said.vectors @ right.vectors.T
    precision = float(similarity.amax(dim=1) @ said_weights)
    recall = float(similarity.amax(dim=0) @ right_weights)
    both = precision + recall
    return precision, recall, 2.0 * precision * recall / both if both else 0.0


def token_weights(text: Encoded, encoder: Encoder, idf: Mapping[int, float] | None) -> "torch.Tensor | None":
    """Weights ``(tokens,)`` that sum to 1, or None where no token counts.

    Args:
        text: What is weighed.
        encoder: Its special tokens count for nothing; others may still be matched with them.
        idf: Weight of each id, as :func:`inverse_frequencies` gives it; None weighs all alike.
    """
    import torch

    if idf is None:
        weights = [float(i not in encoder.special_ids) for i in text.ids]
    else:
        weights = [idf[i] for i in text.ids]
    total = sum(weights)
    return torch.tensor(weights, device=text.vectors.device) / total if total > 0.0 else None


def inverse_frequencies(encoder: Encoder, references: Sequence[str]) -> Mapping[int, float]:
    """``log((n + 1) / (c + 1))`` for an id that occurs in ``c`` of the ``n`` references."""
    n = len(references)
    counts = Counter(i for ids in encoder.tokenize(references) for i in set(ids))
    found: defaultdict[int, float] = defaultdict(lambda: log(n + 1))
    found.update({i: log((n + 1) / (count + 1)) for i, count in counts.items()})
    return found
