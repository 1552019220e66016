"""Comparing an export with what its model did, example by example."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from distill_deploy.reference import TIMED_EXAMPLES, Recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from distill_deploy.generation import TextGenerator
    from distill_deploy.mask_filling import MaskFiller


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
        wanted, got = expected.argmax(-1), found.argmax(-1)
        rows = np.arange(len(expected))
        self.positions += len(rows)
        self.equal += int((wanted == got).sum())
        margins = expected[rows, wanted] - expected[rows, got]
        self._margins += [float(margin) for margin in margins[wanted != got]]

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
    """What a comparison found: at every compared position, and at those that count as evidence."""

    every: Agreement
    counting: Agreement
    examples: int
    equal_outputs: int
    equal_beams: int | None
    beams: int  # outputs of beam search that were compared
    distinct_tokens: int
    expected: list[str]
    found: list[str]
    ms_per_example: float
    method: str
    parted: int = 0  # greedy outputs that leave the model's own where its margin explains it not


def compare_generator(
    recorded: Recorded, runtime: TextGenerator, facts: Mapping[str, object], limit: int
) -> Measured:
    """Greedy generations against the model's, and the scores of both along the model's own."""
    suppressed, ends = _numbers(facts["suppress_token_ids"]), _numbers(facts["eos_token_ids"])
    limit = min(limit, max(map(len, recorded.answers)))
    bare = [[token for token in row if token not in ends] for row in recorded.answers]
    found = runtime.generate_ids(recorded.rows, max_new_tokens=limit)
    every, counting = _teacher_forced(recorded, runtime.forced_logits, suppressed)
    equal_beams = None
    if recorded.early and "beams" not in runtime.lacks:
        beams = _numbers([runtime.defaults["num_beams"]])[0]
        wanted = [[token for token in row if token not in ends] for row in recorded.early]
        searched = runtime.generate_ids(recorded.rows[: len(wanted)], beams=beams, max_new_tokens=limit)
        equal_beams = sum(a == b for a, b in zip(wanted, searched, strict=True))
    few = recorded.rows[:TIMED_EXAMPLES]
    began = time.perf_counter()
    for row in few:
        runtime.generate_ids([row], max_new_tokens=limit)
    spent = time.perf_counter() - began
    return Measured(
        every=every,
        counting=counting,
        examples=len(recorded.rows),
        equal_outputs=sum(a == b for a, b in zip(bare, found, strict=True)),
        equal_beams=equal_beams,
        beams=len(recorded.early),
        distinct_tokens=len({token for row in bare for token in row}),
        expected=[runtime.decode(row) for row in bare],
        found=[runtime.decode(row) for row in found],
        ms_per_example=1000 * spent / len(few),
        method="logits at every position of the model's greedy generations, which both were forced along",
        parted=_parted(recorded, found, ends, every.largest_difference),
    )


def compare_filler(recorded: Recorded, runtime: MaskFiller, *, mask: int) -> Measured:
    """Scores of both at every masked position."""
    answers, began = [], time.perf_counter()
    for row in recorded.rows:
        places = [place for place, token in enumerate(row) if token == mask]
        answers.append(runtime.logits([row])[0][places])
    spent = time.perf_counter() - began
    agreement = Agreement()
    for wanted, got in zip(recorded.logits, answers, strict=True):
        agreement.add(wanted, got, ())
    best = [scores.argmax(-1).tolist() for scores in answers]
    pairs = zip(recorded.rows, recorded.answers, best, strict=True)
    filled = [(_filled(row, wanted, mask), _filled(row, got, mask)) for row, wanted, got in pairs]

    def decode(ids: Sequence[int]) -> str:
        text: str = runtime.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    return Measured(
        every=agreement,
        counting=agreement,
        examples=len(recorded.rows),
        equal_outputs=sum(wanted == got for wanted, got in filled),
        equal_beams=None,
        beams=0,
        distinct_tokens=len({token for row in recorded.answers for token in row}),
        expected=[decode(wanted) for wanted, _ in filled],
        found=[decode(got) for _, got in filled],
        ms_per_example=1000 * spent / len(recorded.rows),
        method="logits at every masked position",
    )


def _teacher_forced(
    recorded: Recorded,
    forced: Callable[[Sequence[int], Sequence[int]], NDArray[np.float32]],
    suppressed: Sequence[int],
) -> tuple[Agreement, Agreement]:
    every, counting = Agreement(), Agreement()
    for row, ids, logits, counts in zip(
        recorded.rows, recorded.answers, recorded.logits, recorded.counting, strict=False
    ):
        found = forced(row, ids)
        every.add(logits, found, suppressed)
        if counts:
            counting.add(logits, found, suppressed)
    return every, counting


def _parted(
    recorded: Recorded, found: Sequence[Sequence[int]], ends: Sequence[int], difference: float
) -> int:
    """Greedy outputs whose first other token the model itself scores lower by twice the logit difference."""
    parted = 0
    for ids, other, logits in zip(recorded.answers, found, recorded.logits, strict=False):
        got = [*other, *ends[:1]]
        place = next((n for n, (a, b) in enumerate(zip(ids, got, strict=False)) if a != b), None)
        if place is not None and not (ids[place] in ends and got[place] in ends):
            parted += bool(logits[place, ids[place]] - logits[place, got[place]] >= 2 * difference)
    return parted


def _filled(row: Sequence[int], best: Sequence[int], mask: int) -> list[int]:
    answers = iter(best)
    return [next(answers) if token == mask else token for token in row]


def _numbers(value: object) -> list[int]:
    return [int(number) for number in value] if isinstance(value, list) else []
