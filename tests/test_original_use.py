"""Use of the original system by its own names, over the three packages that now define them."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tiny_models import WORDS, save_tiny

TYPES = [("marian", "seq2seq_lm"), ("llama", "causal_lm"), ("bert", "masked_lm")]


def write_data(path: Path, model_type: str) -> Path:
    """A file as users of the original system have it: one text per line, or pairs for a translator."""
    draw = random.Random(3)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(4, 9))) for _ in range(40)]
    if model_type != "seq2seq_lm":
        path.with_suffix(".txt").write_text("\n".join(texts), encoding="utf-8")
        return path.with_suffix(".txt")
    pairs = [{"source": text, "target": " ".join(reversed(text.split()))} for text in texts]
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    return path.with_suffix(".jsonl")


@pytest.mark.parametrize(("family", "model_type"), TYPES)
def test_the_originals_use_runs(family: str, model_type: str, tmp_path: Path) -> None:
    """Load, prepare, train with QLoRA, predict, score: the calls of its README, none of its sixteen faults.

    Each type starts at all, finds its own target modules, trains on shifted or masked labels, and what it
    wrote loads again.
    """
    import torch
    from transformers import EvalPrediction

    from distill_adapters import ModelLoader, QLoRAFineTuner, predict
    from distill_datakit import prepare_dataset_dict
    from distill_metrics import HFMetricHelper

    name = str(save_tiny(family, tmp_path / "base"))
    loader = ModelLoader(model_name=name, model_type=model_type, train_mode=True)
    assert loader.model.training
    tuner = QLoRAFineTuner(
        base_model=name, model_type=model_type, lora_rank=8, lora_alpha=32, lora_dropout=0.05
    )
    assert tuner.method == "qlora"
    path = write_data(tmp_path / "data", model_type)
    data = prepare_dataset_dict(path, loader.tokenizer, max_length=16, model_type=model_type)
    assert {part: len(data[part]) for part in ("train", "validation", "test")} == {
        "train": 32,
        "validation": 4,
        "test": 4,
    }
    outcome = tuner.train(data, output_dir=tmp_path / "out", num_train_epochs=2, learning_rate=1e-4)
    assert outcome.steps == 8
    assert outcome.metrics["eval_loss"] > 0
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["model", "tokenizer"]

    again = ModelLoader(model_name=name, model_type=model_type, adapter_path=tmp_path / "out" / "model")
    found = again.generate_logits([" ".join(WORDS[:5]), WORDS[0]])
    assert found["logits"].shape[:2] == found["attention_mask"].shape
    assert found["attention_mask"].sum(1).tolist()[1] < found["attention_mask"].sum(1).tolist()[0]

    labels: list[list[int]] = [
        list(row) for row in data["test"]["input_ids" if family == "bert" else "labels"]
    ]
    longest = max(map(len, labels))
    padded = torch.tensor([row + [-100] * (longest - len(row)) for row in labels]).numpy()
    perfect: Any = HFMetricHelper(loader.tokenizer).compute(EvalPrediction(padded, padded))
    assert perfect["rougeL"] == perfect["bleu"] == 100.0
    if model_type != "masked_lm":
        said = predict(again.model, again.tokenizer, data["test"], task=again.loaded.task)
        assert len(said.texts) == 4
