"""The silent faults of Optimum's exports, planted one by one: the check or the certificate catches each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_deploy import (
    ExportError,
    ExportRefusedError,
    backend_openvino,
    downgrade,
    export,
    optimum_export,
)

pytestmark = [pytest.mark.slow, pytest.mark.extra("openvino")]  # noqa: S610
Trained = Callable[[str], Path]
Texts = Callable[[str], list[str]]


def isolated(folder: Path, out: Path, texts: list[str], form: Any = "openvino") -> object:
    """An fp32 export in an environment of its own."""
    return export(
        folder, out, exporter="optimum", isolated=True, format=form, precision="fp32", held_out=texts,
        max_new_tokens=12,
    ).certificate["verified"]  # fmt: skip


def unchanged(content: dict[str, Any]) -> dict[str, Any]:
    """As transformers 5 wrote it."""
    return content


def test_a_rope_theta_that_older_transformers_loses(
    trained: Trained, held_out: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check names both values; were it not made, the certificate would refuse the export."""
    monkeypatch.setattr(downgrade, "downgraded_config", unchanged)
    with pytest.raises(ExportError, match=r"rope_theta = .*the model says 500"):
        isolated(trained("qwen3"), tmp_path / "e", held_out("qwen3"))

    def unknown(_source: object) -> None:
        return None

    monkeypatch.setattr(optimum_export, "_rope_theta", unknown)
    with pytest.raises(ExportRefusedError, match="logits differ"):
        isolated(trained("qwen3"), tmp_path / "e", held_out("qwen3"))


def test_a_tokenizer_that_older_transformers_loses(
    trained: Trained, held_out: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that it does not know is an error before anything is exported."""
    monkeypatch.setattr(downgrade, "downgraded_tokenizer", unchanged)
    with pytest.raises(ExportError, match="cannot read the tokenizer"):
        isolated(trained("t5"), tmp_path / "e", held_out("t5"), "onnx")


def test_the_default_precision_of_openvino(
    trained: Trained, held_out: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that is kept in less than float32 is refused by name; with the hints the export is verified."""
    assert isolated(trained("llama"), tmp_path / "whole", held_out("llama"))
    monkeypatch.setattr(backend_openvino, "EXACT", {})
    with pytest.raises(ExportRefusedError, match="KV_CACHE_PRECISION"):
        isolated(trained("llama"), tmp_path / "e", held_out("llama"))
    found = json.loads((tmp_path / "e.rejected" / "certificate.json").read_text())
    assert any("float32" in failure for failure in found["failures"])
