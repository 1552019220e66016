"""Conversations: the ids of a chat template, and which of them the assistant said."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill_datakit.errors import DataError, TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_IGNORED = -100
Messages = Sequence[Mapping[str, str]]


def encode_chat(
    tokenizer: "PreTrainedTokenizerBase", conversations: Sequence[Messages], limit: int | None
) -> dict[str, list[list[int]]]:
    """Render conversations and learn what the assistant says, its end-of-turn included.

    Works without generation markers in the template: a turn is what the template adds between the prompt
    for it and the end of its message.

    Args:
        tokenizer: Fast, with a chat template.
        conversations: Messages of ``role`` and ``content``.
        limit: Longest row in tokens, cut on the right; None cuts nothing.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels`` (-100 outside the assistant's turns).

    Raises:
        TokenizerError: No chat template, or a slow tokenizer.
        DataError: The template renders earlier turns differently once later ones follow.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TokenizerError(
            "messages need a chat template and this tokenizer has none. Set tokenizer.chat_template."
        )
    if not tokenizer.is_fast:
        raise TokenizerError(
            "messages need a fast tokenizer (tokenizer.json): only it says where a token stands in the text."
        )
    rows, labels = [], []
    for messages in conversations:
        text, spans = _spans(tokenizer, messages)
        # The template writes the special tokens itself.
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, offsets = encoded["input_ids"][:limit], encoded["offset_mapping"][:limit]
        rows.append(list(ids))
        learnt = (any(start >= first and start < last for first, last in spans) for start, _ in offsets)
        labels.append([token if said else _IGNORED for token, said in zip(ids, learnt, strict=True)])
    return {"input_ids": rows, "attention_mask": [[1] * len(ids) for ids in rows], "labels": labels}


def _spans(tokenizer: "PreTrainedTokenizerBase", messages: Messages) -> tuple[str, list[tuple[int, int]]]:
    """The whole rendered text, and where in it (characters) the assistant speaks."""
    text = _render(tokenizer, messages)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(tokenizer, messages[:index], prompt=True) if index else ""
        after = _render(tokenizer, messages[: index + 1])
        if not (text.startswith(after) and after.startswith(before)):
            raise DataError(
                f"the chat template writes message {index + 1} differently when later messages follow, so "
                "what the assistant says cannot be told apart. Use a template that only appends."
            )
        spans.append((len(before), len(after)))
    return text, spans


def _render(tokenizer: "PreTrainedTokenizerBase", messages: Messages, *, prompt: bool = False) -> str:
    given = [dict(message) for message in messages]
    return str(tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=prompt))
