"""The files that the examples in docstrings read, tiny and made on the spot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tiny_models import save_tiny

if TYPE_CHECKING:
    from pathlib import Path

_FAMILIES = {"translator": "marian", "writer": "llama", "filler": "bert"}


def write_example_files(folder: Path) -> Path:
    """Write what examples name by its path, and give the folder back.

    - ``pairs.jsonl``: 40 rows of ``source`` and ``target``; ``texts.jsonl``: 40 rows of ``text``.
    - ``translator``, ``writer``, ``filler``: saved models (seq2seq Marian, causal Llama, masked BERT) with
      random weights and a tokenizer of the words ``w0`` to ``w90``.

    Args:
        folder: An empty folder.
    """
    for name, family in _FAMILIES.items():
        save_tiny(family, folder / name)
    words = [" ".join(f"w{(number * 7 + place) % 91}" for place in range(4)) for number in range(40)]
    pairs = [{"source": text, "target": " ".join(reversed(text.split()))} for text in words]
    for name, rows in (("pairs", pairs), ("texts", [{"text": text} for text in words])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder
