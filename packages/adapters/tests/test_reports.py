"""A model's size is counted on the model, tied weights once."""

import json
from pathlib import Path
from typing import Any

import pytest

from distill_adapters import AdapterConfig, attach, load_model, model_report, save_model


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


def test_blocks_are_counted_together(make: Any) -> None:
    """By part and by type the counts add up to all; an adapter belongs to what it adapts."""
    plain, adapted = model_report(make("llama")), model_report(attach(make("llama"), AdapterConfig(rank=2)))
    assert plain.by_module["model.layers.*.mlp"] == 2 * 3 * 32 * 64
    assert set(adapted.by_module) == set(plain.by_module)
    for report in (plain, adapted):
        assert sum(report.by_module.values()) == sum(report.by_dtype.values()) == report.total_parameters
    assert "model.layers.*.mlp" in str(plain)


def test_disk_and_estimate_stand_beside(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """The size of the weights' file, and what the policy expects; neither is known for a model made new."""
    folder = save_model(make("llama"), tmp_path / "model")
    policy = make_policy("llama")
    report = model_report(load_model(folder, policy), estimate=policy.memory)
    assert report.bytes_on_disk == (folder / "model.safetensors").stat().st_size
    found = json.loads(json.dumps(report.to_dict()))
    assert found["estimate"]["total_bytes"] == policy.memory.total_bytes
    assert "estimated peak" in str(report)
    assert model_report(make("llama")).bytes_on_disk is None
