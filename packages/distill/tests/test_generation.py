"""The teacher's texts come as rows, in order, and only those that are missing."""

from collections.abc import Iterator
from typing import Any

import pytest

from distill_adapters import DecodingConfig, Task, predict
from distill_kd import generate_teacher

TEXTS = ["w1 w2", "w3", "w4 w5 w6 w7", "w2 w2 w2", "w9 w1"]
FEW = DecodingConfig(max_new_tokens=4, batch_size=2)


@pytest.mark.parametrize(("name", "task"), [("Marian", "seq2seq"), ("Llama", "causal"), ("Bert", "masked")])
def test_rows_are_what_predict_says(name: str, task: Task, make_model: Any, make_tokenizer: Any) -> None:
    """Equal texts and scores, whether all inputs go at once or two at a time."""
    model, tokenizer = make_model(name).eval(), make_tokenizer()
    texts = [f"{text} <mask>" for text in TEXTS] if task == "masked" else TEXTS
    expected = predict(model, tokenizer, texts, task=task, decoding=FEW)
    for chunk_rows in (2, 100):
        rows = list(
            generate_teacher(
                model, tokenizer, enumerate(texts), task=task, decoding=FEW, chunk_rows=chunk_rows
            )
        )
        assert [row["id"] for row in rows] == [0, 1, 2, 3, 4]
        assert [row["input"] for row in rows] == texts
        assert [row["output"] for row in rows] == expected.texts
        assert [row["score"] for row in rows] == pytest.approx(expected.scores, rel=1e-4)


def test_known_ids_are_skipped(make_model: Any, make_tokenizer: Any) -> None:
    """A second run does only what the first left; ids may be strings."""
    pairs = [(f"id{index}", text) for index, text in enumerate(TEXTS)]
    rows = generate_teacher(
        make_model("Marian").eval(),
        make_tokenizer(),
        pairs,
        task="seq2seq",
        decoding=FEW,
        skip={"id1", "id3"},
    )
    assert [row["id"] for row in rows] == ["id0", "id2", "id4"]


def test_inputs_are_read_as_they_are_needed(make_model: Any, make_tokenizer: Any) -> None:
    """An endless stream gives its first rows after ``chunk_rows`` inputs."""
    read = 0

    def endless() -> Iterator[tuple[int, str]]:
        nonlocal read
        while True:
            read += 1
            yield read, "w1 w2"

    rows = generate_teacher(
        make_model("Marian").eval(), make_tokenizer(), endless(), task="seq2seq", decoding=FEW, chunk_rows=3
    )
    assert next(rows)["id"] == 1
    assert read == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"task": "seq2seq_lm"}, "are causal, seq2seq, masked"), ({"chunk_rows": 0}, "at least 1")],
)
def test_impossible_requests_are_refused(
    arguments: dict[str, Any], message: str, make_model: Any, make_tokenizer: Any
) -> None:
    """With what is allowed."""
    options: dict[str, Any] = {"task": "seq2seq", **arguments}
    with pytest.raises(ValueError, match=message):
        next(generate_teacher(make_model("Marian"), make_tokenizer(), [(0, "w1")], **options))
