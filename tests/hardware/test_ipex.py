"""IPEX 2.8 with torch 2.8, in an environment of its own: ``nox -s ipex``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts
from tiny_models import CONFIGS, save_tiny, train

ipex: Any = pytest.importorskip("intel_extension_for_pytorch", reason="only nox -s ipex installs it")


def request(**overrides: object) -> Requirements:
    """Train a tiny Llama whole."""
    model = read_model_facts({"model_type": "llama", **CONFIGS["llama"]})
    return Requirements(task="causal", model=model, effective_batch=8, adapter="full", overrides=overrides)


def test_auto_says_why_ipex_is_used_or_not() -> None:
    """The choice carries a reason either way."""
    chosen = choose_policy(detect(), request()).ipex
    print(f"\nhardware.ipex = auto -> {chosen.value}: {chosen.reason}")
    assert chosen.reason


def test_on_applies_ipex_optimize_and_takes_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``hardware.ipex = "on"``: the loader calls ipex.optimize, and one training step is finite."""
    applied: list[Any] = []
    real = ipex.optimize

    def watched(model: Any, **options: Any) -> Any:
        applied.append(options)
        return real(model, **options)

    monkeypatch.setattr(ipex, "optimize", watched)  # watches the library's function, and calls it
    policy = choose_policy(detect(), request(ipex="on"))
    seen, _ = train(
        save_tiny("llama", tmp_path / "model"),
        policy,
        tmp_path / "out",
        task="causal",
        steps=1,
        effective_batch=8,
    )
    print(f"\nhardware.ipex = on -> {policy.ipex.reason} ipex.optimize{applied}, loss {seen.losses[0]:.3f}")
    assert len(applied) == 1
