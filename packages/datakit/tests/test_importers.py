"""Generations of other tools read as they are; bad ones are filtered out with a count."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from distill_datakit import (
    DataError,
    DroppedRowsWarning,
    GenerationFilter,
    convert_generations,
    read_generations,
    write_generations,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def chat_line(name: str, *said: str, **more: object) -> dict[str, object]:
    """A line that vllm run-batch writes for a chat."""
    logprobs = {"content": [{"token": "a", "logprob": -0.25}, {"token": "b", "logprob": -0.5}]}
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text}, "logprobs": logprobs}
        for n, text in enumerate(said)
    ]
    body = {"id": "chatcmpl-1", "object": "chat.completion", "choices": choices}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "vllm-1", "custom_id": name, "response": response, "error": None, **more}


def request(name: str, asked: str) -> dict[str, object]:
    """A line of the file that vllm run-batch reads."""
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": asked}]
    return {
        "custom_id": name,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"messages": messages},
    }


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_batch_of_vllm_reads_as_it_is(tmp_path: Path) -> None:
    """Chats and completions, matched to the requests by id, several choices, summed log-probabilities."""
    out = [chat_line("b", "B"), chat_line("a", "A1", "A2")]
    completion = {"choices": [{"text": " C", "logprobs": {"token_logprobs": [None, -1.5]}}]}
    out.append(
        {"id": "3", "custom_id": "c", "response": {"status_code": 200, "body": completion}, "error": None}
    )
    asked = [request("a", "ask a"), request("b", "ask b")]
    asked.append({"custom_id": "c", "body": {"prompt": "ask c"}})
    path, requests = write(tmp_path / "out.jsonl", out), write(tmp_path / "in.jsonl", asked)
    data = read_generations(path, inputs=requests, scores=True)
    assert list(data) == [
        {"source": "ask b", "target": "B", "id": "b", "score": -0.75},
        {"source": "ask a", "target": "A1", "id": "a-0", "score": -0.75},
        {"source": "ask a", "target": "A2", "id": "a-1", "score": -0.75},
        {"source": "ask c", "target": " C", "id": "c", "score": -1.5},
    ]
    assert read_generations(path, inputs={"a": "x", "b": "y", "c": "z"})["source"][:] == ["y", "x", "x", "z"]


def test_failed_requests_are_named_or_dropped_with_a_count(tmp_path: Path) -> None:
    """An error, another status, no response; and outputs that do not say what was asked."""
    failed = [
        chat_line("b", "B", error={"message": "too long"}),
        chat_line("c", "C", response={"status_code": 500, "body": None}),
        chat_line("d", "D", response=None),
    ]
    path = write(tmp_path / "out.jsonl", [chat_line("a", "A"), *failed])
    with pytest.raises(DataError, match=r"out\.jsonl, row 2: the request failed: .*too long"):
        read_generations(path, inputs={n: n for n in "abcd"})
    with pytest.warns(DroppedRowsWarning, match="3 of 4 rows dropped"):
        assert read_generations(path, inputs={n: n for n in "abcd"}, on_error="drop")["target"][:] == ["A"]
    with pytest.raises(DataError, match=r"row 1, field 'input': the output does not hold its input"):
        read_generations(path)
    turns: dict[str, object] = {
        "custom_id": "a",
        "body": {"messages": [{"role": r, "content": r} for r in ("user", "assistant")]},
    }
    with pytest.raises(DataError, match=r"in\.jsonl, row 1: not a request"):
        read_generations(path, inputs=write(tmp_path / "in.jsonl", [turns]))


@dataclass
class CompletionOutput:
    """The fields of vLLM's class of this name that matter."""

    text: str
    cumulative_logprob: float | None


class RequestOutput:
    """As vLLM's: attributes set in its constructor."""

    def __init__(self, request_id: str, prompt: str, outputs: list[CompletionOutput]) -> None:
        self.request_id, self.prompt, self.outputs = request_id, prompt, outputs


@dataclass
class GenerationOutput:
    """The fields of transformers' class of this name that matter."""

    request_id: str
    prompt_ids: list[int]
    generated_tokens: list[int]
    logprobs: list[float] = field(default_factory=list)
    error: str | None = None


