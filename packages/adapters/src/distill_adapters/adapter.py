"""An adapter on a model, and a check that every part of it gets a gradient."""

import logging
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from distill_adapters.config import AdapterConfig
from distill_adapters.errors import ModelLoadError, TargetError
from distill_adapters.gradients import put_back, without_layerdrop
from distill_adapters.inspection import accepted_names
from distill_adapters.loaded import LoadedModel, quantization_of
from distill_adapters.quiet import quiet
from distill_adapters.targets import ATTENTION, TargetReport, resolve_targets

_LOG = logging.getLogger(__name__)
# PEFT has no type for masked models; with none it wraps the model as it is.
_PEFT_TASKS = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "masked": None}
_PROBE = (2, 8)  # batch and tokens of the check


def attach(loaded: LoadedModel, config: AdapterConfig | None = None) -> LoadedModel:
    """Freeze a model and put a trainable adapter on the layers that :func:`resolve_targets` finds.

    On a base in 4 or 8 bits, LoRA is QLoRA. Unlike PEFT's ``prepare_model_for_kbit_training``, embeddings
    and norms keep their dtype instead of being copied to float32. A forward and a backward pass over a few
    tokens check that every part of the adapter gets a gradient.

    Args:
        loaded: The base model, which is changed in place.
        config: The adapter. None means LoRA of rank 8, alpha 32 and dropout 0.05 on every linear layer of the
            body.

    Raises:
        TargetError: There is no layer to adapt, a target matches no layer, MiSS was chosen for GPT-2's
            ``Conv1D``, or a part of the adapter gets no gradient.
        ModelLoadError: ``qlora`` was chosen for a base that is not quantized, or the model already has an
            adapter.

    Example:
        >>> from distill_adapters import AdapterConfig, attach, load_tokenizer, new_model
        >>> config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1}
        >>> base = new_model(config, load_tokenizer("writer"), task="causal", seed=0)
        >>> adapted = attach(base, AdapterConfig(rank=2, targets="attention"))
        >>> [name for name, part in adapted.model.named_parameters() if part.requires_grad][0]
        'base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight'

    Source:
        LoRA: Hu et al. 2021, arXiv:2106.09685; QLoRA: Dettmers et al. 2023, arXiv:2305.14314; IA3: Liu et
        al. 2022, arXiv:2205.05638; rsLoRA: Kalajdzievski 2023, arXiv:2312.03732; DoRA: Liu et al. 2024,
        arXiv:2402.09353; MiSS: Kang and Yin 2024, arXiv:2409.15371.
    """
    chosen = config or AdapterConfig()
    model = loaded.model
    if hasattr(model, "peft_config"):
        raise ModelLoadError(
            "the model already has an adapter. Merge it first, or load the base.", field="loaded"
        )
    if chosen.kind == "qlora" and quantization_of(model) == "none":
        raise ModelLoadError(
            "kind = 'qlora' was given, but the base was loaded without quantization. Load it under a policy "
            "whose quantization is 'nf4' or 'int8', or use kind='lora'.",
            field="kind",
            found="qlora",
            suggestion="lora",
        )
    return _attached(loaded, chosen, resolve_targets(model, chosen.targets))


def _attached(loaded: LoadedModel, chosen: AdapterConfig, report: TargetReport) -> LoadedModel:
    import peft

    model = loaded.model
    model.requires_grad_(False)  # noqa: FBT003 - torch's signature
    make = {"ia3": _ia3, "miss": _miss}.get(chosen.kind, _lora)
    with quiet():
        adapted: Any = peft.get_peft_model(model, make(loaded, chosen, report))
    made = LoadedModel(
        model=adapted,
        tokenizer=loaded.tokenizer,
        task=loaded.task,
        path=loaded.path,
        base_fingerprint=loaded.base_fingerprint,
    )
    _check_gradients(made)
    inner = adapted.get_base_model().named_modules()
    more = [name for name, part in inner if hasattr(part, "base_layer") and name not in report.names]
    if more:  # PEFT counts the stacked experts of DeepSeek-V2 among its shared ones
        _LOG.warning("PEFT adapts %d modules that are not among the targets, such as %s", len(more), more[0])
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    _LOG.info("%s on %d layers: %d trainable parameters", chosen.kind, len(report.names), trainable)
    return made


