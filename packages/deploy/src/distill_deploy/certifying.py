"""Comparing an export with the transformers model it was made from, example by example."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from distill_deploy.runtime import MaskFiller, TextGenerator, _batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from distill_deploy.conversion import Source

MIN_EXAMPLES = 64
MIN_POSITIONS = 2000
MIN_DISTINCT = 5  # fewer distinct generated tokens prove nothing
_SPEED_TEXTS = 16


@dataclass
class Agreement:
    """Counts over every compared position; ``logits`` are compared unscaled."""

    positions: int = 0
    equal: int = 0
    within_margin: int = 0
    largest_difference: float = 0.0
    lowest: float = float("inf")
    highest: float = float("-inf")
    _margins: list[float] = field(default_factory=list)

    def add(
        self, expected: NDArray[np.float32], found: NDArray[np.float32], suppressed: Sequence[int]
    ) -> None:
        """Count the rows of two ``(positions, vocab)`` arrays; ``suppressed`` tokens are left out."""
        keep = np.ones(expected.shape[-1], bool)
        keep[list(suppressed)] = False
        expected, found = expected[:, keep], found[:, : len(keep)][:, keep]
        self.largest_difference = max(self.largest_difference, float(np.abs(expected - found).max()))
        self.lowest = min(self.lowest, float(expected.min()))
        self.highest = max(self.highest, float(expected.max()))
        ours, theirs = expected.argmax(-1), found.argmax(-1)
        rows = np.arange(len(expected))
        self.positions += len(rows)
        self.equal += int((ours == theirs).sum())
        margins = expected[rows, ours] - expected[rows, theirs]
        self._margins += [float(margin) for margin in margins[ours != theirs]]

    @property
    def rate(self) -> float:
        """Share of positions with the same most likely token."""
        return self.equal / self.positions if self.positions else 0.0

    @property
    def unexplained(self) -> int:
        """Positions that differ though the model's margin is at least twice the largest difference."""
        return sum(margin >= 2 * self.largest_difference for margin in self._margins)

    @property
    def range(self) -> float:
        """Highest less lowest logit of the model."""
        return self.highest - self.lowest


@dataclass(frozen=True)
class Measured:
    """What a comparison found."""

    agreement: Agreement
    examples: int
    equal_outputs: int
    distinct_tokens: int
    expected: list[str]
    found: list[str]
    torch_seconds: float
    runtime_seconds: float
    method: str


def made_prompts(source: Source, *, seed: int = 0) -> list[list[int]]:
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


def measure_generator(
    reference: PreTrainedModel,
    runtime: TextGenerator,
    prompts: Sequence[Sequence[int]],
    *,
    suppressed: Sequence[int],
    ends: Sequence[int],
    max_new_tokens: int,
) -> Measured:
    """Greedy generations of both, then both teacher-forced along the model's own generations."""
    generated: list[list[int]] = [[] for _ in prompts]
    for rows in _batches([len(prompt) for prompt in prompts], 32, equal=True):
        batch = _torch_generate(
            reference, [prompts[row] for row in rows], suppressed=suppressed, ends=ends, limit=max_new_tokens
        )
        for row, ids in zip(rows, batch, strict=True):
            generated[row] = ids
    found = runtime.generate_ids(prompts, max_new_tokens=max_new_tokens)
    bare = [[token for token in row if token not in ends] for row in generated]
    agreement = Agreement()
    for prompt, ids in zip(prompts, generated, strict=True):
        if ids and (agreement.positions < MIN_POSITIONS or agreement.positions == 0):
            agreement.add(
                _torch_logits(reference, prompt, ids), runtime.forced_logits(prompt, ids), suppressed
            )
    few = [list(prompt) for prompt in prompts[:_SPEED_TEXTS]]
    began = time.perf_counter()
    for prompt in few:
        _torch_generate(reference, [prompt], suppressed=suppressed, ends=ends, limit=max_new_tokens)
    middle = time.perf_counter()
    for prompt in few:
        runtime.generate_ids([prompt], max_new_tokens=max_new_tokens)
    return Measured(
        agreement=agreement,
        examples=len(prompts),
        equal_outputs=sum(a == b for a, b in zip(bare, found, strict=True)),
        distinct_tokens=len({token for row in bare for token in row}),
        expected=[runtime.decode(row) for row in bare],
        found=[runtime.decode(row) for row in found],
        torch_seconds=middle - began,
        runtime_seconds=time.perf_counter() - middle,
        method="logits at every position of the model's greedy generations, which both were forced along",
    )


def _torch_generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    suppressed: Sequence[int],
    ends: Sequence[int],
    limit: int,
) -> list[list[int]]:
    """Greedy continuations of prompts of one length, the end token kept and what follows it cut."""
    import torch

    ids = torch.tensor([list(prompt) for prompt in prompts])
    with torch.inference_mode():
        output = model.generate(  # type: ignore[operator]  # transformers types the mixin's method as a Tensor
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            suppress_tokens=list(suppressed) or None,
        )
    skip = 1 if model.config.is_encoder_decoder else ids.shape[1]
    rows = []
    for row in output[:, skip:].tolist():
        stop = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
        rows.append(row[:stop])
    return rows


def _torch_logits(model: PreTrainedModel, prompt: Sequence[int], ids: Sequence[int]) -> NDArray[np.float32]:
    """Logits that predict each of ``ids``, ``(len(ids), vocab)``."""
    import torch

    with torch.inference_mode():
        if model.config.is_encoder_decoder:
            generation = model.generation_config
            start = generation.decoder_start_token_id if generation is not None else None
            start = model.config.decoder_start_token_id if start is None else start
            decoder = torch.tensor([[start, *ids[:-1]]])
            logits = model(input_ids=torch.tensor([list(prompt)]), decoder_input_ids=decoder).logits[0]
        else:
            logits = model(input_ids=torch.tensor([[*prompt, *ids[:-1]]])).logits[0, len(prompt) - 1 :]
    array: NDArray[np.float32] = logits.float().numpy()
    return array


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


def measure_filler(
    reference: PreTrainedModel, runtime: MaskFiller, rows: Sequence[Sequence[int]], *, mask: int
) -> Measured:
    """Logits of both at every masked position."""
    import torch

    agreement = Agreement()
    equal, expected, found, seen = 0, [], [], set()
    torch_seconds = runtime_seconds = 0.0
    for row in rows:
        places = [place for place, token in enumerate(row) if token == mask]
        began = time.perf_counter()
        with torch.inference_mode():
            ours = reference(input_ids=torch.tensor([list(row)])).logits[0].float().numpy()[places]
        middle = time.perf_counter()
        theirs = runtime.logits([row])[0][places]
        torch_seconds += middle - began
        runtime_seconds += time.perf_counter() - middle
        agreement.add(ours, theirs, ())
        best, other = ours.argmax(-1).tolist(), theirs.argmax(-1).tolist()
        seen.update(best)
        equal += best == other
        expected.append(_completed(runtime, row, places, best))
        found.append(_completed(runtime, row, places, other))
    return Measured(
        agreement=agreement,
        examples=len(rows),
        equal_outputs=equal,
        distinct_tokens=len(seen),
        expected=expected,
        found=found,
        torch_seconds=torch_seconds,
        runtime_seconds=runtime_seconds,
        method="logits at every masked position",
    )


def _completed(runtime: MaskFiller, row: Sequence[int], places: Sequence[int], best: Sequence[int]) -> str:
    ids = list(row)
    for place, token in zip(places, best, strict=True):
        ids[place] = token
    text: str = runtime.tokenizer.decode(ids, skip_special_tokens=True)
    return text
