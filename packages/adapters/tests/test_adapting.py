"""Adapters go where they should, learn, save, load, merge - and say so where they cannot."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from distill_adapters import (
    AdapterConfig,
    AdapterError,
    ConfigError,
    LoadedModel,
    MergeError,
    ModelLoadError,
    TargetError,
    attach,
    load_model,
    merge,
    model_report,
    resolve_targets,
    save_model,
)
from distill_adapters.__main__ import main
from distill_deploy import verify

qlora = pytest.mark.extra("qlora")  # noqa: S610 - a marker, not a query
ALL = ("marian", "bart", "t5", "gpt2", "llama", "bert", "distilbert")
ATTENTION = ("k_proj", "out_proj", "q_proj", "v_proj")
EXPECTED = {
    "marian": {*ATTENTION, "fc1", "fc2"},
    "bart": {*ATTENTION, "fc1", "fc2"},
    "t5": {"k", "o", "q", "v", "wi", "wo"},
    "gpt2": {"c_attn", "c_fc", "c_proj"},
    "llama": {"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"},
    "bert": {"dense", "key", "query", "value"},
    "distilbert": {"k_lin", "lin1", "lin2", "out_lin", "q_lin", "v_lin"},
}


def logits(loaded: LoadedModel) -> torch.Tensor:
    """Of fixed token ids."""
    ids = torch.arange(12).reshape(2, 6)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if loaded.task == "seq2seq":
        given["decoder_input_ids"] = ids.flip(1)
    loaded.model.train(mode=False)
    with torch.no_grad():
        scores: torch.Tensor = loaded.model(**given).logits
    return scores


@pytest.mark.parametrize("family", ALL)
def test_targets_are_the_bodys_linear_layers(family: str, make: Any) -> None:
    """All of every block, and no head, which is named with the reason."""
    report = resolve_targets(make(family).model)
    assert {name.rpartition(".")[2] for name in report.names} == EXPECTED[family]
    assert all(chosen == every > 0 for chosen, every in report.coverage.values())
    assert report.excluded
    assert all("output embedding" in why or "head" in why for why in report.excluded.values())
    assert not set(report.names) & set(report.excluded)


def test_a_mixtures_routers_are_left_alone() -> None:
    """A router that is trained by low rank sends tokens elsewhere."""
    config = transformers.SwitchTransformersConfig(
        vocab_size=24, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, num_experts=2
    )
    report = resolve_targets(transformers.SwitchTransformersForConditionalGeneration(config))
    routers = [name for name in (*report.names, *report.excluded) if "router" in name]
    assert not set(routers) & set(report.names)


@pytest.mark.parametrize("family", ["marian", "llama", "bert"])
def test_attention_alone_leaves_the_rest(family: str, make: Any) -> None:
    """And coverage says that a block is partly adapted."""
    report = resolve_targets(make(family).model, "attention")
    assert report.names
    assert all("att" in name.lower() for name in report.names)
    assert "not in attention" in report.excluded.values()


def test_names_that_match_nothing_are_refused(make: Any) -> None:
    """With the nearest that exists; never a silent partial match."""
    model = make("marian").model
    assert {name.rpartition(".")[2] for name in resolve_targets(model, ["fc1", "q_proj"]).names} == {
        "fc1",
        "q_proj",
    }
    with pytest.raises(TargetError, match=r"'q_porj' matches no linear layer.* Did you mean 'q_proj'"):
        resolve_targets(model, ["fc1", "q_porj"])


def test_patterns_select_by_the_whole_name(make: Any) -> None:
    """``*`` stands for anything; a pattern that matches nothing is refused like a name."""
    model = make("marian").model
    chosen = resolve_targets(model, ["encoder.*.q_proj", "decoder.*.fc?"]).names
    assert sorted(name.rpartition(".layers.0.")[2] for name in chosen) == ["fc1", "fc2", "self_attn.q_proj"]
    assert all("encoder" in name for name in chosen if name.endswith("q_proj"))
    with pytest.raises(TargetError, match="matches no linear layer"):
        resolve_targets(model, ["encoder.*.encoder_attn.*"])


def test_stacked_experts_are_named(make: Any) -> None:
    """A block whose experts are one tensor is adapted in part, and coverage says so."""
    config = transformers.MixtralConfig(
        vocab_size=24,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    report = resolve_targets(transformers.MixtralForCausalLM(config))
    adapted, every = report.coverage["model.layers.0"]
    assert adapted == 4 < every
    assert any("experts" in name and "stacked" in why for name, why in report.excluded.items())


def test_a_layer_that_is_not_used_fails_the_proof(make: Any) -> None:
    """A few tokens forward and back show it, before anything trains; no state is left behind."""
    loaded = make("llama")
    loaded.model.model.layers[0].idle = torch.nn.Linear(4, 4)
    state = torch.random.get_rng_state()
    with pytest.raises(TargetError, match=r"2 parts of the adapter get no gradient, such as .*idle"):
        attach(loaded, AdapterConfig())
    assert all(part.grad is None for part in loaded.model.parameters())
    attach(make("gpt2"), AdapterConfig(dropout=0.5))
    assert not torch.equal(torch.random.get_rng_state(), state)  # the adapter's own first weights


def data(error: AdapterError) -> tuple[object, object, object]:
    """What an error says without words."""
    return error.field, error.found, error.suggestion


def test_what_does_not_go_together_is_refused(make: Any) -> None:
    """Two adapters, MiSS on Conv1D, LoRA's options on another kind."""
    adapted = attach(make("gpt2"))
    with pytest.raises(ModelLoadError, match="already has an adapter"):
        attach(adapted)
    with pytest.raises(TargetError, match="MiSS adapts linear layers") as caught:
        attach(make("gpt2"), AdapterConfig(kind="miss"))
    assert data(caught.value) == ("kind", "miss", "lora")
    with pytest.raises(ConfigError) as refused:
        AdapterConfig(kind="ia3", decomposed=True)
    assert data(refused.value) == ("decomposed", True, False)


