"""A model's size is counted on the model, tied weights once."""

import json
from typing import Any

import pytest

from distill_adapters import AdapterConfig, attach, model_report


@pytest.mark.parametrize("family", ["marian", "t5", "gpt2", "bert"])
def test_counts_are_those_of_torch(family: str, make: Any) -> None:
    """Each stored tensor once, four bytes a number in float32, buffers with them."""
    loaded = make(family)
    report = model_report(loaded)
    numbers = sum(part.numel() for part in loaded.model.parameters())
    buffers = sum(part.numel() * part.element_size() for part in loaded.model.buffers())
    assert report.total_parameters == numbers == report.by_dtype["float32"]
    assert report.bytes_in_memory == 4 * numbers + buffers
    assert report.quantized_share == 0.0


def test_an_adapter_counts_as_trainable(make: Any) -> None:
    """Rank times both sides of each layer; a person and a program can read it."""
    adapted = attach(make("gpt2"), AdapterConfig(rank=2, targets=("c_fc",)))
    report = model_report(adapted)
    assert report.trainable_parameters == 2 * 2 * (32 + 128)
    assert "640 trainable" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["trainable_parameters"] == 640
