"""The silent faults of Optimum's exports, planted: the check catches each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_deploy import ExportError, export, legacy

pytestmark = [pytest.mark.slow, pytest.mark.extra("export")]  # noqa: S610
Trained = Callable[[str], Path]
Texts = Callable[[str], list[str]]


def isolated(folder: Path, out: Path, texts: list[str], form: Any = "onnx") -> object:
    """An fp32 export in an environment of its own."""
    return export(
        folder, out, exporter="optimum", isolated=True, format=form, precision="fp32", held_out=texts,
        max_new_tokens=12,
    ).certificate["verified"]  # fmt: skip


def unchanged(content: dict[str, Any]) -> dict[str, Any]:
    """As transformers 5 wrote it."""
    return content


def test_a_tokenizer_that_older_transformers_loses(
    trained: Trained, held_out: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that it does not know is an error before anything is exported."""
    monkeypatch.setattr(legacy, "legacy_tokenizer", unchanged)
    with pytest.raises(ExportError, match="cannot read the tokenizer"):
        isolated(trained("t5"), tmp_path / "e", held_out("t5"))
