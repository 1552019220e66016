"""The task and inputs of a model object, and a check that rows have labels."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from distill_adapters.config import IGNORE_INDEX, Task
from distill_adapters.errors import LabelError


def task_of_model(model: nn.Module) -> Task:
    """The task of a model object, with or without an adapter."""
    base = base_of(model)
    if getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        return "seq2seq"
    return "masked" if "MaskedLM" in type(base).__name__ else "causal"


def base_of(model: nn.Module) -> nn.Module:
    """The transformers model inside a PEFT model, or the model itself."""
    base: nn.Module = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]  # PEFT's
    return base


def accepted_names(model: nn.Module) -> frozenset[str]:
    """Names that the model's forward pass takes, except labels: the loss is computed outside it."""
    return frozenset(inspect.signature(base_of(model).forward).parameters) - {"labels", "row_id"}


def decoder_inputs(model: nn.Module, labels: Tensor) -> Tensor:
    """Make the decoder's inputs from its labels: shifted right by one, with padding in place of -100.

    The model's own method is used where it has one; M2M100, NLLB and FSMT have none.

    Args:
        model: A seq2seq model, with or without an adapter.
        labels: Reference tokens, ``(batch, seq)``.

    Returns:
        Token ids, ``(batch, seq)``.

    Example:
        >>> import torch
        >>> from distill_adapters import decoder_inputs, load_tokenizer, new_model
        >>> config = {"model_type": "m2m_100", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
        >>> config |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        >>> model = new_model(config, load_tokenizer("translator"), task="seq2seq", seed=0).model
        >>> model.config.decoder_start_token_id, model.config.pad_token_id = 2, 0
        >>> decoder_inputs(model, torch.tensor([[5, 6, 7], [8, -100, -100]])).tolist()
        [[2, 5, 6], [2, 8, 0]]
    """
    own: Any = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        shifted: Tensor = own(labels=labels)
        return shifted
    config: Any = base_of(model).config
    start = torch.full_like(labels[:, :1], config.decoder_start_token_id)
    moved = torch.cat([start, labels[:, :-1]], dim=1)
    return moved.masked_fill(moved == IGNORE_INDEX, config.pad_token_id)


def refuse_without_labels(rows: Any, task: Task) -> None:
    """Refuse data in which every label is -100. Rows without labels pass: their collator makes them.

    Raises:
        LabelError: There are no rows, or none has a label.
    """
    if rows is None or not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        return
    if not len(rows):
        raise LabelError("there are no rows to train on.", field="train_dataset", found=0)
    first = rows[0]
    if not isinstance(first, Mapping) or "labels" not in first:
        return
    for place in range(len(rows)):
        labels = torch.as_tensor(rows[place]["labels"])
        if bool(((labels[1:] if task == "causal" else labels) != IGNORE_INDEX).any()):
            return
    raise LabelError(
        f"every label of all {len(rows)} rows is -100: there is nothing to learn. Check how labels are made, "
        "and that the length limits leave room for them.",
        field="train_dataset",
    )
