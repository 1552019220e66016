"""Running an export without torch: the backend generates, ``tokenizers`` reads and writes text."""

from __future__ import annotations

import json
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distill_deploy.errors import IntegrityError, MissingExtraError
from distill_deploy.verification import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

RUNTIME_FILE = "runtime.json"
MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class Fill:
    """A candidate for one mask: its text, its id and its probability."""

    token: str
    token_id: int
    probability: float


def load_runtime(folder: Path | str, *, threads: int | None = None) -> TextGenerator | MaskFiller:
    """Verify an exported folder and load it with the backend it was made for.

    Args:
        folder: What :func:`distill_deploy.export` wrote.
        threads: Threads to compute with; None takes every usable core.

    Raises:
        IntegrityError: The folder is no export, or not what its manifest says.
        MissingExtraError: The backend is not installed; the message names the extra.
    """
    root = Path(folder)
    verify(root)
    try:
        facts = json.loads((root / RUNTIME_FILE).read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{root}: {RUNTIME_FILE} is missing, so this is no exported model; make one with distill-export"
        ) from error
    count = threads or _usable_cores()
    if facts["task"] == "masked":
        return MaskFiller(root, facts, threads=count)
    return TextGenerator(root, facts, threads=count)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class TextGenerator:
    """A causal or seq2seq model in CTranslate2, which owns the generation loop."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, threads: int) -> None:
        try:
            import ctranslate2
        except ImportError as error:
            raise MissingExtraError(
                "this export needs ctranslate2: pip install 'distill-deploy[ctranslate2]'"
            ) from error
        self.task: Literal["causal", "seq2seq"] = facts["task"]
        self.tokenizer = _tokenizer(folder)
        self._facts = facts
        name = "shared_vocabulary.json" if self.task == "seq2seq" else "vocabulary.json"
        self.vocabulary: list[str] = json.loads((folder / name).read_bytes())
        self._ids = {token: number for number, token in enumerate(self.vocabulary)}
        loader = ctranslate2.Translator if self.task == "seq2seq" else ctranslate2.Generator
        backend = loader(str(folder), device="cpu", inter_threads=1, intra_threads=threads)
        # A backend that streamed and is alive when the interpreter ends aborts the process: drop it before.
        self._backend = [backend]
        self._finalizer = weakref.finalize(self, self._backend.clear)

    @property
    def backend(self) -> Any:
        """The CTranslate2 ``Translator`` or ``Generator``."""
        return self._backend[0]

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
    ) -> list[str]:
        """Generated text for each of ``texts``, in their order; a prompt is not repeated.

        Args:
            texts: Sources or prompts.
            max_new_tokens: Most tokens to add to each; None takes what the export was made with.
            beams: 1 is greedy; more is beam search that stops early.
            batch_size: Most texts computed together.

        Raises:
            ValueError: A number is not positive, or a text has no tokens.
        """
        ids = self.generate_ids(
            [self.encode(text) for text in texts],
            max_new_tokens=max_new_tokens,
            beams=beams,
            batch_size=batch_size,
        )
        return [self.decode(row) for row in ids]

    def generate_ids(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | None = None,
        beams: int = 1,
        batch_size: int = 32,
    ) -> list[list[int]]:
        """As :meth:`generate`, from ids to ids; the end token is left out."""
        limit = self._limit(max_new_tokens)
        for name, value in {"beams": beams, "batch_size": batch_size}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        results: list[list[int]] = [[] for _ in prompts]
        for rows in _batches([len(prompt) for prompt in prompts], batch_size, equal=self.task == "causal"):
            batch = [self.tokens(prompts[row]) for row in rows]
            for row, tokens in zip(rows, self._run(batch, limit=limit, beams=beams), strict=True):
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

    def _options(self) -> dict[str, object]:
        options: dict[str, object] = {"repetition_penalty": float(self._facts["repetition_penalty"])}
        if self._facts["suppress_token_ids"]:
            options["suppress_sequences"] = [[t] for t in self.tokens(self._facts["suppress_token_ids"])]
        if self._facts["eos_token_ids"]:
            options["end_token"] = list(self._facts["eos_token_ids"])
        return options

    def _prefix(self) -> list[str]:
        forced = self._facts["forced_bos_token_id"]
        return [] if forced is None else self.tokens([forced])

    def _run(self, batch: list[list[str]], *, limit: int, beams: int) -> list[list[str]]:
        options = self._options()
        if self.task == "causal":
            found = self.backend.generate_batch(
                batch, beam_size=beams, max_length=limit, include_prompt_in_result=False, **options
            )
            return [result.sequences[0] for result in found]
        prefix = self._prefix()
        found = self.backend.translate_batch(
            batch,
            target_prefix=[prefix for _ in batch] if prefix else None,
            beam_size=beams,
            max_decoding_length=limit,
            min_decoding_length=0,
            max_input_length=0,
            **options,
        )
        return [result.hypotheses[0] for result in found]

    def stream(self, text: str, *, max_new_tokens: int | None = None) -> Iterator[str]:
        """Yield the greedy continuation of ``text`` piece by piece; joined they are what generate gives."""
        prompt, limit, options = self.tokens(self.encode(text)), self._limit(max_new_tokens), self._options()
        if self.task == "causal":
            steps = self.backend.generate_tokens(prompt, max_length=limit, **options)
        else:
            steps = self.backend.generate_tokens(
                prompt,
                target_prefix=self._prefix() or None,
                max_decoding_length=limit,
                min_decoding_length=0,
                **options,
            )
        ids: list[int] = []
        shown = ""
        for step in steps:
            ids.append(step.token_id)
            whole = self.decode(ids)
            if whole.startswith(shown) and not whole.endswith("\N{REPLACEMENT CHARACTER}"):
                if whole != shown:
                    yield whole[len(shown) :]
                shown = whole


class MaskFiller:
    """A masked model in onnxruntime: one pass, no loop."""

    task: Literal["masked"] = "masked"

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(
                "this export needs onnxruntime: pip install 'distill-deploy[onnx]'"
            ) from error
        self.tokenizer = _tokenizer(folder)
        self._facts = facts
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def logits(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Scores of every token at every position, ``(batch, longest row, vocab)``."""
        longest = max(map(len, rows))
        ids = np.full((len(rows), longest), self._facts["pad_token_id"] or 0, np.int64)
        attention = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            attention[number, : len(row)] = 1
        feed = {"input_ids": ids, "attention_mask": attention, "token_type_ids": np.zeros_like(ids)}
        scores: NDArray[np.float32] = self._session.run(
            ["logits"], {name: feed[name] for name in self._inputs}
        )[0]
        return scores

    def encode(self, text: str) -> list[int]:
        """Ids of a text, special tokens included."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def fill(
        self, texts: Sequence[str], *, top_k: int = 1, batch_size: int = 32
    ) -> list[list[tuple[Fill, ...]]]:
        """The ``top_k`` likeliest tokens, best first, for every mask of every text.

        Raises:
            ValueError: ``top_k`` is not positive, or a text has no mask.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        rows = [self.encode(text) for text in texts]
        mask = self._facts["mask_token_id"]
        for text, row in zip(texts, rows, strict=True):
            if mask not in row:
                raise ValueError(f"the text {text!r} has no {self.tokenizer.id_to_token(mask)} to fill")
        results: list[list[tuple[Fill, ...]]] = [[] for _ in rows]
        for batch in _batches([len(row) for row in rows], batch_size, equal=False):
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
        """Each text with every mask replaced by its likeliest token."""
        mask = self._facts["mask_token_id"]
        completed = []
        for text, fills in zip(texts, self.fill(texts, batch_size=batch_size), strict=True):
            best = iter(fills)
            ids = [next(best)[0].token_id if token == mask else token for token in self.encode(text)]
            completed.append(self.tokenizer.decode(ids, skip_special_tokens=True))
        return completed


def _batches(lengths: Sequence[int], size: int, *, equal: bool) -> Iterator[list[int]]:
    """Row numbers in batches of like length; with ``equal`` a batch holds one length only.

    CTranslate2 counts the uneven ends of prompts as generated tokens, so prompts are never mixed.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda number: (lengths[number], number)):
        if batch and (len(batch) == size or (equal and lengths[row] != lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
