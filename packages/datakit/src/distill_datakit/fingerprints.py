"""Say what a tokenized dataset was made from, so that caches and checkpoints can tell."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase


def digest(value: object) -> str:
    """SHA-256 of a value written as canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def data_digest(data: "Dataset | DatasetDict") -> str:
    """SHA-256 over every row of every split, in order; files, paths, times and caches play no part."""
    parts: Mapping[str, Dataset] = data if isinstance(data, dict) else {"": data}
    total = hashlib.sha256()
    for name, part in parts.items():
        total.update(f"split {json.dumps(name)} {len(part)}\n".encode())
        columns = sorted(part.column_names)
        for batch in part.iter(batch_size=1000):
            rows = [list(values) for values in zip(*(batch[column] for column in columns), strict=True)]
            text = json.dumps([columns, rows], sort_keys=True, ensure_ascii=False, default=str)
            total.update(text.encode("utf-8", "surrogatepass"))
    return total.hexdigest()


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
