"""SHA-256 of values, rows, datasets and tokenizers."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase


def digest(value: object) -> str:
    """SHA-256 of a value written as canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: "Path") -> str:
    """SHA-256 of the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical(value: object) -> bytes:
    """One text for a row or value, whatever the order of columns; columns without a value do not count."""
    text = json.dumps(_held(value), sort_keys=True, ensure_ascii=False, default=str)
    return text.encode("utf-8", "surrogatepass")


def _held(value: object) -> object:
    if isinstance(value, dict):
        return {name: _held(part) for name, part in value.items() if part is not None}
    return [_held(part) for part in value] if isinstance(value, list | tuple) else value


class RowsDigest:
    """SHA-256 over the rows of each split, in order; files, paths, times and caches play no part."""

    def __init__(self) -> None:
        self._parts: dict[str, hashlib._Hash] = {}

    def add(self, part: str, row: "Mapping[str, object]") -> None:
        """Take in the next row of a split."""
        text = canonical(row)
        self._parts.setdefault(part, hashlib.sha256()).update(b"%d\n%b" % (len(text), text))

    def __str__(self) -> str:
        """Hexadecimal."""
        return digest({name: part.hexdigest() for name, part in self._parts.items()})


def data_digest(data: "Dataset | DatasetDict", *, columns: "Sequence[str] | None" = None) -> str:
    """The ``RowsDigest`` of a dataset, of all its columns or of those named, as far as it has them."""
    total = RowsDigest()
    for name, part in (data if isinstance(data, dict) else {"": data}).items():
        kept = (
            part if columns is None else part.select_columns([c for c in columns if c in part.column_names])
        )
        for row in kept:
            total.add(name, row)
    return str(total)


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of what turns text into ids: the content of ``tokenizer.json``, or a slow one's vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and hasattr(backend, "to_str"):
        state = json.loads(backend.to_str())
        # Left behind by earlier calls with padding or truncation; every call sets its own.
        state.pop("padding", None)
        state.pop("truncation", None)
    else:
        state = [type(tokenizer).__name__, tokenizer.get_vocab()]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return digest([state, special])