def test_objects_of_vllm_and_transformers_become_rows(tmp_path: Path, bpe: "PreTrainedTokenizerFast") -> None:
    """RequestOutput, generate_batch and its ids; they go into a file that reads back."""
    made = convert_generations([RequestOutput("7", "ask", [CompletionOutput("said", -2.0)])])
    assert list(made) == [{"id": "7", "input": "ask", "output": "said", "score": -2.0}]
    ids = {text: bpe(text)["input_ids"] for text in ("the cat", " sat")}
    batch = {
        "req_0": GenerationOutput("req_0", ids["the cat"], [*ids[" sat"], bpe.eos_token_id], [-1.0, -0.5])
    }
    rows = list(convert_generations(batch, tokenizer=bpe))
    assert rows == [{"id": "req_0", "input": "the cat", "output": " sat", "score": -1.5}]
    assert write_generations(rows, tmp_path / "a.jsonl") == 1  # type: ignore[arg-type]  # rows, as was seen
    assert read_generations(tmp_path / "a.jsonl")["target"][:] == [" sat"]
    (missing,) = convert_generations(batch)
    assert "give tokenizer" in str(missing)
    (failed,) = convert_generations([GenerationOutput("1", [], [], error="out of memory")], tokenizer=bpe)
    assert "out of memory" in str(failed)


def test_pipelines_become_rows() -> None:
    """Text generation with its prompt before it, chats, translations, several sequences; else an error."""
    asked = ["My tart", "Hello"]
    generated = [
        [{"generated_text": "My tart needs"}, {"generated_text": "My tart is"}],
        [{"generated_text": "Hi"}],
    ]
    assert [(row["id"], row["output"]) for row in convert_generations(generated, inputs=asked)] == [  # type: ignore[index]  # no errors
        ("0-0", " needs"), ("0-1", " is"), (1, "Hi")]  # fmt: skip
    chat = [{"role": "user", "content": "capital?"}, {"role": "assistant", "content": "Paris"}]
    for chats in ([[{"generated_text": chat}]], [{"generated_text": chat}]):
        (row,) = convert_generations(chats)
        assert row == {"id": 0, "input": "capital?", "output": "Paris", "score": None}
    (row,) = convert_generations([{"translation_text": "Haus"}], inputs=["house"])
    assert row == {"id": 0, "input": "house", "output": "Haus", "score": None}
    assert all(isinstance(row, DataError) for row in convert_generations([{"text": "a"}, "a", [], None]))


def generations(*pairs: tuple[str, str]) -> list[dict[str, object]]:
    """Rows with these inputs and outputs."""
    return [{"id": n, "input": a, "output": b, "score": -float(n)} for n, (a, b) in enumerate(pairs)]


def test_filters_drop_and_count_by_reason() -> None:
    """Blank, short, long, repeating, doubled rows, and those below a score or a metric that is passed in."""
    rows = generations(
        ("a long question", "a long answer"), ("b", " "), ("a long question", "no"), ("c", "ccccc"),
        ("say it " * 9, "again and " * 12), ("a long question", "a long answer"), ("d", "d"), ("e", "E"),
    )  # fmt: skip
    references = {0: "a long answer", 6: "d", 7: "e"}
    keep = GenerationFilter(
        min_length_ratio=0.5,
        max_length_ratio=4.0,
        metric=lambda row: float(references.get(row["id"]) == row["output"]),  # type: ignore[call-overload]  # an integer
        min_metric=0.5,
        min_score=-6.5,
    )
    assert [row["id"] for row in keep(rows)] == [0, 6]
    assert keep.kept == 2
    assert keep.dropped == {
        "empty": 1, "short": 1, "long": 1, "repetitive": 1, "metric": 1, "score": 1}  # fmt: skip


def test_equal_generations_are_kept_once_unless_asked_otherwise() -> None:
    """By input and output, whatever the id; another answer to the same question is none."""
    rows = generations(("a", "b"), ("a", "b"), ("a", "c"))
    keep = GenerationFilter()
    assert [row["id"] for row in keep(rows)] == [0, 2]
    assert keep.dropped == {"duplicate": 1}
    assert len(list(GenerationFilter(dedupe=False)(rows))) == 3


def test_without_limits_everything_but_blanks_passes() -> None:
    """A metric that is not a number fails, and one without a limit is refused."""
    rows = generations(("a", "b" * 500), ("a", ""))
    assert len(list(GenerationFilter(max_compression=None)(rows))) == 1
    assert not list(GenerationFilter(metric=lambda row: float("nan"), min_metric=0.0)(rows[:1]))
    with pytest.raises(ValueError, match="belong together"):
        GenerationFilter(min_metric=0.5)
