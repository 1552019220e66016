"""The run files that ship: every one is planned."""

import json
from pathlib import Path

import pytest

from distill_app_trainer import check_run, examples_folder, read_run_file
from distill_app_trainer.cli import main
from distill_app_trainer.runfile.locate import example_names

# What the hub says of the models that the examples name: enough to plan with.
HUB: dict[str, dict[str, object]] = {
    "google-t5/t5-small": {
        "model_type": "t5",
        "d_model": 512,
        "num_layers": 6,
        "vocab_size": 32128,
        "d_ff": 2048,
    },
    "HuggingFaceTB/SmolLM2-135M-Instruct": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "google-bert/bert-base-uncased": {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 30522,
    },
}
ROWS = {
    "hub-t5-lora": ("train.jsonl", {"source": "a", "target": "b"}),
    "hub-smollm2-qlora": ("train.jsonl", {"prompt": "a", "completion": "b"}),
    "hub-bert-distill": ("train.txt", None),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a hub cache with the configurations of some models."""
    import huggingface_hub.constants as constants

    for name, config in HUB.items():
        folder = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (folder / "snapshots" / "1").mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("1", encoding="utf-8")
        (folder / "snapshots" / "1" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / "snapshots" / "1" / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.mark.parametrize("name", example_names())
def test_every_example_is_planned(name: str, hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, order, data, columns and metrics are right, and each stage has a policy; nothing is written."""
    if name in ROWS:
        file, row = ROWS[name]
        lines = [
            f"some text {number}" if row is None else json.dumps({**row, "id": number})
            for number in range(40)
        ]
        (hub / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["plan", name]) == 0
    said = capsys.readouterr().out
    config = read_run_file(examples_folder() / f"{name}.toml")
    assert check_run(config) == config.run.task
    assert all(f"Stage    {stage} (" in said for stage in config.stages)
    assert not (hub / "runs").exists()
