"""The activations of the memory estimate, measured on real models as what autograd keeps for its backward.

The count depends on shapes alone, so tiny models say what big ones do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peft
import pytest
import torch
import transformers
from transformers import AutoConfig

from distill_hwdetect import ModelFacts, read_model_facts
from distill_hwdetect.memory import estimate
from distill_hwdetect.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

BATCH, SOURCE, TARGET, VOCABULARY = 2, 96, 64, 32
SHAPES: Mapping[str, Mapping[str, object]] = {
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    },
    "gpt2": {"n_embd": 64, "n_inner": 160, "n_head": 4, "n_positions": 128},
    "bert": {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    },
    "t5": {"d_model": 64, "d_ff": 160, "d_kv": 16, "num_heads": 4},
    "mt5": {"d_model": 64, "d_ff": 160, "d_kv": 16, "num_heads": 4},
    "marian": {
        "d_model": 64,
        "encoder_ffn_dim": 160,
        "decoder_ffn_dim": 160,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "max_position_embeddings": 128,
    },
}
DEPTHS = {"gpt2": ("n_layer",), "marian": ("encoder_layers", "decoder_layers")}
CLASSES = {
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "masked": "AutoModelForMaskedLM",
}
OPTIONS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}


def configuration(family: str, depth: int) -> dict[str, Any]:
    """A tiny model of a family with so many blocks, on either side."""
    names = DEPTHS.get(family, ("num_hidden_layers",) if "hidden_size" in SHAPES[family] else ("num_layers",))
    more = {"decoder_start_token_id": 0} if family in ("t5", "mt5", "marian") else {}
    return {"vocab_size": VOCABULARY, **OPTIONS, **SHAPES[family], **dict.fromkeys(names, depth), **more}


def kept(family: str, depth: int, *, adapter: str, dropout: float) -> int:
    """Bytes that autograd keeps after a forward pass, parameters left out."""
    torch.manual_seed(0)
    config: Any = AutoConfig.for_model(family, **configuration(family, depth))
    facts = facts_of(family, depth)
    model: Any = getattr(transformers, CLASSES[str(facts.task)]).from_config(config).train()
    if adapter == "lora":
        model.requires_grad_(False)
        options: Any = {"r": 8, "lora_alpha": 32, "lora_dropout": dropout, "target_modules": "all-linear"}
        lora = peft.LoraConfig(**options, fan_in_fan_out=family == "gpt2")
        model = peft.get_peft_model(model, lora).train()
    parameters = {one.untyped_storage().data_ptr() for one in model.parameters()}
    found: dict[int, int] = {}
    alive = []  # so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    ids = torch.randint(2, VOCABULARY, (BATCH, SOURCE))
    labels = torch.randint(2, VOCABULARY, (BATCH, TARGET)) if facts.task == "seq2seq" else ids
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
    return sum(found.values())


def facts_of(family: str, depth: int) -> ModelFacts:
    """What the configuration alone says."""
    return read_model_facts({"model_type": family, **configuration(family, depth)})


@pytest.mark.parametrize("family", sorted(SHAPES))
@pytest.mark.parametrize(("adapter", "dropout"), [("full", 0.0), ("lora", 0.05), ("lora", 0.0)])
def test_estimated_activations_of_a_block_are_those_that_autograd_keeps(
    family: str, adapter: str, dropout: float
) -> None:
    """The third block (of each side) adds what the estimate says, within 6 percent."""
    counted = kept(family, 3, adapter=adapter, dropout=dropout) - kept(
        family, 2, adapter=adapter, dropout=dropout
    )
    sizes = []
    for depth in (3, 2):
        facts = facts_of(family, depth)
        assert facts.task is not None
        workload = Workload(
            task=facts.task,
            micro_batch=BATCH,
            source_length=SOURCE,
            target_length=TARGET,
            adapter=adapter,
            lora_dropout=dropout,
        )
        sizes.append(estimate(facts, workload).activations_bytes)
    assert sizes[0] - sizes[1] == pytest.approx(counted, rel=0.06)
