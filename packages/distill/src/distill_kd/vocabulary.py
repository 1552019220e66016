"""Whether student and teacher mean the same token by the same id."""

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from distill_kd.errors import ConfigError, VocabularyError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from distill_kd.objective import Objective
    from distill_kd.teachers import Teacher

_logger = logging.getLogger(__name__)


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

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_kd import check_vocabularies
        >>> tokenizer = AutoTokenizer.from_pretrained("writer")
        >>> shared = check_vocabularies(tokenizer, tokenizer, teacher_size=len(tokenizer) + 4)
        >>> shared.tokens == len(tokenizer), "the teacher model" in shared.message
        (True, True)
    """
    student, teacher = student_tokenizer.get_vocab(), teacher_tokenizer.get_vocab()
    if student != teacher:
        raise VocabularyError(
            _difference(student_tokenizer, teacher_tokenizer, student, teacher), field="tokenizer"
        )
    tokens = max(student.values(), default=-1) + 1
    padded = []
    for name, size in (("student", student_size), ("teacher", teacher_size)):
        if size is None:
            continue
        if size < tokens:
            raise VocabularyError(
                f"the {name} model scores {size} tokens, but its tokenizer has ids up to {tokens - 1}. "
                "Resize its embeddings, or give it the tokenizer it was trained with.",
                field=f"{name}_size",
                found=size,
                suggestion=tokens,
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


def match_vocabularies(
    objective: "Objective", student: "nn.Module", teacher: "Teacher", tokenizer: Any
) -> "Objective":
    """The objective, limited to the shared vocabulary, once both models are known to use one.

    Args:
        objective: The loss; where it names a ``vocab_size`` and a tokenizer is missing, that stays.
        student: The student's model.
        teacher: Its ``model`` and ``tokenizer`` are compared with the student's, where it has them.
        tokenizer: The student's; None compares sizes only, with a warning.

    Raises:
        VocabularyError: They do not mean the same token by the same id, or start decoding differently.
        CacheMismatchError: The teacher is a cache that cannot serve the objective.
        ConfigError: The teacher is the student itself.
    """
    asked = getattr(teacher, "model", teacher)  # a cache represents the model that it was made from
    if asked is student:
        raise ConfigError(
            "the teacher is the student itself; give LiveTeacher a model of its own.", field="teacher"
        )
    check = getattr(teacher, "check_objective", None)
    if check is not None:
        check(objective)
    configs = [getattr(model, "config", None) for model in (student, asked)]
    sizes = [getattr(config, "vocab_size", None) for config in configs]
    starts = [getattr(config, "decoder_start_token_id", None) for config in configs]
    if objective.task == "seq2seq" and None not in starts and starts[0] != starts[1]:
        raise VocabularyError(
            f"student and teacher start decoding with different tokens ({starts[0]} and {starts[1]}); "
            "set the student's decoder_start_token_id to the teacher's: both read the same inputs.",
            field="decoder_start_token_id",
            found=starts[0],
            allowed=(starts[1],),
            suggestion=starts[1],
        )
    teacher_tokenizer = getattr(teacher, "tokenizer", None)
    if teacher_tokenizer is None or tokenizer is None:
        _logger.warning("vocabularies unchecked: give LiveTeacher(tokenizer=) and processing_class=.")
        if None not in sizes and sizes[0] != sizes[1] and objective.vocab_size is None:
            raise VocabularyError(
                f"the student scores {sizes[0]} tokens and the teacher {sizes[1]}; give LiveTeacher its "
                "tokenizer and the trainer processing_class=, so that the shared part can be found.",
                field="tokenizer",
            )
        return objective
    shared = check_vocabularies(tokenizer, teacher_tokenizer, student_size=sizes[0], teacher_size=sizes[1])
    if shared.message:
        _logger.warning("%s", shared.message)
    return replace(objective, vocab_size=shared.tokens)


def _difference(
    student: "PreTrainedTokenizerBase",
    teacher: "PreTrainedTokenizerBase",
    student_ids: dict[str, int],
    teacher_ids: dict[str, int],
) -> str:
    """Both tokenizers by name, and the first tokens they disagree on."""
    sizes = len(student_ids), len(teacher_ids)
    differing = sorted(
        (
            token
            for token in student_ids.keys() | teacher_ids.keys()
            if student_ids.get(token) != teacher_ids.get(token)
        ),
        key=lambda token: (min(student_ids.get(token, sizes[0]), teacher_ids.get(token, sizes[1])), token),
    )
    shown = "; ".join(
        f"{token!r} is {student_ids.get(token, 'absent')} to the student and "
        f"{teacher_ids.get(token, 'absent')} to the teacher"
        for token in differing[:3]
    )
    size = "of the same size" if sizes[0] == sizes[1] else f"of {sizes[0]} and {sizes[1]} tokens"
    return (
        f"student tokenizer {_name(student)} and teacher tokenizer {_name(teacher)} are {size}, but "
        f"disagree on {len(differing)} tokens: {shown}. Logits can be compared id by id only under one "
        "tokenizer: build the student with the teacher's, or distil from the teacher's texts instead."
    )


def _name(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Where it came from, or its class."""
    return str(getattr(tokenizer, "name_or_path", "") or "") or type(tokenizer).__name__
