"""Generating text with an export, without torch: what the backends share."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from distill_deploy.errors import ArgumentError
from distill_deploy.tokens import Pieces, batches, cut_at, read_tokenizer, render_chat

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

MAX_NEW_TOKENS = 64
Message = Mapping[str, object]


def at_least(name: str, value: float, least: int) -> None:
    """Refuse a value of an argument that is below the least one.

    Raises:
        ArgumentError: It is.
    """
    if value < least:
        raise ArgumentError(
            f"{name} must be at least {least}, not {value}", field=name, found=value, suggestion=least
        )


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        beams: Number of beams. 1 is greedy; more is beam search that stops early.
        temperature: Divides the scores before a token is drawn. 0 takes the most likely token.
        top_k: Number of most likely tokens to draw from. 0 draws from all of them.
        top_p: Probability that the most likely tokens to draw from have together.

    Raises:
        ArgumentError: A number is out of its range, or beams are asked for with sampling.
    """

    beams: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range, or contradicts itself."""
        at_least("beams", self.beams, 1)
        if self.temperature < 0:
            raise ArgumentError(
                f"temperature must be 0 (greedy) or more, not {self.temperature}",
                field="temperature", found=self.temperature, suggestion=0.0,
            )  # fmt: skip
        if self.top_k < 0:
            raise ArgumentError(
                f"top_k must be 0 (all tokens) or more, not {self.top_k}",
                field="top_k", found=self.top_k, suggestion=0,
            )  # fmt: skip
        if not 0 < self.top_p <= 1:
            raise ArgumentError(
                f"top_p must be above 0 and at most 1, not {self.top_p}",
                field="top_p", found=self.top_p, suggestion=1.0,
            )  # fmt: skip
        if self.beams > 1 and self.temperature > 0:
            raise ArgumentError(
                "beams choose the most likely text and a temperature draws one; ask for one of both",
                field="beams", found=self.beams, suggestion=1,
            )  # fmt: skip
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            raise ArgumentError(
                "top_k and top_p are for sampling; set a temperature above 0 as well",
                field="temperature", found=self.temperature, suggestion=1.0,
            )  # fmt: skip


class TextGenerator(ABC):
    """A causal or seq2seq model that runs without torch; each backend is a class derived from it."""

    lacks: ClassVar[
        Mapping[str, str]
    ] = {}  # what its backend cannot do: the option, and what there is instead

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.task: Literal["causal", "seq2seq"] = facts["task"]
        self.tokenizer = read_tokenizer(folder)
        self._folder, self._facts = folder, facts

    @property
    def roundings(self) -> list[str]:
        """Where the backend computes in less than float32 without being asked to; most never do."""
        return []

    @abstractmethod
    def forced_logits(self, prompt: Sequence[int], ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits that predict each of ``ids`` after ``prompt``, ``(len(ids), vocab)``: teacher forcing."""

    @abstractmethod
    def _compute(
        self, prompts: list[list[int]], limit: int, decoding: Decoding, stop: Sequence[str], /
    ) -> list[list[int]]:
        """Generated ids, without the end token, of prompts that are computed together."""

    @abstractmethod
    def _steps(self, prompt: list[int], limit: int, decoding: Decoding, /) -> Generator[int, None, None]:
        """Generated ids one by one; closing the iterator stops the work."""

    @property
    def defaults(self) -> Mapping[str, object]:
        """The model's own generation defaults, as its folder carried them: num_beams, temperature, ..."""
        defaults: Mapping[str, object] = self._facts["generation"]
        return defaults

    def encode(self, text: str) -> list[int]:
        """Ids of a source or prompt, special tokens included as the tokenizer adds them.

        Raises:
            ArgumentError: The text has no tokens and the tokenizer no beginning token.
        """
        ids: list[int] = self.tokenizer.encode(text).ids
        if not ids:
            if self._facts["bos_token_id"] is None:
                raise ArgumentError(
                    f"the text {text!r} has no tokens; give at least one that the tokenizer knows",
                    field="texts", found=text,
                )  # fmt: skip
            ids = [self._facts["bos_token_id"]]
        if self.task == "causal" and len(ids) > 1 and ids[-1] in self._facts["eos_token_ids"]:
            del ids[-1]  # some tokenizers append the end, after which nothing continues
        return ids

    def chat_prompt(self, messages: Sequence[Message]) -> str:
        """The text that the export's chat template makes of messages, ready for an answer.

        Raises:
            ArgumentError: There is no chat template, or it refuses these messages.
        """
        return render_chat(self._folder, messages, self._facts["special_tokens"])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def generate(
        self,
        texts: Sequence[str],
        *,
        max_new_tokens: int | None = None,
        beams: int = 1,
        batch_size: int = 32,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
    ) -> list[str]:
        """Generated text for each of ``texts``, in their order; a prompt is not repeated.

        Args:
            texts: Sources or prompts.
            max_new_tokens: Most tokens to add to each; None takes what the export was made with.
            beams: 1 is greedy; more is beam search that stops early.
            batch_size: Most texts computed together.
            temperature: 0 takes the most likely token; above, tokens are drawn from the scores over it.
            top_k: Draw from so many most likely tokens; 0 from all.
            top_p: Draw from the most likely tokens that together have this probability.
            stop: Texts at which an output ends; they are left out.

        Raises:
            ArgumentError: A number is out of its range, or a text has no tokens.
        """
        decoding = Decoding(beams=beams, temperature=temperature, top_k=top_k, top_p=top_p)
        prompts = [self.encode(text) for text in texts]
        return self._texts(prompts, max_new_tokens, batch_size, decoding, stop)

    def answer(
        self,
        texts: Sequence[str],
        *,
        max_new_tokens: int | None = None,
        beams: int = 1,
        batch_size: int = 32,
    ) -> list[str]:
        """The answer to each of ``texts``, in their order, whatever the task: here the generated text.

        Args:
            texts: Sources or prompts.
            max_new_tokens: Most tokens to add to each; None takes what the export was made with.
            beams: 1 is greedy; more is beam search that stops early.
            batch_size: Most texts computed together.

        Raises:
            ArgumentError: As :meth:`generate`.
        """
        return self.generate(texts, max_new_tokens=max_new_tokens, beams=beams, batch_size=batch_size)

    def chat(self, messages: Sequence[Message], *, max_new_tokens: int | None = None, **decoding: Any) -> str:
        """The answer to a conversation; ``decoding`` as for :meth:`generate`, ``stop`` too.

        Raises:
            ArgumentError: As :meth:`chat_prompt` and :meth:`generate`.
        """
        stop = decoding.pop("stop", ())
        prompt = self.tokenizer.encode(self.chat_prompt(messages), add_special_tokens=False).ids
        return self._texts([prompt], max_new_tokens, 1, Decoding(**decoding), stop)[0]

    def _texts(
        self,
        prompts: list[list[int]],
        max_new_tokens: int | None,
        batch_size: int,
        decoding: Decoding,
        stop: Sequence[str],
    ) -> list[str]:
        rows = self._generate(prompts, max_new_tokens, batch_size, decoding, stop)
        return [cut_at(self.decode(row), stop) for row in rows]

    def generate_ids(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | None = None,
        beams: int = 1,
        batch_size: int = 32,
    ) -> list[list[int]]:
        """As :meth:`generate`, from ids to ids; the end token is left out."""
        return self._generate(prompts, max_new_tokens, batch_size, Decoding(beams=beams), ())

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int | None,
        batch_size: int,
        decoding: Decoding,
        stop: Sequence[str],
    ) -> list[list[int]]:
        limit = self._limit(max_new_tokens)
        self._refuse(decoding)
        at_least("batch_size", batch_size, 1)
        results: list[list[int]] = [[] for _ in prompts]
        for rows in batches([len(prompt) for prompt in prompts], batch_size, equal=self.task == "causal"):
            batch = [list(prompts[row]) for row in rows]
            for row, ids in zip(rows, self._compute(batch, limit, decoding, stop), strict=True):
                results[row] = ids
        return results

    def _refuse(self, decoding: Decoding) -> None:
        """Say what the backend cannot do, before anything is computed."""
        asked = {"beams": decoding.beams > 1, "temperature": decoding.temperature > 0}
        for name, instead in self.lacks.items():
            if asked[name]:
                raise ArgumentError(
                    f"{name} was asked for, and this export's backend has none; it has {instead}",
                    field=name, found=getattr(decoding, name), suggestion=getattr(Decoding(), name),
                )  # fmt: skip

    def _limit(self, max_new_tokens: int | None) -> int:
        limit = (
            self._facts.get("max_new_tokens", MAX_NEW_TOKENS) if max_new_tokens is None else max_new_tokens
        )
        at_least("max_new_tokens", limit, 1)
        return int(limit)

    def stream(
        self,
        text: str,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
    ) -> Iterator[str]:
        """Yield the continuation of ``text`` piece by piece; joined they are what :meth:`generate` gives."""
        decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
        self._refuse(decoding)
        pieces = Pieces(self.decode, stop)
        steps = self._steps(self.encode(text), self._limit(max_new_tokens), decoding)
        with contextlib.closing(steps):
            for token in steps:
                piece = pieces.add(token)
                if piece:
                    yield piece
                if pieces.done:
                    return
        rest = pieces.rest()
        if rest:
            yield rest
