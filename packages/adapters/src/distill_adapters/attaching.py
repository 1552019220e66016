"""Putting a low-rank adapter on a model."""

import logging
from typing import Any

from transformers.pytorch_utils import Conv1D

from distill_adapters.errors import ModelLoadError
from distill_adapters.loading import LoadedModel
from distill_adapters.quiet import quiet
from distill_adapters.settings import AdapterConfig
from distill_adapters.targets import resolve_targets

_logger = logging.getLogger(__name__)
# PEFT has no type for masked models; with none it wraps the model as it is.
_PEFT_TASKS = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "masked": None}


def attach(loaded: LoadedModel, config: AdapterConfig | None = None) -> LoadedModel:
    """Freeze a model and put a trainable LoRA on the layers that :func:`resolve_targets` finds.

    On a base in 4 or 8 bits this is QLoRA. Unlike PEFT's ``prepare_model_for_kbit_training``, embeddings
    and norms keep their dtype instead of being copied to float32.

    Args:
        loaded: The base; its model is changed in place.
        config: The adapter; None is rank 8, alpha 32, dropout 0.05 on every linear layer of the body.

    Raises:
        TargetError: Nothing to adapt, or a name matches nothing.
        ModelLoadError: ``qlora`` was asked for on a base that is not quantized.

    Source:
        Hu et al. 2021, arXiv:2106.09685; Dettmers et al. 2023, arXiv:2305.14314.
    """
    import peft

    chosen = config or AdapterConfig()
    model = loaded.model
    quantized = bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))
    if chosen.kind == "qlora" and not quantized:
        raise ModelLoadError(
            "qlora was asked for, but the base was loaded unquantized; load it under a policy whose "
            "quantization is 'nf4' or 'int8', or take kind='lora'."
        )
    report = resolve_targets(model, chosen.targets)
    model.requires_grad_(False)  # noqa: FBT003 - torch's signature
    options: dict[str, Any] = {
        "r": chosen.rank,
        "lora_alpha": chosen.alpha,
        "lora_dropout": chosen.dropout,
        "target_modules": report.patterns(),
        # GPT-2's Conv1D keeps its weight transposed.
        "fan_in_fan_out": isinstance(model.get_submodule(report.names[0]), Conv1D),
        "modules_to_save": list(chosen.modules_to_save) or None,
        "use_rslora": chosen.rank_stabilized,
        "use_dora": chosen.decomposed,
        "task_type": _PEFT_TASKS[loaded.task],
    }
    if chosen.modules_to_save:
        options["ensure_weight_tying"] = bool(getattr(model.config, "tie_word_embeddings", False))
    with quiet():
        adapted: Any = peft.get_peft_model(model, peft.LoraConfig(**{**options, **chosen.extra}))
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    _logger.info("%s on %d layers: %d trainable parameters", chosen.kind, len(report.names), trainable)
    return LoadedModel(model=adapted, tokenizer=loaded.tokenizer, task=loaded.task, path=loaded.path)
