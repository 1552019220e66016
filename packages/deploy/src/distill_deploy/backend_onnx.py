"""Exports in onnxruntime: one greedy loop over an encoder and a merged decoder, or one pass over masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from distill_deploy.errors import MissingExtraError
from distill_deploy.generation import Decoding, TextGenerator
from distill_deploy.mask_filling import MaskFiller
from distill_deploy.tokens import Pieces, padded

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ENCODER, DECODER = "encoder_model.onnx", "decoder_model_merged.onnx"
_GREEDY = "greedy decoding, stop texts, streams and batches"


@dataclass
class _State:
    """What the decoder is fed beside the next ids; ``past`` grows by a position a step."""

    hidden: NDArray[np.float32]  # (batch, source, width)
    mask: NDArray[np.int64]  # (batch, source)
    past: dict[str, NDArray[np.float32]]
    begun: bool = False


class OnnxTranslator(TextGenerator):
    """A seq2seq model that Optimum exported, in onnxruntime, which has no loop of its own."""

    lacks: ClassVar[Mapping[str, str]] = {"beams": _GREEDY, "temperature": _GREEDY}

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, threads: int) -> None:
        super().__init__(folder, facts)
        self._encoder = open_session(folder / ENCODER, threads)
        self._decoder = open_session(folder / DECODER, threads)
        names = [entry.name for entry in self._decoder.get_outputs()]
        self._presents = [name for name in names if name.startswith("present")]
        self._outputs = ["logits", *self._presents]
        self._shapes = {
            entry.name: entry.shape
            for entry in self._decoder.get_inputs()
            if entry.name.startswith("past_key_values")
        }

    def forced_logits(self, prompt: Sequence[int], ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits that predict each of ``ids``, step by step through the cache as generating does."""
        state = self._encode([list(prompt)])
        fed = [self._facts["decoder_start_token_id"], *ids[:-1]]
        return np.concatenate([self._advance(state, [token]) for token in fed])

    def _compute(
        self, prompts: list[list[int]], limit: int, _decoding: Decoding, stop: Sequence[str]
    ) -> list[list[int]]:
        rows: list[list[int]] = [[] for _ in prompts]
        pieces = [Pieces(self.decode, stop) for _ in prompts] if stop else []
        open_rows = set(range(len(prompts)))
        for column in self._columns(prompts, limit):
            for number in list(open_rows):
                token = column[number]
                if token in self._facts["eos_token_ids"]:
                    open_rows.discard(number)
                    continue
                rows[number].append(token)
                if pieces:
                    pieces[number].add(token)
                    if pieces[number].done:
                        open_rows.discard(number)
            if not open_rows:
                break
        return rows

    def _steps(self, prompt: list[int], limit: int, _decoding: Decoding) -> Generator[int, None, None]:
        for (token,) in self._columns([prompt], limit):
            if token in self._facts["eos_token_ids"]:
                return
            yield token

    def _columns(self, prompts: list[list[int]], limit: int) -> Generator[list[int], None, None]:
        """The most likely token of every row, step by step."""
        state = self._encode(prompts)
        forced, least = self._facts["forced_bos_token_id"], self._facts["generation"]["min_new_tokens"]
        column = [self._facts["decoder_start_token_id"]] * len(prompts)
        for step in range(limit):
            scores = self._advance(state, column)
            scores[:, self._facts["suppress_token_ids"]] = -np.inf
            if step < least:
                scores[:, self._facts["eos_token_ids"]] = -np.inf
            column = scores.argmax(-1).tolist() if step or forced is None else [forced] * len(prompts)
            yield column

    def _encode(self, prompts: list[list[int]]) -> _State:
        ids, mask = padded(prompts, self._facts["pad_token_id"] or 0)
        hidden = self._encoder.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": mask})[0]
        past = {
            name: np.zeros((len(prompts), shape[1], 1, shape[3]), np.float32)  # shapes that are not read yet
            for name, shape in self._shapes.items()
        }
        return _State(hidden, mask, past)

    def _advance(self, state: _State, column: Sequence[int]) -> NDArray[np.float32]:
        """Feed one more token of each row; the scores of the next, ``(batch, vocab)``."""
        found = self._decoder.run(
            self._outputs,
            {
                "input_ids": np.array(column, np.int64)[:, None],
                "encoder_hidden_states": state.hidden,
                "encoder_attention_mask": state.mask,
                "use_cache_branch": np.array([state.begun]),
                **state.past,
            },
        )
        for name, present in zip(self._presents, found[1:], strict=True):
            if not (state.begun and ".encoder." in name):  # computed once, and empty afterwards
                state.past[name.replace("present", "past_key_values")] = present
        state.begun = True
        scores: NDArray[np.float32] = found[0][:, -1]
        return scores


class OnnxFiller(MaskFiller):
    """A masked model in onnxruntime."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, threads: int) -> None:
        super().__init__(folder, facts)
        self._session = open_session(folder / "model.onnx", threads)
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def logits(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Scores of every token at every position, ``(batch, longest row, vocab)``."""
        return np.asarray(self._session.run(["logits"], self._feed(rows, self._inputs))[0])


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            "this export needs onnxruntime: pip install 'distill-deploy[onnx]'", extra="onnx"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
