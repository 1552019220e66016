"""What a model is and takes, and whether rows hold anything to learn."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from distill_adapters.config import IGNORE_INDEX, Task
from distill_adapters.errors import LabelError


def task_of_model(model: nn.Module) -> Task:
    """What a model, adapted or not, is for."""
    base = base_of(model)
    if getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        return "seq2seq"
    return "masked" if "MaskedLM" in type(base).__name__ else "causal"


def base_of(model: nn.Module) -> nn.Module:
    """The transformers model inside a PEFT model, or the model itself."""
    base: nn.Module = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]  # PEFT's
    return base


def accepted_names(model: nn.Module) -> frozenset[str]:
    """What the model's forward pass takes by name, labels apart: the loss is computed outside it."""
    return frozenset(inspect.signature(base_of(model).forward).parameters) - {"labels", "row_id"}


def decoder_inputs(model: nn.Module, labels: Tensor) -> Tensor:
    """What the decoder reads where ``labels``, ``(batch, seq)``, are its answers: each shifted by one.

    As the family's own method does it; M2M100 and FSMT have none.
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
    """Refuse data in which every label is -100. Rows that a collator labels are not looked at.

    Raises:
        LabelError: There are no rows, or no label in any.
    """
    if rows is None or not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        return
    if not len(rows):
        raise LabelError("there are no rows to train on.")
    first = rows[0]
    if not isinstance(first, Mapping) or "labels" not in first:
        return
    for place in range(len(rows)):
        labels = torch.as_tensor(rows[place]["labels"])
        if bool(((labels[1:] if task == "causal" else labels) != IGNORE_INDEX).any()):
            return
    raise LabelError(
        f"every label of all {len(rows)} rows is -100: there is nothing to learn. Check how labels are made, "
        "and that the limits of length leave room for them."
    )
