"""Causal exports in openvino-genai, whose pipeline owns the loop, and OpenVINO itself for single passes."""

from __future__ import annotations

import queue
import secrets
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from distill_deploy.errors import MissingExtraError
from distill_deploy.generation import Decoding, TextGenerator
from distill_deploy.mask_filling import MaskFiller
from distill_deploy.tokens import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MODEL = "openvino_model.xml"
# Without them OpenVINO computes in bf16 where a CPU has it, and rounds the cache to 8 bits: other tokens.
EXACT: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}


class OpenVinoGenerator(TextGenerator):
    """A causal model that Optimum exported, in openvino-genai's ``LLMPipeline``."""

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None = None
    ) -> None:
        try:
            import openvino_genai
        except ImportError as error:
            raise missing() from error
        super().__init__(folder, facts)
        self._genai, self._threads = openvino_genai, threads
        self._seeds = np.random.default_rng(secrets.randbits(63) if seed is None else seed)
        self._pipeline = openvino_genai.LLMPipeline(
            str(folder), "CPU", **EXACT, INFERENCE_NUM_THREADS=threads
        )
        self._forced: Any = None

    def forced_logits(self, prompt: Sequence[int], ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits that predict each of ``ids``, by the same model outside the pipeline, which gives none.

        Through the cache, a token a step as in generating: one pass would not read what the cache rounds.
        """
        if self._forced is None:
            self._forced = compiled(self._folder, self._threads).create_infer_request()
        self._forced.reset_state()
        names = {name for entry in self._forced.model_inputs for name in entry.names}
        scores, end = [], 0
        for part in ([*prompt], *([token] for token in ids[:-1])):
            begin, end = end, end + len(part)
            feed = {
                "input_ids": np.array([part], np.int64),
                "attention_mask": np.ones((1, end), np.int64),
                "position_ids": np.arange(begin, end)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
            found = self._forced.infer({name: array for name, array in feed.items() if name in names})
            scores.append(np.array(found["logits"])[0, -1])
        return np.stack(scores)

    @property
    def roundings(self) -> list[str]:
        """Where OpenVINO does not compute in float32, as it says itself."""
        return roundings(
            compiled(self._folder, self._threads), ("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION")
        )

    def _compute(
        self, prompts: list[list[int]], limit: int, decoding: Decoding, stop: Sequence[str]
    ) -> list[list[int]]:
        if stop and decoding.beams == 1:
            return [self._until(prompt, limit, decoding, stop) for prompt in prompts]
        return self._run(prompts, self._configuration(limit, decoding))

    def _until(self, prompt: list[int], limit: int, decoding: Decoding, stop: Sequence[str]) -> list[int]:
        pieces, ids = Pieces(self.decode, stop), []
        for token in self._steps(prompt, limit, decoding):
            ids.append(token)
            pieces.add(token)
            if pieces.done:
                break
        return ids

    def _steps(self, prompt: list[int], limit: int, decoding: Decoding) -> Generator[int, None, None]:
        """The pipeline calls back with each token, so it works in a thread of its own."""
        came: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        stopped = threading.Event()
        streamer = _streamer(self._genai, came.put, stopped)
        configuration = self._configuration(limit, decoding)

        def work() -> None:
            try:
                self._run([prompt], configuration, streamer)
            except BaseException as error:  # noqa: BLE001 - raised again where the tokens are taken
                came.put(error)
            came.put(None)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (token := came.get()) is not None:
                if isinstance(token, BaseException):
                    raise token
                if token in self._facts["eos_token_ids"]:
                    break
                yield token
        finally:
            stopped.set()
            thread.join()

    def _run(self, prompts: list[list[int]], configuration: Any, streamer: Any = None) -> list[list[int]]:
        import openvino

        ids = np.array(prompts, np.int64)  # of one length
        inputs = self._genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        found = self._pipeline.generate(inputs, configuration, streamer)
        ends = self._facts["eos_token_ids"]
        return [[token for token in row if token not in ends] for row in found.tokens]

    def _configuration(self, limit: int, decoding: Decoding) -> Any:
        defaults, ends = self._facts["generation"], self._facts["eos_token_ids"]
        made = self._genai.GenerationConfig()
        made.max_new_tokens = limit
        made.min_new_tokens = min(int(defaults["min_new_tokens"]), limit)
        made.repetition_penalty = float(defaults["repetition_penalty"])
        made.apply_chat_template = False
        if defaults["no_repeat_ngram_size"]:
            made.no_repeat_ngram_size = int(defaults["no_repeat_ngram_size"])
        if ends:
            made.eos_token_id = ends[0]
            made.stop_token_ids = set(ends)
        if decoding.beams > 1:
            made.num_beams, made.num_return_sequences = decoding.beams, 1
            made.length_penalty = float(defaults["length_penalty"])
            made.stop_criteria = self._genai.StopCriteria.EARLY
        elif decoding.temperature > 0:
            made.do_sample, made.temperature = True, decoding.temperature
            made.top_p, made.rng_seed = decoding.top_p, int(self._seeds.integers(2**31))
            if decoding.top_k:
                made.top_k = decoding.top_k
        return made


class OpenVinoFiller(MaskFiller):
    """A masked model in OpenVINO."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, threads: int) -> None:
        super().__init__(folder, facts)
        self._model = compiled(folder, threads)
        self._inputs = [next(iter(entry.names)) for entry in self._model.inputs]

    @property
    def roundings(self) -> list[str]:
        """Where OpenVINO does not compute in float32, as it says itself."""
        return roundings(self._model, ("INFERENCE_PRECISION_HINT",))

    def logits(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Scores of every token at every position, ``(batch, longest row, vocab)``."""
        return np.array(self._model(self._feed(rows, self._inputs))["logits"])


def _streamer(genai: Any, put: Callable[[int], None], stopped: threading.Event) -> Any:
    """openvino-genai's base class must be there to derive from it, so the class is made here."""

    class Streamer(genai.StreamerBase):  # type: ignore[misc]  # the base class has no types
        def write(self, tokens: int | Sequence[int]) -> Any:
            for token in [tokens] if isinstance(tokens, int) else tokens:
                put(int(token))
            running, ended = genai.StreamingStatus.RUNNING, genai.StreamingStatus.CANCEL
            return ended if stopped.is_set() else running

        def end(self) -> None:
            pass

    return Streamer()


def compiled(folder: Path, threads: int) -> Any:
    """The OpenVINO model of an export, compiled to compute in float32.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise missing() from error
    return openvino.Core().compile_model(
        str(folder / MODEL), "CPU", {**EXACT, "INFERENCE_NUM_THREADS": threads}
    )


def roundings(model: Any, names: Sequence[str]) -> list[str]:
    """Properties of a compiled model that name another precision than float32."""
    import openvino

    found = {name: model.get_property(name) for name in names}
    return [f"{name} = {value.to_string()}" for name, value in found.items() if value != openvino.Type.f32]


def missing() -> MissingExtraError:
    """What to install for an OpenVINO export."""
    return MissingExtraError(
        "this export needs openvino-genai: pip install 'distill-deploy[openvino]'", extra="openvino"
    )
