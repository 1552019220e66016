"""Architectures of transformers, built tiny: what is adapted, one step, merging, loading.

A dozen run by default, all with ``-m "slow or not slow"``; ``-s`` prints the list of docs/architectures.md.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from distill_adapters import (
    AdapterConfig,
    FineTuner,
    LoadedModel,
    Task,
    TrainConfig,
    attach,
    load_model,
    merge,
    new_model,
    resolve_targets,
    save_model,
)

# Fields that families call by different names; each takes those it has.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_experts_per_tok"), 1),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("intermediate_size", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts"), 2),
    "head_dim": 16,
    "d_kv": 16,
    "rotary_dim": 8,
    "moe_intermediate_size": 32,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "mobilebert": {"embedding_size": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
}
CAUSAL = (
    "apertus arcee biogpt bitnet bloom codegen cohere cohere2 ctrl diffllama ernie4_5 "
    "exaone4 falcon falcon_mamba flex_olmo gemma gemma2 gemma3_text glm glm4 gpt2 gpt_bigcode gpt_neo "
    "gpt_neox gpt_oss gptj granite granitemoe helium hunyuan_v1_dense jetmoe lfm2 llama mamba ministral "
    "mistral mixtral mpt nemotron olmo olmo2 olmo3 olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 "
    "qwen2_moe qwen3 qwen3_moe seed_oss smollm3 stablelm starcoder2 xglm"
)
SEQ2SEQ = (
    "bart bigbird_pegasus blenderbot blenderbot-small fsmt led longt5 m2m_100 marian mbart mt5 nllb-moe "
    "pegasus pegasus_x plbart prophetnet switch_transformers t5 umt5"
)
MASKED = (
    "albert bert big_bird camembert convbert data2vec-text deberta deberta-v2 distilbert electra ernie "
    "flaubert fnet funnel longformer megatron-bert mobilebert modernbert mpnet nystromformer rembert "
    "roberta roberta-prelayernorm roformer xlm xlm-roberta xlm-roberta-xl yoso"
)
DEFAULT = "bart bert distilbert fsmt gemma2 gpt2 llama longformer m2m_100 mamba mixtral modernbert t5"
ALL: list[tuple[str, Task]] = [
    *((name, "causal") for name in CAUSAL.split()),
    *((name, "seq2seq") for name in SEQ2SEQ.split()),
    *((name, "masked") for name in MASKED.split()),
]
HEADS = (
    "lm_head",
    "cls",
    "pooler",
    "router",
    "vocab",
    "output_projection",
    "predictions",
    "shared_expert_gate",
)


@pytest.fixture(name="table", scope="module")
def _table() -> Iterator[list[str]]:
    """Collects a line for each architecture; printed at the end."""
    lines: list[str] = []
    yield lines
    print(f"\n{len(lines)} architectures, transformers {transformers.__version__}")
    print("| model_type | task | adapted | left alone | PEFT's own default | merge error |")
    print("|---|---|---|---|---|---|", *sorted(lines), sep="\n")


def build(name: str, task: Task, tokenizer: Any) -> LoadedModel:
    """A tiny model of an architecture."""
    plain = AutoConfig.for_model(name)
    aliases = {alias for alias, field in plain.attribute_map.items() if alias in SMALL and field in SMALL}
    known = {*plain.to_dict(), *plain.attribute_map} - aliases
    fields = {field: value for field, value in SMALL.items() if field in known}
    return new_model({"model_type": name, **fields, **SPECIAL.get(name, {})}, tokenizer, task=task, seed=0)


def peft_default(model: Any) -> str:
    """What PEFT adapts where nobody names targets."""
    import peft

    with torch.device("meta"):
        copied = type(model)(model.config)
    try:
        with warnings.catch_warnings(action="ignore"):
            adapted = peft.get_peft_model(copied, peft.LoraConfig())
    except ValueError:
        return "none: an error"
    chosen: Any = adapted.peft_config["default"]
    return " ".join(sorted(chosen.target_modules))


def logits(loaded: LoadedModel) -> torch.Tensor:
    """Of fixed token ids, ``(2, 8, vocab)``."""
    ids = torch.arange(16).reshape(2, 8)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if loaded.task == "seq2seq":
        given["decoder_input_ids"] = ids.flip(1)
    loaded.model.train(mode=False)
    with torch.no_grad():
        scores: torch.Tensor = loaded.model(**given).logits
    return scores


@pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(name, task, id=name, marks=[] if name in DEFAULT.split() else [pytest.mark.slow])
        for name, task in ALL
    ],
)
def test_an_architecture_is_adapted_trained_merged_and_loaded(
    name: str, task: Task, tokenizer: Any, make_policy: Any, make_rows: Any, tmp_path: Path, table: list[str]
) -> None:
    """No head, no router; a step moves the logits; adapter and merged model load and say the same."""
    base = save_model(build(name, task, tokenizer), tmp_path / "base")
    policy = make_policy("llama", adapter="lora")
    loaded = load_model(base, policy, task)
    report = resolve_targets(loaded.model)
    assert not [name for name in report.names if any(part.startswith(HEADS) for part in name.split("."))]
    assert all(adapted > 0 for adapted, _ in report.coverage.values())
    missed = {name for name, module in loaded.model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert missed <= {*report.names, *report.excluded}
    before, default = logits(loaded), peft_default(loaded.model)
    adapted = attach(loaded, AdapterConfig(rank=4, dropout=0.0))
    wrapped: Any = adapted.model
    on = {key for key, module in wrapped.get_base_model().named_modules() if hasattr(module, "lora_A")}
    assert on == set(report.names)
    rows = make_rows("seq2seq" if task == "seq2seq" else "causal")
    FineTuner(
        adapted,
        config=TrainConfig(steps=1, batch_size=4, learning_rate=0.01, warmup=0.0),
        policy=policy,
        output_dir=tmp_path / "work",
        data_collator=None,
    ).train({"train": rows})
    expected = logits(adapted)
    assert not torch.equal(expected, before)
    save_model(adapted, tmp_path / "adapter")
    assert torch.equal(logits(load_model(tmp_path / "adapter", policy, task)), expected)
    merge(tmp_path / "adapter", tmp_path / "merged", bound=1e-5)
    merged = load_model(tmp_path / "merged", policy, task)
    error = float((logits(merged) - expected).abs().max() / expected.abs().max())
    assert error <= 1e-5
    endings = " ".join(sorted({name.rpartition(".")[2] for name in report.names}))
    reasons = "; ".join(sorted({why.partition(":")[0] for why in report.excluded.values()}))
    table.append(f"| {name} | {task} | {endings} | {reasons} | {default} | {error:.0e} |")


def test_the_list_is_long_enough() -> None:
    """Sixty architectures, a dozen of them by default."""
    assert len({name for name, _ in ALL}) == len(ALL) >= 60
    assert len(DEFAULT.split()) >= 12
