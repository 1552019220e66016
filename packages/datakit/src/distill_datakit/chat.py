"""Conversations: the ids of a chat template, and which of them the assistant said."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from distill_datakit.columns import IGNORED
from distill_datakit.errors import DataError, TokenizerError
from distill_datakit.special_tokens import BREAK, FIRST_MARK, SECOND_MARK, SpecialTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]
Span = tuple[int, int]
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


class ChatEncoder:
    """Renders conversations and says what of them is the assistant's, its end of turn included.

    A template with ``{% generation %}`` says so itself. For any other a turn is what the template adds
    between the prompt for it and the end of its message; where it writes earlier turns differently once
    later ones follow, as those do that drop old reasoning, it is the content and the special token behind.

    Args:
        tokenizer: A fast tokenizer, with a chat template unless one is given.
        template: A chat template that replaces the tokenizer's own.
        escape: Whether special tokens that are written in a message stay text.

    Raises:
        TokenizerError: No chat template, or a slow tokenizer.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", template: str | None = None, *, escape: bool = True
    ) -> None:
        if template is None and not tokenizer.chat_template:
            raise TokenizerError(
                "messages need a chat template and this tokenizer has none. Set tokenizer.chat_template, or "
                "give chat_template.",
                field="chat_template",
            )
        if not tokenizer.is_fast:
            raise TokenizerError(
                "messages need a fast tokenizer (tokenizer.json): only it says where a token is in the text.",
                field="tokenizer",
            )
        self._tokenizer, self._escape = tokenizer, escape
        self.template = str(tokenizer.get_chat_template(template))
        self._specials = SpecialTokens(tokenizer)

    def __call__(self, messages: Messages) -> tuple[list[int], list[int], bool]:
        """Ids, labels (-100 outside the assistant's turns), and whether something was escaped.

        Raises:
            DataError: The template refuses the messages, or what the assistant says cannot be separated.
        """
        given = [dict(message) for message in messages]
        if self._escape:
            given = [
                {
                    key: self._specials.broken(value, BREAK)
                    if key != "role" and isinstance(value, str)
                    else value
                    for key, value in message.items()
                }
                for message in given
            ]
        text, spans = self._spans(given)
        ids: list[int] = []
        labels: list[int] = []
        start = 0
        for piece in text.split(BREAK):
            # The template writes the special tokens itself.
            encoded = self._tokenizer(
                piece, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            for token, (first, last) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                said = any(start + last > begin and start + first < end for begin, end in spans)
                ids.append(token)
                labels.append(token if said else IGNORED)
            start += len(piece) + len(BREAK)
        return ids, labels, BREAK in text

    def _spans(self, messages: list[dict[str, str]]) -> tuple[str, list[Span]]:
        """The whole rendered text, and where in it (characters) the assistant speaks."""
        from jinja2 import TemplateError

        try:
            if _MARKED.search(self.template):
                return self._marked(messages)
            text = self._render(messages)
        except TemplateError as error:
            raise DataError(f"the chat template refuses the messages: {error}") from error
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        return text, [
            self._added(messages, index, text) or self._content(messages, index, text) for index in turns
        ]

    def _marked(self, messages: list[dict[str, str]]) -> tuple[str, list[Span]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered: Sequence[str]
        spans: Sequence[Sequence[Span]]
        rendered, spans = render_jinja_template(  # type: ignore[str-unpack,misc,assignment,unused-ignore]  # it is annotated with one of the two
            conversations=[messages],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            **cast("dict[str, Any]", self._tokenizer.special_tokens_map),
        )
        return str(rendered[0]), [(int(first), int(last)) for first, last in spans[0]]

    def _added(self, messages: list[dict[str, str]], index: int, text: str) -> Span | None:
        """Between the prompt for a turn and its end, if the template only appends."""
        from jinja2 import TemplateError

        try:
            before = self._render(messages[:index], prompt=True) if index else ""
            after = self._render(messages[: index + 1])
        except TemplateError:  # a template that needs roles to alternate, or a user's turn last
            return None
        whole = text.startswith(after) and after.startswith(before)
        return (len(before), len(after)) if whole else None

    def _content(self, messages: list[dict[str, str]], index: int, text: str) -> Span:
        """The content of a turn, found by rendering others in its place, and the special token behind it."""
        first, second = (
            self._render([*messages[:index], {**messages[index], "content": mark}, *messages[index + 1 :]])
            for mark in (FIRST_MARK, SECOND_MARK)
        )
        start = first.find(FIRST_MARK)
        head, tail = first[:start], first[start + 1 :]
        same = first.count(FIRST_MARK) == 1 and second == head + SECOND_MARK + tail
        if not (same and text.startswith(head) and text.endswith(tail) and len(text) >= len(head + tail)):
            raise DataError(
                f"the chat template writes message {index + 1} differently when later messages follow, so "
                "what the assistant says cannot be separated. Use a template that only appends, or mark "
                "it with {% generation %}."
            )
        ends = self._specials.found(tail)
        behind = len(ends[0]) if ends and tail.startswith(ends[0]) else 0
        return start, len(text) - len(tail) + behind

    def _render(self, messages: list[dict[str, str]], *, prompt: bool = False) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        )
