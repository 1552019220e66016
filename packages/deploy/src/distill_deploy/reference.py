"""What the model itself does on the compared texts, recorded before anything is converted."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_deploy.errors import ExportError
from distill_deploy.tokens import batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from distill_deploy.source import Source

MIN_EXAMPLES = 64
MIN_POSITIONS = 2000
MIN_DISTINCT = 5  # a generation with fewer distinct tokens proves nothing
TIMED_EXAMPLES = 16


@dataclass(frozen=True)
class Recorded:
    """Rows of ids and the model's answers to them.

    ``answers`` are greedy continuations with their end token (causal, seq2seq), or the most likely token at
    each mask. ``logits`` holds, for as many first rows as MIN_POSITIONS needs, the scores that predict each
    id of the answer, ``(len(answer), vocab)``. ``beams`` are the outputs of beam search for the first rows,
    empty where the model's generation defaults search no beams; ``early`` are the same with early stopping.
    """

    rows: list[list[int]]
    answers: list[list[int]]
    logits: list[NDArray[np.float32]]
    beams: list[list[int]]
    early: list[list[int]]
    ms_per_example: float

    @property
    def counting(self) -> list[bool]:
        """Which answers are evidence: those of at least MIN_DISTINCT distinct tokens."""
        return [len(set(answer)) >= MIN_DISTINCT for answer in self.answers]


def made_rows(source: Source, *, seed: int = 0) -> list[list[int]]:
    """64 rows of random ordinary tokens, laid out as the tokenizer lays out a text."""
    generator = random.Random(seed)  # noqa: S311 - test material, no secret
    tokenizer = source.tokenizer
    special = set(tokenizer.all_special_ids)
    ordinary = [number for number in tokenizer.get_vocab().values() if number not in special]
    frame = list(tokenizer("").input_ids)
    first = [number for number in frame[:1] if len(frame) > 1 or number != tokenizer.eos_token_id]
    last = frame[len(first) :] if source.task != "causal" else []
    return [
        [*first, *generator.choices(ordinary, k=generator.randint(4, 12)), *last] for _ in range(MIN_EXAMPLES)
    ]


def text_rows(source: Source, texts: Sequence[str], ends: Sequence[int]) -> list[list[int]]:
    """Ids of texts by transformers' tokenizer; prompts lose the end token that some tokenizers append."""
    rows = []
    for text in texts:
        row = list(source.tokenizer(text).input_ids)
        if source.task == "causal" and len(row) > 1 and row[-1] in ends:
            row = row[:-1]  # nothing continues after the end
        if not row and source.tokenizer.bos_token_id is not None:
            row = [source.tokenizer.bos_token_id]
        if not row:
            raise ExportError(
                f"the held-out text {text!r} has no tokens; leave it out", field="held_out", found=text
            )
        rows.append(row)
    return rows


def mask_rows(
    rows: Sequence[Sequence[int]], *, mask: int, special: set[int], seed: int = 0
) -> list[list[int]]:
    """Rows with 15 % of their ordinary tokens masked, at least one; rows that hold a mask stay as they are."""  # noqa: E501
    generator = random.Random(seed)  # noqa: S311 - test material, no secret
    masked = []
    for row in rows:
        places = [place for place, token in enumerate(row) if token not in special]
        chosen = set(generator.sample(places, max(1, round(0.15 * len(places))))) if places else set()
        masked.append(
            list(row) if mask in row else [mask if place in chosen else t for place, t in enumerate(row)]
        )
    return [row for row in masked if mask in row]


def record_fills(model: PreTrainedModel, rows: list[list[int]], *, mask: int) -> Recorded:
    """Scores and most likely tokens of the model at every mask of ``rows``."""
    import torch

    logits, began = [], time.perf_counter()
    with torch.inference_mode():
        for row in rows:
            places = [place for place, token in enumerate(row) if token == mask]
            logits.append(model(input_ids=torch.tensor([row])).logits[0].float().numpy()[places])
    spent = time.perf_counter() - began
    answers = [scores.argmax(-1).tolist() for scores in logits]
    return Recorded(rows, answers, logits, [], [], 1000 * spent / max(len(rows), 1))