def train(make_trainer: Any, family: str, loaded: LoadedModel, steps: int) -> list[float]:
    """Losses of some steps on four rows."""
    told: list[dict[str, float]] = []
    trainer = make_trainer(
        family,
        loaded=loaded,
        config={"steps": steps, "learning_rate": 0.01, "schedule": "cosine"},
        on_progress=told.append,
    )
    trainer.train()
    return [entry["loss"] for entry in told]


@pytest.mark.parametrize("family", [*ALL, "qwen3", "gemma", "modernbert"])
def test_lora_overfits_saves_loads_and_merges(
    family: str, make: Any, make_policy: Any, make_trainer: Any, tmp_path: Path
) -> None:
    """The loss of four rows falls tenfold, the base stays bit for bit, and reload and merge say the same."""
    base = save_model(make(family), tmp_path / "base")
    policy = make_policy(family, adapter="lora")
    frozen = load_model(base, policy)
    before = {name: value.clone() for name, value in frozen.model.state_dict().items()}
    adapted = attach(frozen, AdapterConfig(dropout=0.0))
    report = model_report(adapted)
    assert 0 < report.trainable_parameters < report.total_parameters
    losses = train(make_trainer, family, adapted, 200 if family == "t5" else 100)
    assert min(losses[-5:]) < losses[0] / 10
    inner: Any = adapted.model
    kept = inner.get_base_model().state_dict()
    for name, value in before.items():
        moved = (
            name
            if name in kept
            else name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias")
        )
        assert torch.equal(kept[moved], value)
    expected = logits(adapted)
    save_model(adapted, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert torch.equal(logits(load_model(tmp_path / "adapter", policy)), expected)
    merge(tmp_path / "adapter", tmp_path / "merged")
    verify(tmp_path / "merged", require_manifest=True)
    merged = load_model(tmp_path / "merged", make_policy(family, training=False), training=False)
    assert not hasattr(merged.model, "peft_config")
    assert float((logits(merged) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@qlora
@pytest.mark.parametrize("family", ["marian", "llama", "bert"])
def test_qlora_trains_on_four_bits(
    family: str, make: Any, make_policy: Any, make_trainer: Any, tmp_path: Path
) -> None:
    """Real nf4 on this CPU: most weights in four bits, frozen, the loss halves, and the adapter merges."""
    base = save_model(make(family), tmp_path / "base")
    policy = make_policy(family, adapter="qlora")
    assert policy.quantization.value == "nf4"
    adapted = attach(load_model(base, policy), AdapterConfig(kind="qlora", dropout=0.0))
    report = model_report(adapted)
    assert report.by_dtype["nf4"] == report.quantized_parameters > 0.3 * report.total_parameters
    assert report.bytes_in_memory < model_report(load_model(base, make_policy(family))).bytes_in_memory
    losses = train(make_trainer, family, adapted, 40)
    assert min(losses[-5:]) < losses[0] / 2
    save_model(adapted, tmp_path / "adapter")
    again = load_model(tmp_path / "adapter", policy)
    assert torch.allclose(logits(again), logits(adapted), atol=1e-5)
    merged = merge(tmp_path / "adapter", tmp_path / "merged")
    assert "quantization_config" not in json.loads((merged / "config.json").read_text())


@qlora
def test_int8_weights_train_an_adapter(
    make: Any, make_policy: Any, make_trainer: Any, tmp_path: Path
) -> None:
    """Eight bits hold a frozen base as well."""
    base = save_model(make("llama"), tmp_path / "base")
    loaded = load_model(base, make_policy("llama", adapter="lora", quantization="int8"))
    adapted = attach(loaded, AdapterConfig(dropout=0.0))
    assert model_report(adapted).quantized_parameters > 0
    losses = train(make_trainer, "llama", adapted, 30)
    assert min(losses[-5:]) < losses[0] / 2


def test_qlora_on_whole_weights_is_refused(make: Any) -> None:
    """It would be LoRA under another name."""
    with pytest.raises(ModelLoadError, match="without quantization") as caught:
        attach(make("marian"), AdapterConfig(kind="qlora"))
    assert data(caught.value) == ("kind", "qlora", "lora")


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gpt2", {"rank_stabilized": True}),
        ("gpt2", {"decomposed": True}),
        ("gpt2", {"modules_to_save": ("lm_head",)}),
        ("gpt2", {"kind": "ia3"}),
        ("marian", {"kind": "ia3"}),
        ("llama", {"kind": "miss"}),
    ],
    ids=str,
)
def test_kin_of_lora_learn(family: str, options: dict[str, Any], make: Any, make_trainer: Any) -> None:
    """RsLoRA, DoRA, a head that is trained whole; IA3 and MiSS, which have fewer numbers, more slowly."""
    adapted = attach(make(family), AdapterConfig(dropout=0.0, **options))
    losses = train(make_trainer, family, adapted, 12)
    assert losses[-1] < (0.9 if "kind" in options else 0.7) * losses[0]


def test_checkpointing_changes_no_loss(make: Any, make_trainer: Any) -> None:
    """Activations computed twice give the same losses, with an adapter as well."""
    results = []
    for on in (False, True):
        told: list[dict[str, float]] = []
        trainer = make_trainer(
            "llama",
            loaded=attach(make("llama"), AdapterConfig(dropout=0.0)),
            policy={"gradient_checkpointing": on},
            on_progress=told.append,
        )
        torch.manual_seed(0)
        trainer.train()
        results.append([entry["loss"] for entry in told])
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert len(results[1]) == 3


def test_a_merge_that_says_something_else_is_refused(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """Above the bound nothing is written."""
    base = save_model(make("llama"), tmp_path / "base")
    adapted = attach(load_model(base, make_policy("llama", adapter="lora")), AdapterConfig())
    with torch.no_grad():
        for name, part in adapted.model.named_parameters():
            if "lora_B" in name:
                part.normal_()
    save_model(adapted, tmp_path / "adapter")
    with pytest.raises(MergeError, match="nothing was written"):
        merge(tmp_path / "adapter", tmp_path / "merged", bound=1e-12)
    assert not (tmp_path / "merged").exists()
    with pytest.raises(ModelLoadError, match="holds no adapter"):
        merge(base, tmp_path / "merged")


def test_the_command_line_merges(
    make: Any, make_policy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its path on standard output; one line and exit code 1 where there is nothing to merge."""
    base = save_model(make("marian"), tmp_path / "base")
    save_model(
        attach(load_model(base, make_policy("marian", adapter="lora")), AdapterConfig()), tmp_path / "adapter"
    )
    out = str(tmp_path / "merged")
    assert main(["merge", str(tmp_path / "adapter"), out]) == 0
    assert capsys.readouterr().out.strip() == out
    assert main(["merge", str(base), out]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
