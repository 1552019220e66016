"""The names of the original system do what they did, for all three model types."""

from pathlib import Path
from typing import Any

import pytest
import torch

from distill_adapters import AdapterConfig, ModelLoader, QLoRAFineTuner, load_model, save_model

qlora = pytest.mark.extra("qlora")  # noqa: S610 - a marker, not a query
TYPES = [("marian", "seq2seq_lm"), ("gpt2", "causal_lm"), ("bert", "masked_lm")]


def rows_of(family: str, make_rows: Any) -> Any:
    """Masked rows are masked by the collator."""
    return make_rows({"marian": "seq2seq"}.get(family, "causal"), count=8)


@pytest.mark.parametrize(("family", "model_type"), TYPES)
def test_models_load_by_their_old_names(family: str, model_type: str, make: Any, tmp_path: Path) -> None:
    """With device, type and profile, and logits of texts of unequal length."""
    folder = save_model(make(family), tmp_path / "model")
    loader = ModelLoader(model_name=str(folder), model_type=model_type)
    assert loader.use_gpu == (loader.device != "cpu")
    assert loader.get_model_profile()["total_parameters"] == sum(p.numel() for p in loader.model.parameters())
    found = loader.generate_logits(["w1 w2 w3", "w4"])
    assert found["logits"].shape == (2, 4, 24)
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    alone = loader.generate_logits(["w4"])["logits"][0]
    torch.testing.assert_close(found["logits"][1, :2], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "model_type"), TYPES)
def test_a_loader_attaches_a_fresh_adapter(family: str, model_type: str, make: Any, tmp_path: Path) -> None:
    """Only it is trainable."""
    folder = save_model(make(family), tmp_path / "model")
    loader = ModelLoader(str(folder), model_type, lora_config=AdapterConfig(rank=4), train_mode=True)
    trainable = [name for name, part in loader.model.named_parameters() if part.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)


@qlora
@pytest.mark.parametrize(("family", "model_type"), TYPES)
def test_qlora_trains_and_writes_model_and_tokenizer(
    family: str, model_type: str, make: Any, make_rows: Any, make_policy: Any, tmp_path: Path
) -> None:
    """Four bits where the device can; ``output_dir/model`` and ``output_dir/tokenizer`` load again."""
    folder = save_model(make(family), tmp_path / "model")
    tuner = QLoRAFineTuner(base_model=str(folder), model_type=model_type, lora_rank=4, lora_alpha=8)
    assert tuner.method == "qlora"
    rows = rows_of(family, make_rows)
    outcome = tuner.train(
        {"train": rows, "validation": rows},
        output_dir=tmp_path / "out",
        num_train_epochs=2,
        learning_rate=1e-3,
    )
    assert outcome.steps == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model", "tokenizer"]
    again = load_model(tmp_path / "out" / "model", make_policy(family, adapter="lora"))
    assert hasattr(again.model, "peft_config")
    with pytest.raises(FileExistsError, match="choose another output_dir"):
        tuner.train({"train": rows}, output_dir=tmp_path / "out")
    loader = ModelLoader(str(folder), model_type, adapter_path=tmp_path / "out" / "model")
    assert hasattr(loader.model, "peft_config")


def test_lora_is_there_without_four_bits(make: Any, make_rows: Any, tmp_path: Path) -> None:
    """``use_qlora=False`` trains a plain LoRA on the named modules."""
    folder = save_model(make("marian"), tmp_path / "model")
    tuner = QLoRAFineTuner(str(folder), "seq2seq_lm", use_qlora=False, target_modules=["q_proj", "v_proj"])
    assert tuner.method == "lora"
    assert tuner.train({"train": make_rows("seq2seq")}, tmp_path / "out", num_train_epochs=1).steps == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model_name": " "}, "model_name is empty"),
        ({"model_name": "x", "max_length": 0}, "max_length = 0"),
        ({"model_name": "x", "model_type": "seq2seq"}, "causal_lm, seq2seq_lm, masked_lm"),
        ({"model_name": "x", "adapter_path": "y", "lora_config": True}, "give one"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], said: str) -> None:
    """As the original did, before anything is loaded."""
    with pytest.raises(ValueError, match=said):
        ModelLoader(**options)
