"""What figures alone do not show: answers that are empty or go round in circles, rows that repeat or leak."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.run.data import Reference, inputs_of

if TYPE_CHECKING:
    from datasets import Dataset

_CIRCLES = 3  # times that a run of words follows itself
_LONGEST = 8  # words of such a run


def answers_health(
    said: Sequence[str], right: Sequence[Reference], teacher: Sequence[str] | None
) -> dict[str, float]:
    """Shares, in percent, of answers that are empty, circular, or the teacher's; and their length.

    Args:
        said: Answers of a system.
        right: What would have been right.
        teacher: What its teacher said to the same inputs, or None.

    Returns:
        ``empty_percent``, ``circular_percent``, ``length_ratio`` (words said over words that are right) and,
        with a teacher, ``as_teacher_percent``.
    """
    first = [text if isinstance(text, str) else next(iter(text), "") for text in right]
    words = sum(len(text.split()) for text in first)
    found = {
        "empty_percent": _percent([not text.strip() for text in said]),
        "circular_percent": _percent([goes_round(text) for text in said]),
        "length_ratio": sum(len(text.split()) for text in said) / max(1, words),
    }
    if teacher is not None:
        found["as_teacher_percent"] = _percent([a == b for a, b in zip(said, teacher, strict=True)])
    return {name: round(value, 3) for name, value in found.items()}


def goes_round(text: str) -> bool:
    """Whether one to eight words follow themselves three times or more."""
    words = text.split()
    for size in range(1, min(_LONGEST, len(words) // _CIRCLES) + 1):
        span = size * (_CIRCLES - 1)
        for start in range(len(words) - size * _CIRCLES + 1):
            if words[start : start + span] == words[start + size : start + size + span]:
                return True
    return False


def data_facts(texts: "Mapping[str, Dataset]", paths: Mapping[str, Path]) -> dict[str, dict[str, object]]:
    """Of each name of data: rows, inputs that repeat or that ``train`` has too, lengths, hash of its file.

    Args:
        texts: By name.
        paths: The files of those that come from one.
    """
    inputs = {name: _inputs(part) for name, part in texts.items()}
    learnt = set(inputs.get("train", ()))
    found: dict[str, dict[str, object]] = {}
    for name, mine in inputs.items():
        facts: dict[str, object] = {"rows": len(texts[name])}
        if mine:
            lengths = sorted(map(len, mine))
            facts |= {
                "repeated": len(mine) - len(set(mine)),
                "characters_median": lengths[len(lengths) // 2],
                "characters_most": lengths[-1],
            }
        if mine and name != "train" and learnt:
            facts["also_in_train"] = sum(text in learnt for text in mine)
        if name in paths and paths[name].is_file():
            with paths[name].open("rb") as stream:
                facts["sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
        found[name] = facts
    return found


def _inputs(part: "Dataset") -> list[str]:
    return [] if "messages" in part.column_names else inputs_of(part)


def _percent(flags: Sequence[bool]) -> float:
    return 100 * sum(flags) / max(1, len(flags))
