"""Texts that a teacher generates, as rows to train on."""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from distill_adapters import Task
from distill_kd.config import check_positive, check_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill_adapters import DecodingConfig


class GeneratedRow(TypedDict):
    """One input and the teacher's answer, with the score that ``distill_adapters.predict`` gives."""

    id: int | str
    input: str
    output: str
    score: float


def generate_teacher(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    rows: Iterable[tuple[int | str, str]],
    *,
    task: Task,
    decoding: "DecodingConfig | None" = None,
    skip: Collection[int | str] = (),
    chunk_rows: int = 1024,
) -> Iterator[GeneratedRow]:
    """Let the teacher answer every input; sequence-level distillation trains on the answers.

    Rows are yielded in the order of the inputs and read ``chunk_rows`` at a time, so that they can be saved
    one by one, and a second run that is given their ids as ``skip`` continues where the first one ended.

    Args:
        model: The teacher.
        tokenizer: The tokenizer of the teacher.
        rows: Pairs of id and input text; may be endless.
        task: "causal", "seq2seq" or "masked".
        decoding: How to generate; None is ``distill_adapters.DecodingConfig()``, greedy.
        skip: Ids that already have an answer.
        chunk_rows: Inputs given to ``distill_adapters.predict`` at once, which sorts them by length; > 0.

    Yields:
        One row for each input whose id is not in ``skip``.

    Raises:
        ConfigError: The task is unknown, or ``chunk_rows`` is below 1.

    Source:
        Kim and Rush 2016, section 3.2, arXiv:1606.07947.

    Example:
        >>> from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        >>> from distill_kd import generate_teacher
        >>> model = AutoModelForSeq2SeqLM.from_pretrained("translator")
        >>> tokenizer = AutoTokenizer.from_pretrained("translator")
        >>> inputs = [(0, "w1 w2"), (1, "w3 w4")]
        >>> [row["id"] for row in generate_teacher(model, tokenizer, inputs, task="seq2seq", skip=[0])]
        [1]
    """
    from distill_adapters import DecodingConfig, predict

    check_task(task)
    check_positive("chunk_rows", chunk_rows)
    done = frozenset(skip)
    pending = (row for row in rows if row[0] not in done)
    while chunk := list(islice(pending, chunk_rows)):
        texts = [text for _, text in chunk]
        made = predict(model, tokenizer, texts, task=task, decoding=decoding or DecodingConfig())
        for (row_id, text), output, score in zip(chunk, made.texts, made.scores, strict=True):
            yield GeneratedRow(id=row_id, input=text, output=output, score=score)
