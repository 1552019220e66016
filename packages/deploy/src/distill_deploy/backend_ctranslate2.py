"""Causal and seq2seq exports in CTranslate2, whose library owns the loop."""

from __future__ import annotations

import json
import secrets
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from distill_deploy.errors import MissingExtraError
from distill_deploy.generation import Decoding, TextGenerator
from distill_deploy.tokens import Pieces

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class CTranslate2Generator(TextGenerator):
    """A causal or seq2seq model in CTranslate2."""

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None = None
    ) -> None:
        try:
            import ctranslate2
        except ImportError as error:
            raise MissingExtraError(
                "this export needs ctranslate2: pip install 'distill-deploy[ctranslate2]'",
                extra="ctranslate2",
            ) from error
        super().__init__(folder, facts)
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

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Ids as the texts of the vocabulary, which CTranslate2 takes."""
        return [self.vocabulary[number] for number in ids]

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

    def _compute(
        self, prompts: list[list[int]], limit: int, decoding: Decoding, stop: Sequence[str]
    ) -> list[list[int]]:
        options = {**self._options(limit), **self._chosen(decoding), **self._stopping(stop, decoding)}
        found = self._run([self.tokens(prompt) for prompt in prompts], options)
        return [[self._ids[token] for token in tokens] for tokens in found]

    def _steps(self, prompt: list[int], limit: int, decoding: Decoding) -> Generator[int, None, None]:
        options = {**self._options(limit), **self._chosen(decoding)}
        del options["beam_size"]
        if self.task == "seq2seq":
            options["target_prefix"] = self._prefix() or None
        steps = self.backend.generate_tokens(self.tokens(prompt), **options)
        try:
            for step in steps:
                yield step.token_id
        finally:
            steps.close()

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

    def _chosen(self, decoding: Decoding) -> dict[str, object]:
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