def _common(loaded: LoadedModel, chosen: AdapterConfig, report: TargetReport) -> dict[str, Any]:
    return {
        "target_modules": report.patterns(),
        "modules_to_save": list(chosen.modules_to_save) or None,
        "task_type": _PEFT_TASKS[loaded.task],
    }


def _transposed(loaded: LoadedModel, report: TargetReport) -> bool:
    """Whether the layers store their weight transposed, as GPT-2's ``Conv1D`` does."""
    return isinstance(loaded.model.get_submodule(report.names[0]), Conv1D)


def _lora(loaded: LoadedModel, chosen: AdapterConfig, report: TargetReport) -> Any:
    import peft

    options = {
        **_common(loaded, chosen, report),
        "r": chosen.rank,
        "lora_alpha": chosen.alpha,
        "lora_dropout": chosen.dropout,
        "fan_in_fan_out": _transposed(loaded, report),
        "use_rslora": chosen.rank_stabilized,
        "use_dora": chosen.decomposed,
    }
    if chosen.modules_to_save:
        options["ensure_weight_tying"] = bool(getattr(loaded.model.config, "tie_word_embeddings", False))
    return peft.LoraConfig(**{**options, **chosen.extra})


def _ia3(loaded: LoadedModel, chosen: AdapterConfig, report: TargetReport) -> Any:
    """Scales the inputs of feed-forward layers and the outputs of those in attention."""
    import peft

    options = {
        **_common(loaded, chosen, report),
        "target_modules": list(report.names),  # PEFT needs the others among these, word for word
        "feedforward_modules": [n for n in report.names if not ATTENTION.search(n.rpartition(".")[0])],
        "fan_in_fan_out": _transposed(loaded, report),
    }
    return peft.IA3Config(**{**options, **chosen.extra})


def _miss(loaded: LoadedModel, chosen: AdapterConfig, report: TargetReport) -> Any:
    import peft

    if _transposed(loaded, report):
        raise TargetError(
            "MiSS adapts linear layers, but those of this model are Conv1D. Use kind='lora'.",
            field="kind",
            found="miss",
            suggestion="lora",
        )
    options = {**_common(loaded, chosen, report), "r": chosen.rank, "miss_dropout": chosen.dropout}
    return peft.MissConfig(**{**options, **chosen.extra})


def _check_gradients(loaded: LoadedModel) -> None:
    """Run a forward and a backward pass over a few tokens, and restore everything afterwards.

    Raises:
        TargetError: A trainable parameter gets no gradient. Experts are left out: no token may reach them.
    """
    model, mode = loaded.model, loaded.model.training
    if any(part.is_meta for part in model.parameters()):
        return  # offloaded
    with put_back(model), without_layerdrop(model), torch.random.fork_rng(), torch.enable_grad():
        ids = torch.randint(0, len(loaded.tokenizer), _PROBE).to(model.device)
        given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if loaded.task == "seq2seq":
            given["decoder_input_ids"] = ids
        if "use_cache" in accepted_names(model):
            given["use_cache"] = False
        model.train()
        model(**given).logits.float().logsumexp(-1).sum().backward()
        model.train(mode)
        missing = [
            name
            for name, part in model.named_parameters()
            if part.requires_grad and part.grad is None and "expert" not in name
        ]
    if missing:
        raise TargetError(
            f"{len(missing)} parts of the adapter get no gradient, such as {missing[0]}: the model does not "
            "call these layers. Leave them out of targets.",
            field="targets",
            found=missing[0],
        )
