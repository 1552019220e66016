"""Texts, chats and batches without transformers: what every backend's runtime shares."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from distill_deploy.errors import ArgumentError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

CHAT_TEMPLATE = "chat_template.jinja"


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of an export, without padding and truncation.

    Raises:
        IntegrityError: There is none.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise IntegrityError(
            f"{folder}: {path.name} is missing, and nothing can be read or written without it"
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def render_chat(
    folder: Path, messages: Sequence[Mapping[str, object]], special: Mapping[str, str | None]
) -> str:
    """The prompt that the folder's chat template makes of ``messages``, ready for an answer.

    Args:
        folder: An export with ``chat_template.jinja``.
        messages: ``{"role": ..., "content": ...}`` in their order.
        special: Texts of the special tokens that a template may name, such as ``bos_token``.

    Raises:
        ArgumentError: The export has no chat template, or the template refuses these messages.
    """
    import jinja2
    import jinja2.sandbox

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    path = folder / CHAT_TEMPLATE
    if not path.exists():
        raise ArgumentError(
            f"{folder} has no chat template; give its model a plain prompt instead", field="messages"
        )
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, indent=options.get("indent")
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    known = {name: text for name, text in special.items() if text is not None}
    try:
        template = environment.from_string(path.read_text(encoding="utf-8"))
        text: str = template.render(messages=messages, add_generation_prompt=True, **known)
    except jinja2.TemplateError as error:
        raise ArgumentError(
            f"the chat template of {folder} refuses these messages: {error}",
            field="messages",
            found=list(messages),
        ) from error
    return text


def batches(lengths: Sequence[int], size: int, *, equal: bool) -> Iterator[list[int]]:
    """Row numbers in batches of like length; with ``equal`` a batch holds one length only.

    CTranslate2 counts the uneven ends of prompts as generated tokens, so prompts are never mixed.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda number: (lengths[number], number)):
        if batch and (len(batch) == size or (equal and lengths[row] != lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of rows, filled up at their ends, and 1 where an id is not filling; ``(batch, longest row)``."""
    import numpy as np

    ids = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return ids, mask


def usable_cores() -> int:
    """Cores that this process may run on."""
    import os

    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pieces:
    """Turns ids that arrive one by one into pieces of text; joined they are the decoded whole.

    ``stop`` texts end it: ``done`` becomes true and nothing from the stop text on is given out. A piece that
    might be the beginning of one is held back.
    """

    def __init__(self, decode: Any, stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, stop
        self._ids: list[int] = []
        self._shown = ""
        self.done = False

    def add(self, number: int) -> str:
        """The text that became certain with one more id, often empty."""
        self._ids.append(number)
        whole = self._decode(self._ids)
        cut = cut_at(whole, self._stop)
        self.done = cut != whole
        if self.done:
            return self._upto(cut)
        if whole.endswith("\N{REPLACEMENT CHARACTER}") or not whole.startswith(self._shown):
            return ""
        held = max(
            (n for text in self._stop for n in range(1, len(text)) if whole.endswith(text[:n])), default=0
        )
        return self._upto(whole[: len(whole) - held])

    def rest(self) -> str:
        """What was held back, at the end."""
        return "" if self.done else self._upto(self._decode(self._ids))

    def _upto(self, text: str) -> str:
        new = text[len(self._shown) :] if text.startswith(self._shown) else ""
        self._shown += new
        return new


def cut_at(text: str, stop: Sequence[str]) -> str:
    """``text`` before the first of the ``stop`` texts in it."""
    found = [place for place in (text.find(one) for one in stop) if place >= 0]
    return text[: min(found)] if found else text
