"""Generations as other tools leave them: vLLM's batches and objects, transformers' pipelines and batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from distill_datakit.errors import DataError
from distill_datakit.files import Row, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Inputs: TypeAlias = "Sequence[str] | Mapping[str, str] | str | Path"
PIPELINE = ("generated_text", "translation_text", "summary_text")


def convert_generations(
    outputs: Iterable[object] | Mapping[str, object],
    *,
    inputs: "Inputs | None" = None,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> Iterator[Row | DataError]:
    """Convert what another tool generated to rows of ``id``, ``input``, ``output`` and ``score``.

    It reads, as objects or as dictionaries from JSON: lines of ``vllm run-batch`` (OpenAI's batch format),
    ``RequestOutput`` of ``vllm.LLM.generate`` and ``.chat``, results of transformers' text-generation,
    translation and summarization pipelines, and the results of its ``generate_batch``.

    Args:
        outputs: One output for each request, in the order of the requests; or outputs by id, as
            ``generate_batch`` gives them.
        inputs: The texts of the requests, if the outputs do not hold them: in order, by id, or the file of
            requests that was given to ``vllm run-batch``.
        tokenizer: The tokenizer that decodes the ids of ``generate_batch``.

    Yields:
        A row for each output. For a request that failed or cannot be read, its error. ``score`` is the
        summed log-probability if the output has it. If one request has several outputs, ``-0``, ``-1``...
        are appended to its id. The input of a chat is the user's message.

    Example:
        >>> from distill_datakit import convert_generations
        >>> next(convert_generations([[{"translation_text": "Hallo"}]], inputs=["Hello"]))
        {'id': 0, 'input': 'Hello', 'output': 'Hallo', 'score': None}
    """
    given = _inputs(inputs)
    items = outputs.values() if isinstance(outputs, Mapping) else outputs
    for number, item in enumerate(items, start=1):
        try:
            yield from _rows(_plain(item), number, given, tokenizer)
        except DataError as error:
            yield error
        except (AttributeError, LookupError, TypeError) as error:
            yield DataError(f"not an output of a known kind: {error!r}.", file="generations", row=number)


def _plain(item: object) -> object:
    """Dataclasses and objects as dictionaries."""
    if is_dataclass(item) and not isinstance(item, type):
        return asdict(item)
    if hasattr(item, "outputs") and hasattr(item, "request_id"):
        return {**vars(item), "outputs": [vars(one) for one in item.outputs]}
    return item


@dataclass
class _Answers:
    """What was said to one request: texts with scores, and what was asked if the output holds it."""

    identity: object
    said: list[tuple[object, float | None]]
    asked: str | None = None
    repeats: bool = False  # a text-generation pipeline puts the prompt before what it says


def _rows(
    item: object,
    number: int,
    inputs: "Sequence[str] | Mapping[str, str]",
    tokenizer: "PreTrainedTokenizerBase | None",
) -> Iterator[Row]:
    if isinstance(item, list | tuple):  # a pipeline gives a list of each input's outputs
        found = _pipeline(item, number)
    elif not isinstance(item, Mapping):
        raise TypeError(type(item).__name__)
    elif "custom_id" in item:
        found = _batch_line(item, number)
    elif "outputs" in item:
        said = [(one["text"], one.get("cumulative_logprob")) for one in item["outputs"]]
        found = _Answers(item["request_id"], said, item.get("prompt"))
    elif "generated_tokens" in item:
        found = _generate_batch(item, number, tokenizer)
    else:
        found = _pipeline([item], number)
    asked = _asked(inputs, found.identity, number) or found.asked
    if not isinstance(asked, str):
        raise DataError(
            "the output does not hold its input. Give inputs=: the texts, or the file of requests.",
            file="generations", row=number, field="input")  # fmt: skip
    for index, (output, score) in enumerate(found.said):
        text = str(output).removeprefix(asked) if found.repeats else str(output)
        identity = f"{found.identity}-{index}" if len(found.said) > 1 else found.identity
        yield {"id": identity, "input": asked, "output": text, "score": score}


def _asked(inputs: "Sequence[str] | Mapping[str, str]", identity: object, number: int) -> str | None:
    if isinstance(inputs, Mapping):
        return inputs.get(str(identity))
    return inputs[number - 1] if inputs else None


def _failed(reason: object, number: int) -> DataError:
    return DataError(f"the request failed: {reason}.", file="generations", row=number)


def _batch_line(item: Mapping[str, object], number: int) -> _Answers:
    response = cast("dict[str, object]", item.get("response") or {})
    if item.get("error") or response.get("status_code", 200) != 200 or not response:
        raise _failed(item.get("error") or response.get("status_code") or "no response", number)
    body = cast("dict[str, list[dict[str, object]]]", response.get("body") or response)
    said: list[tuple[object, float | None]] = []
    for choice in body["choices"]:
        message = cast("dict[str, object] | None", choice.get("message"))
        said.append((message["content"] if message else choice["text"], _score(choice.get("logprobs"))))
    return _Answers(item["custom_id"], said)


def _score(logprobs: object) -> float | None:
    """The sum of what a chat (``content``) or a completion (``token_logprobs``) lists."""
    if not isinstance(logprobs, Mapping):
        return None
    content = logprobs.get("content")
    values = [one["logprob"] for one in content] if content else logprobs.get("token_logprobs")
    return float(sum(value for value in values if value is not None)) if values else None


def _generate_batch(
    item: Mapping[str, object], number: int, tokenizer: "PreTrainedTokenizerBase | None"
) -> _Answers:
    if item.get("error"):
        raise _failed(item["error"], number)
    if tokenizer is None:
        raise DataError(
            "generate_batch gives ids; give tokenizer= to decode them.", file="generations", row=number
        )
    prompt, said = (
        tokenizer.decode(cast("list[int]", item[name]), skip_special_tokens=True)
        for name in ("prompt_ids", "generated_tokens")
    )
    logprobs = cast("list[float]", item.get("logprobs") or [])
    return _Answers(item["request_id"], [(said, sum(logprobs) if logprobs else None)], str(prompt))


def _pipeline(items: Sequence[Mapping[str, object]], number: int) -> _Answers:
    texts = [next((item[name] for name in PIPELINE if name in item), None) for item in items]
    if not texts or None in texts:
        raise KeyError(*PIPELINE)
    if isinstance(texts[0], list):  # chats
        said = [cast("list[dict[str, object]]", messages)[-1]["content"] for messages in texts]
        return _Answers(number - 1, [(text, None) for text in said], _user(texts[0][:-1]))
    return _Answers(number - 1, [(text, None) for text in texts], repeats=True)


def _user(messages: Sequence[Mapping[str, object]]) -> str | None:
    """The one message of the user; None where there are several turns, which are no single input."""
    asked = [message["content"] for message in messages if message["role"] != "system"]
    return str(asked[0]) if len(asked) == 1 else None


def _inputs(inputs: "Inputs | None") -> "Sequence[str] | Mapping[str, str]":
    if inputs is None:
        return ()
    if not isinstance(inputs, str | Path):
        return inputs
    found: dict[str, str] = {}
    for number, row in read_rows(Path(inputs)):
        if isinstance(row, DataError):
            raise row
        body = row.get("body")
        messages = body.get("messages") if isinstance(body, Mapping) else None
        asked = _user(messages) if messages else body.get("prompt") if isinstance(body, Mapping) else None
        if not isinstance(asked, str) or "custom_id" not in row:
            raise DataError(
                'not a request, {"custom_id": ..., "body": ...}, with one message of the user or one prompt. '
                "Give the inputs as texts.", file=str(inputs), row=number)  # fmt: skip
        found[str(row["custom_id"])] = asked
    return found
