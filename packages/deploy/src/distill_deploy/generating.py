"""Generating text with an export, without torch: the backend's library owns the loop."""

from __future__ import annotations

import json
import secrets
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distill_deploy.errors import MissingExtraError
from distill_deploy.tokens import Pieces, batches, cut_at, read_tokenizer, render_chat

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_NEW_TOKENS = 64
Message = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How to choose tokens. ``temperature`` 0 is greedy, or beam search with ``beams`` above 1.

    Raises:
        ValueError: A number is out of its range, or beams are asked for with sampling.
    """

    beams: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range, or contradicts itself."""
        if self.beams < 1:
            raise ValueError(f"beams must be at least 1, not {self.beams}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 (greedy) or more, not {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all tokens) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.beams > 1 and self.temperature > 0:
            raise ValueError(
                "beams choose the likeliest text and a temperature draws one; ask for one of both"
            )
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            raise ValueError("top_k and top_p are for sampling; set a temperature above 0 as well")


class TextGenerator:
    """A causal or seq2seq model in CTranslate2."""

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None = None
    ) -> None:
        try:
            import ctranslate2
        except ImportError as error:
            raise MissingExtraError(
                "this export needs ctranslate2: pip install 'distill-deploy[ctranslate2]'"
            ) from error
        self.task: Literal["causal", "seq2seq"] = facts["task"]
        self.tokenizer = read_tokenizer(folder)
        self._folder, self._facts = folder, facts
        name = "shared_vocabulary.json" if self.task == "seq2seq" else "vocabulary.json"
        self.vocabulary: list[str] = json.loads((folder / name).read_bytes())
        self._ids = {token: number for number, token in enumerate(self.vocabulary)}
        # It seeds the threads that a backend starts, and only then; without a seed, not with an earlier one.
        ctranslate2.set_random_seed(secrets.randbits(31) if seed is None else seed)
        loader = ctranslate2.Translator if self.task == "seq2seq" else ctranslate2.Generator
        backend = loader(
            str(folder),
            device="cpu",
            inter_threads=1,
            intra_threads=threads,
            compute_type=facts.get("compute", "default"),
        )
        # A backend that streamed and is alive when the interpreter ends aborts the process: drop it before.
        self._backend = [backend]
        self._finalizer = weakref.finalize(self, self._backend.clear)

    @property
    def backend(self) -> Any:
        """The CTranslate2 ``Translator`` or ``Generator``."""
        return self._backend[0]

    @property
    def defaults(self) -> Mapping[str, object]:
        """The model's own generation defaults, as its folder carried them: num_beams, temperature, ..."""
        defaults: Mapping[str, object] = self._facts["generation"]
        return defaults

    def encode(self, text: str) -> list[int]:
        """Ids of a source or prompt, special tokens included as the tokenizer adds them.

        Raises:
            ValueError: The text has no tokens and the tokenizer no beginning token.
        """
        ids: list[int] = self.tokenizer.encode(text).ids
        if not ids:
            if self._facts["bos_token_id"] is None:
                raise ValueError(
                    f"the text {text!r} has no tokens; give at least one that the tokenizer knows"
                )
            ids = [self._facts["bos_token_id"]]
        if self.task == "causal" and len(ids) > 1 and ids[-1] in self._facts["eos_token_ids"]:
            del ids[-1]  # some tokenizers append the end, after which nothing continues
        return ids

    def chat_prompt(self, messages: Sequence[Message]) -> str:
        """The text that the export's chat template makes of messages, ready for an answer.

        Raises:
            ValueError: There is no chat template, or it refuses these messages.
        """
        return render_chat(self._folder, messages, self._facts["special_tokens"])

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Ids as the texts of the vocabulary, which CTranslate2 takes."""
        return [self.vocabulary[number] for number in ids]

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
            temperature: 0 takes the likeliest token; above, tokens are drawn from the scores over it.
            top_k: Draw from so many likeliest tokens; 0 from all.
            top_p: Draw from the likeliest tokens that together have this probability.
            stop: Texts at which an output ends; they are left out.

        Raises:
            ValueError: A number is out of its range, or a text has no tokens.
        """
        decoding = Decoding(beams=beams, temperature=temperature, top_k=top_k, top_p=top_p)
        prompts = [self.encode(text) for text in texts]
        return self._texts(prompts, max_new_tokens, batch_size, decoding, stop)

    def chat(self, messages: Sequence[Message], *, max_new_tokens: int | None = None, **decoding: Any) -> str:
        """The answer to a conversation; ``decoding`` as for :meth:`generate`, ``stop`` too.

        Raises:
            ValueError: As :meth:`chat_prompt` and :meth:`generate`.
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
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        results: list[list[int]] = [[] for _ in prompts]
        for rows in batches([len(prompt) for prompt in prompts], batch_size, equal=self.task == "causal"):
            options = {**self._options(limit), **self._choosing(decoding), **self._stopping(stop, decoding)}
            batch = [self.tokens(prompts[row]) for row in rows]
            for row, tokens in zip(rows, self._run(batch, options), strict=True):
                results[row] = [self._ids[token] for token in tokens]
        return results

    def forced_logits(self, prompt: Sequence[int], ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits that predict each of ``ids`` after ``prompt``, ``(len(ids), vocab)``: teacher forcing."""
        if self.task == "causal":
            view = self.backend.forward_batch([[*prompt, *ids[:-1]]])
            logits: NDArray[np.float32] = np.array(view)[0, len(prompt) - 1 :]
            return logits
        found = self.backend.translate_batch(
            [self.tokens(prompt)],
            target_prefix=[self.tokens(ids[:-1])],
            beam_size=1,
            max_decoding_length=len(ids),
            min_decoding_length=0,
            max_input_length=0,
            return_logits_vocab=True,
            return_end_token=True,
        )
        return np.stack([np.array(row) for row in found[0].logits[0]])

    def _limit(self, max_new_tokens: int | None) -> int:
        limit = (
            self._facts.get("max_new_tokens", MAX_NEW_TOKENS) if max_new_tokens is None else max_new_tokens
        )
        if limit < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {limit}")
        return int(limit)

    def _options(self, limit: int) -> dict[str, object]:
        defaults = self._facts["generation"]
        options: dict[str, object] = {
            "repetition_penalty": float(defaults["repetition_penalty"]),
            "no_repeat_ngram_size": int(defaults["no_repeat_ngram_size"]),
        }
        suppressed = [[number] for number in self._facts["suppress_token_ids"]]
        if suppressed:
            options["suppress_sequences"] = [self.tokens(ids) for ids in suppressed]
        if self._facts["eos_token_ids"]:
            options["end_token"] = list(self._facts["eos_token_ids"])
        least = min(int(defaults["min_new_tokens"]), limit)
        if self.task == "causal":
            return {**options, "max_length": limit, "min_length": least}
        return {
            **options,
            "max_decoding_length": limit,
            "min_decoding_length": least,
            "max_input_length": 0,
        }

    def _choosing(self, decoding: Decoding) -> dict[str, object]:
        if decoding.beams > 1:
            return {
                "beam_size": decoding.beams,
                "length_penalty": float(self._facts["generation"]["length_penalty"]),
            }
        if decoding.temperature == 0:
            return {"beam_size": 1}
        return {
            "beam_size": 1,
            "sampling_temperature": decoding.temperature,
            "sampling_topk": decoding.top_k,
            "sampling_topp": decoding.top_p,
        }

    def _stopping(self, stop: Sequence[str], decoding: Decoding) -> dict[str, object]:
        """End a row once a stop text stands in it; beam search has to finish, and is cut afterwards."""
        if not stop or decoding.beams > 1:
            return {}
        rows: dict[int, Pieces] = {}

        def stopped(step: Any) -> bool:
            pieces = rows.setdefault(step.batch_id, Pieces(self.decode, stop))
            pieces.add(step.token_id)
            return pieces.done

        return {"callback": stopped}

    def _prefix(self) -> list[str]:
        forced = self._facts["forced_bos_token_id"]
        return [] if forced is None else self.tokens([forced])

    def _run(self, batch: list[list[str]], options: Mapping[str, object]) -> list[list[str]]:
        if self.task == "causal":
            found = self.backend.generate_batch(batch, include_prompt_in_result=False, **options)
            return [result.sequences[0] for result in found]
        prefix = self._prefix()
        found = self.backend.translate_batch(
            batch, target_prefix=[prefix for _ in batch] if prefix else None, **options
        )
        return [result.hypotheses[0] for result in found]

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
        options = {**self._options(self._limit(max_new_tokens)), **self._choosing(decoding)}
        del options["beam_size"]
        if self.task == "seq2seq":
            options["target_prefix"] = self._prefix() or None
        pieces = Pieces(self.decode, stop)
        steps = self.backend.generate_tokens(self.tokens(self.encode(text)), **options)
        for step in steps:
            piece = pieces.add(step.token_id)
            if piece:
                yield piece
            if pieces.done:
                steps.close()
                return
        rest = pieces.rest()
        if rest:
            yield rest
