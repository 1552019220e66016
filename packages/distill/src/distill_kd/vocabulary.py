"""Whether student and teacher mean the same token by the same id."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_kd.errors import VocabularyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class SharedVocabulary:
    """What the check found.

    Attributes:
        tokens: Ids ``0 .. tokens - 1`` mean the same to both; logits beyond are padding.
        message: Which model was trimmed, in a sentence; None when neither was.
    """

    tokens: int
    message: str | None = None


def check_vocabularies(
    student_tokenizer: "PreTrainedTokenizerBase",
    teacher_tokenizer: "PreTrainedTokenizerBase",
    *,
    student_size: int | None = None,
    teacher_size: int | None = None,
) -> SharedVocabulary:
    """Compare the two token -> id maps, special and added tokens included; equal sizes alone prove nothing.

    Args:
        student_tokenizer: The student's.
        teacher_tokenizer: The teacher's.
        student_size: How many tokens the student model scores; may be padded beyond the tokenizer.
        teacher_size: Likewise the teacher model.

    Returns:
        The shared vocabulary, with a message if a model scores more ids than that.

    Raises:
        VocabularyError: The maps differ, or a model scores fewer tokens than its tokenizer has.
    """
    ours, theirs = student_tokenizer.get_vocab(), teacher_tokenizer.get_vocab()
    if ours != theirs:
        raise VocabularyError(_difference(student_tokenizer, teacher_tokenizer, ours, theirs))
    tokens = max(ours.values(), default=-1) + 1
    padded = []
    for name, size in (("student", student_size), ("teacher", teacher_size)):
        if size is None:
            continue
        if size < tokens:
            raise VocabularyError(
                f"the {name} model scores {size} tokens, but its tokenizer has ids up to {tokens - 1}. "
                "Resize its embeddings, or give it the tokenizer it was trained with."
            )
        if size > tokens:
            padded.append(f"the {name} model scores {size} ids")
    if not padded:
        return SharedVocabulary(tokens)
    return SharedVocabulary(
        tokens,
        f"{' and '.join(padded)}, but the tokenizer has {tokens} tokens: the padding beyond is left out of "
        "the divergence.",
    )


def _difference(
    student: "PreTrainedTokenizerBase",
    teacher: "PreTrainedTokenizerBase",
    ours: dict[str, int],
    theirs: dict[str, int],
) -> str:
    """Both tokenizers by name, and the first tokens they disagree on."""
    differing = sorted(
        (token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)),
        key=lambda token: (min(ours.get(token, len(ours)), theirs.get(token, len(theirs))), token),
    )
    shown = "; ".join(
        f"{token!r} is {ours.get(token, 'absent')} to the student and {theirs.get(token, 'absent')} to the "
        "teacher"
        for token in differing[:3]
    )
    size = "of the same size" if len(ours) == len(theirs) else f"of {len(ours)} and {len(theirs)} tokens"
    return (
        f"student tokenizer {_name(student)} and teacher tokenizer {_name(teacher)} are {size}, but "
        f"disagree on {len(differing)} tokens: {shown}. Logits can be compared id by id only under one "
        "tokenizer: build the student with the teacher's, or distil from the teacher's texts instead."
    )


def _name(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Where it came from, or its class."""
    return str(getattr(tokenizer, "name_or_path", "") or "") or type(tokenizer).__name__
