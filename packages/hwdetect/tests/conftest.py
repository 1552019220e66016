"""Recorded machines and models of known size, shared by the tests of this package."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from distill_hwdetect import HardwareProfile, ModelFacts, profile_from_recorded, read_model_facts

PROFILES = Path(__file__).parent / "profiles"


@pytest.fixture
def recorded() -> Callable[[str], HardwareProfile]:
    """Return the profile of a recorded machine by its identifier."""

    def read(name: str) -> HardwareProfile:
        return profile_from_recorded(json.loads((PROFILES / f"{name}.json").read_text(encoding="utf-8")))

    return read


@pytest.fixture
def sized() -> Callable[[str], ModelFacts]:
    """Return a Llama-like model of 0.1 to 70 billion parameters, or another family's usual one."""
    configs: Mapping[str, tuple[int, int, int, int, int]] = {
        # hidden, inner, layers, heads, kv heads
        "0.1b": (576, 1536, 30, 9, 3),
        "1b": (2048, 8192, 16, 32, 8),
        "8b": (4096, 14336, 32, 32, 8),
        "13b": (5120, 13824, 40, 40, 40),
        "70b": (8192, 28672, 80, 64, 8),
    }

    def make(name: str) -> ModelFacts:
        if name not in configs:
            return read_model_facts({"model_type": name})
        hidden, inner, layers, heads, kv = configs[name]
        return read_model_facts(
            {
                "model_type": "llama",
                "vocab_size": 32000,
                "hidden_size": hidden,
                "intermediate_size": inner,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "num_key_value_heads": kv,
            }
        )

    return make