def record_generations(
    model: PreTrainedModel, rows: list[list[int]], facts: Mapping[str, object], limit: int
) -> Recorded:
    """Greedy answers of the model, its scores along them, its beams if it searches beams, and its speed."""
    limit = _room(model, rows, limit)
    answers: list[list[int]] = [[] for _ in rows]
    for numbers in batches([len(row) for row in rows], 32, equal=True):
        found = generate_torch(model, [rows[number] for number in numbers], facts, limit)
        for number, ids in zip(numbers, found, strict=True):
            answers[number] = ids
    logits: list[NDArray[np.float32]] = []
    for row, ids in zip(rows, answers, strict=True):
        if sum(map(len, logits)) >= MIN_POSITIONS:
            break
        logits.append(forced_torch(model, row, ids))
    few = rows[:TIMED_EXAMPLES]
    began = time.perf_counter()
    for row in few:
        generate_torch(model, [row], facts, limit)
    spent = time.perf_counter() - began
    beams = early = []
    defaults = facts["generation"]
    if isinstance(defaults, dict) and defaults["num_beams"] > 1:
        beams = [generate_torch(model, [row], facts, limit, beams=defaults["num_beams"])[0] for row in few]
        early = [
            generate_torch(model, [row], facts, limit, beams=defaults["num_beams"], early_stopping=True)[0]
            for row in few
        ]
    return Recorded(rows, answers, logits, beams, early, 1000 * spent / len(few))


def _room(model: PreTrainedModel, rows: Sequence[Sequence[int]], asked: int) -> int:
    """As many new tokens as the positions of the model leave room for."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:  # relative positions have no end
        return asked
    taken = 0 if model.config.is_encoder_decoder else max(map(len, rows))
    room = min(asked, int(positions) - taken)
    if room < 1:
        raise ExportError(
            f"a held-out text of {taken} tokens leaves no room in the model's {positions} positions"
        )
    return room


def generate_torch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    facts: Mapping[str, object],
    limit: int,
    **options: object,
) -> list[list[int]]:
    """Continuations of prompts of one length, greedy unless ``beams`` are named, the end token kept."""
    import torch

    ids = torch.tensor([list(prompt) for prompt in prompts])
    suppressed, ends = facts["suppress_token_ids"], facts["eos_token_ids"]
    with torch.inference_mode():
        output = model.generate(  # type: ignore[operator]  # transformers types the mixin's method as a Tensor
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            do_sample=False,
            num_beams=options.pop("beams", 1),
            suppress_tokens=suppressed or None,
            **options,
        )
    skip = 1 if model.config.is_encoder_decoder else ids.shape[1]
    rows = []
    for row in output[:, skip:].tolist():
        stop = next((n + 1 for n, token in enumerate(row) if isinstance(ends, list) and token in ends), None)
        rows.append(row[:stop])
    return rows


def forced_torch(model: PreTrainedModel, row: Sequence[int], ids: Sequence[int]) -> NDArray[np.float32]:
    """Scores that predict each of ``ids`` after ``row``, ``(len(ids), vocab)``."""
    import torch

    with torch.inference_mode():
        if model.config.is_encoder_decoder:
            generation = model.generation_config
            start = generation.decoder_start_token_id if generation is not None else None
            start = model.config.decoder_start_token_id if start is None else start
            decoder = torch.tensor([[start, *ids[:-1]]])
            logits = model(input_ids=torch.tensor([list(row)]), decoder_input_ids=decoder).logits[0]
        else:
            logits = model(input_ids=torch.tensor([[*row, *ids[:-1]]])).logits[0, len(row) - 1 :]
    array: NDArray[np.float32] = logits.float().numpy()
    return array
