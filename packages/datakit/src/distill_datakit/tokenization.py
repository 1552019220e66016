"""Raw text to ids and labels, right for each of the three tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from distill_datakit.chat import Messages, encode_chat
from distill_datakit.errors import DataError, TokenizerError
from distill_datakit.fingerprints import data_digest, digest, tokenizer_digest

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase

Task = Literal["causal", "seq2seq", "masked"]
TASKS: tuple[Task, ...] = ("causal", "seq2seq", "masked")
IGNORED = -100  # the label that every transformers loss leaves out
Columns = dict[str, list[list[int]]]


@dataclass(frozen=True)
class TokenizedData:
    """Tokenized rows and what they were made from.

    Attributes:
        data: Rows of ``input_ids``, ``attention_mask``, ``labels`` (not for masked) and ``row_id``.
        fingerprint: ``data, preprocessing, tokenizer, template, masking`` -> SHA-256.
    """

    data: "Dataset | DatasetDict"
    fingerprint: Mapping[str, str]


def check_task(task: str) -> None:
    """Raise ``ValueError`` unless ``task`` is one of ``TASKS``."""
    if task not in TASKS:
        raise ValueError(f"task={task!r}: allowed are {', '.join(TASKS)}.")


def tokenize(
    data: "Dataset | DatasetDict",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    *,
    max_source_length: int | None = None,
    max_target_length: int | None = None,
    prefix: str = "",
) -> TokenizedData:
    """Turn raw text rows into ids, attention mask and labels.

    - ``seq2seq``: ``source`` (or ``prompt``) is the input, ``target`` (or ``completion``) the labels.
    - ``causal``: ``messages`` (what the assistant says is learnt), ``prompt``/``completion`` or
      ``source``/``target`` (the second is learnt), or ``text`` (all is learnt). Labels stand at their own
      positions: models shift them. The two parts of a row are encoded apart and joined.
    - ``masked``: ``text`` (or ``target``); no labels, since the collator masks anew each epoch.

    The end-of-text token is added where the tokenizer does not, and learnt, also when it is the padding
    token. Where a limit cuts a causal row, the end is not there to be learnt; seq2seq and masked rows keep
    their closing tokens. Prompts are cut on the left, everything else on the right.

    Args:
        data: Raw rows, as ``load`` or ``split`` give them. Other columns are dropped.
        tokenizer: Any transformers tokenizer; ``messages`` need a fast one with a chat template.
        task: One of ``TASKS``.
        max_source_length: Limit in tokens of the input: seq2seq source, causal prompt, and whole rows of
            ``text`` or ``messages``. None cuts nothing.
        max_target_length: Limit of target or completion.
        prefix: Put before each seq2seq source, as T5's ``"translate English to German: "``.

    Returns:
        Rows with an integer ``row_id``: the row's own where the data has that column, else numbered
        through all splits in order.

    Raises:
        DataError: The columns do not suit the task, or no row has a token to learn.
        ValueError: An unknown task or a limit below 1.
        TokenizerError: A causal task without an end-of-text token; ``messages`` without a template.
    """
    from datasets import DatasetDict

    check_task(task)
    for name, limit in (("max_source_length", max_source_length), ("max_target_length", max_target_length)):
        if limit is not None and limit < 1:
            raise ValueError(f"{name}={limit}: at least 1 token is needed, or None for no limit.")
    limits = (max_source_length, max_target_length)
    parts: Mapping[str, Dataset] = data if isinstance(data, DatasetDict) else {"data": data}
    done: dict[str, Dataset] = {}
    for name, part in parts.items():
        first_id = sum(map(len, done.values()))
        done[name] = _tokenize_part(part, tokenizer, task, limits, prefix, first_id=first_id, name=name)
    fingerprint = {
        "data": data_digest(data),
        "preprocessing": digest({"task": task, "limits": limits, "prefix": prefix}),
        "tokenizer": tokenizer_digest(tokenizer),
        "template": digest(getattr(tokenizer, "chat_template", None)),
        "masking": digest("dynamic" if task == "masked" else "none"),
    }
    return TokenizedData(DatasetDict(done) if isinstance(data, DatasetDict) else done["data"], fingerprint)


def _tokenize_part(
    part: "Dataset",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    limits: tuple[int | None, int | None],
    prefix: str,
    *,
    first_id: int,
    name: str,
) -> "Dataset":
    import pyarrow as pa  # type: ignore[import-untyped]  # it publishes no types
    from datasets import Dataset

    encode = _encoder(part.column_names, tokenizer, task, limits, prefix)
    masked = task == "masked"
    kinds = {"input_ids": pa.list_(pa.int32()), "attention_mask": pa.list_(pa.int8())}
    kinds |= {} if masked else {"labels": pa.list_(pa.int32())}
    schema = pa.schema([*kinds.items(), ("row_id", pa.int64())])
    own_ids = "row_id" in part.column_names
    batches, learnt, number = [], 0, first_id
    for batch in part.iter(batch_size=1000):
        columns = encode(batch)
        count = len(columns["input_ids"])
        ids = batch["row_id"] if own_ids else list(range(number, number + count))
        number += count
        learnt += (
            count if masked else sum(any(label != IGNORED for label in row) for row in columns["labels"])
        )
        arrays = [pa.array(columns[field], type=kind) for field, kind in kinds.items()]
        batches.append(pa.record_batch([*arrays, pa.array(ids, type=pa.int64())], schema=schema))
    if len(part) and not learnt:
        raise DataError(
            f"{name}: 0 of {len(part)} rows has a token to learn. Raise the limits or check the texts."
        )
    return Dataset(pa.Table.from_batches(batches, schema=schema))


def _encoder(
    names: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    limits: tuple[int | None, int | None],
    prefix: str,
) -> Callable[[Mapping[str, list[str]]], Columns]:
    """What turns a batch of raw columns into ids and labels."""
    pair = next(
        (both for both in (("source", "target"), ("prompt", "completion")) if set(both) <= set(names)), None
    )
    if task == "masked":
        field = next((name for name in ("text", "target") if name in names), None)
        if field is not None:
            return lambda batch: _encode(tokenizer, batch[field], limits[0])
    elif task == "seq2seq" and pair:
        return lambda batch: _pairs_seq2seq(tokenizer, batch[pair[0]], batch[pair[1]], limits, prefix)
    elif task == "causal":
        if prefix:
            raise ValueError(f"prefix={prefix!r} is for seq2seq; write it into the prompt of a causal model.")
        if "messages" in names:
            return lambda batch: encode_chat(tokenizer, cast("list[Messages]", batch["messages"]), limits[0])
        if tokenizer.eos_token_id is None:
            raise TokenizerError(
                "a causal model needs an end-of-text token, which is missing. Set tokenizer.eos_token."
            )
        if pair:
            return lambda batch: _pairs_causal(tokenizer, batch[pair[0]], batch[pair[1]], limits)
        if "text" in names:
            return lambda batch: _texts_causal(tokenizer, batch["text"], limits[0])
    needed = {
        "causal": "text, prompt/completion, source/target or messages",
        "seq2seq": "source/target or prompt/completion",
        "masked": "text or target",
    }[task]
    raise DataError(f"task {task!r} needs the columns {needed}; there are {', '.join(names) or 'none'}.")


def _encode(
    tokenizer: "PreTrainedTokenizerBase", texts: list[str], limit: int | None, *, target: bool = False
) -> Columns:
    # text_target: some tokenizers (Marian's, mBART's) read the two sides differently.
    given = {"text_target": texts} if target else {"text": texts}
    encoded = tokenizer(
        **given, truncation=limit is not None, max_length=limit, return_attention_mask=True, verbose=False
    )
    return {"input_ids": list(encoded["input_ids"]), "attention_mask": list(encoded["attention_mask"])}


def _pairs_seq2seq(
    tokenizer: "PreTrainedTokenizerBase",
    sources: list[str],
    targets: list[str],
    limits: tuple[int | None, int | None],
    prefix: str,
) -> Columns:
    columns = _encode(tokenizer, [prefix + text for text in sources], limits[0])
    columns["labels"] = _encode(tokenizer, targets, limits[1], target=True)["input_ids"]
    return columns


def _texts_causal(tokenizer: "PreTrainedTokenizerBase", texts: list[str], limit: int | None) -> Columns:
    eos = tokenizer.eos_token_id
    rows = [[*_without_eos(ids, eos), eos] for ids in _encode(tokenizer, texts, None)["input_ids"]]
    rows = [ids[:limit] for ids in rows]
    return {"input_ids": rows, "attention_mask": [[1] * len(ids) for ids in rows], "labels": rows}


def _pairs_causal(
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[str],
    completions: list[str],
    limits: tuple[int | None, int | None],
) -> Columns:
    eos = tokenizer.eos_token_id
    before = [_without_eos(ids, eos) for ids in _encode(tokenizer, prompts, None)["input_ids"]]
    before = [ids[-limits[0] :] if limits[0] else ids for ids in before]
    after = tokenizer(completions, add_special_tokens=False, verbose=False)["input_ids"]
    after = [[*ids, eos][: limits[1]] for ids in after]
    rows = [first + second for first, second in zip(before, after, strict=True)]
    labels = [[IGNORED] * len(first) + second for first, second in zip(before, after, strict=True)]
    return {"input_ids": rows, "attention_mask": [[1] * len(ids) for ids in rows], "labels": labels}


def _without_eos(ids: list[int], eos: int) -> list[int]:
    """The row without the end that some tokenizers append; a sole token is kept."""
    return list(ids[:-1]) if len(ids) > 1 and ids[-1] == eos else list(ids)
