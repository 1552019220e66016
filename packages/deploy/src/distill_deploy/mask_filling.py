"""Filling masks with an export, without torch: what the backends share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distill_deploy.errors import ArgumentError
from distill_deploy.tokens import batches, padded, read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Fill:
    """A candidate for one mask: its text, its id and its probability."""

    token: str
    token_id: int
    probability: float


class MaskFiller(ABC):
    """A masked model that runs without torch; each backend is a class derived from it.

    Attributes:
        task: "masked".
        tokenizer: The tokenizer of the export.
    """

    task: Literal["masked"] = "masked"

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.tokenizer = read_tokenizer(folder)
        self._facts = facts

    @property
    def roundings(self) -> list[str]:
        """Where the backend computes in less than float32 without being asked to; most never do."""
        return []

    @abstractmethod
    def logits(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Scores of every token at every position, ``(batch, longest row, vocab)``."""

    def _feed(self, rows: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Those inputs of a model that are named, filled up to the longest row."""
        ids, attention = padded(rows, self._facts["pad_token_id"] or 0)
        feed = {"input_ids": ids, "attention_mask": attention, "token_type_ids": np.zeros_like(ids)}
        return {name: feed[name] for name in names}

    def encode(self, text: str) -> list[int]:
        """Ids of a text, special tokens included."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def fill(
        self, texts: Sequence[str], *, top_k: int = 1, batch_size: int = 32
    ) -> list[list[tuple[Fill, ...]]]:
        """The ``top_k`` most likely tokens, best first, for every mask of every text.

        Raises:
            ArgumentError: ``top_k`` or ``batch_size`` is not positive, or a text has no mask.
        """
        for name, value in (("top_k", top_k), ("batch_size", batch_size)):
            if value < 1:
                raise ArgumentError(
                    f"{name} must be at least 1, not {value}", field=name, found=value, suggestion=1
                )
        rows = [self.encode(text) for text in texts]
        mask = self._facts["mask_token_id"]
        for text, row in zip(texts, rows, strict=True):
            if mask not in row:
                raise ArgumentError(
                    f"the text {text!r} has no {self.tokenizer.id_to_token(mask)} to fill",
                    field="texts",
                    found=text,
                )
        results: list[list[tuple[Fill, ...]]] = [[] for _ in rows]
        for batch in batches([len(row) for row in rows], batch_size, equal=False):
            scores = self.logits([rows[number] for number in batch])
            for number, row_scores in zip(batch, scores, strict=True):
                places = [place for place, token in enumerate(rows[number]) if token == mask]
                results[number] = [self._best(row_scores[place], top_k) for place in places]
        return results

    def _best(self, scores: NDArray[np.float32], top_k: int) -> tuple[Fill, ...]:
        weights = np.exp(scores.astype(np.float64) - scores.max())
        weights /= weights.sum()
        order = np.argsort(-weights, kind="stable")[:top_k]
        return tuple(Fill(self.tokenizer.decode([int(i)]), int(i), float(weights[i])) for i in order)

    def complete(self, texts: Sequence[str], *, batch_size: int = 32) -> list[str]:
        """Each text with every mask replaced by its most likely token."""
        mask = self._facts["mask_token_id"]
        completed = []
        for text, fills in zip(texts, self.fill(texts, batch_size=batch_size), strict=True):
            best = iter(fills)
            ids = [next(best)[0].token_id if token == mask else token for token in self.encode(text)]
            completed.append(self.tokenizer.decode(ids, skip_special_tokens=True))
        return completed

    def answer(
        self,
        texts: Sequence[str],
        *,
        max_new_tokens: int | None = None,
        beams: int = 1,
        batch_size: int = 32,
    ) -> list[str]:
        """The answer to each of ``texts``, in their order, whatever the task: here the text with its masks filled.

        Args:
            texts: Texts with at least one mask each.
            max_new_tokens: Accepted for the other tasks; filling adds no tokens.
            beams: Accepted for the other tasks; filling searches no beams.
            batch_size: Most texts computed together.

        Raises:
            ArgumentError: A text has no mask.
        """  # noqa: E501
        del max_new_tokens, beams
        return self.complete(texts, batch_size=batch_size)
