"""A model with its tokenizer, its task and where it came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill_adapters.config import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Keys in the manifest of an adapter.
BASE_FINGERPRINT, BASE_QUANTIZATION = "base_fingerprint", "base_quantization"


@dataclass(kw_only=True)
class LoadedModel:
    """A model, its tokenizer, its task, and the place it was loaded from.

    Args:
        model: A transformers model, or a PEFT model around one.
        tokenizer: The tokenizer of the model.
        task: ``causal``, ``seq2seq`` or ``masked``.
        path: The folder or hub name; None for a newly made model.
        base_fingerprint: Fingerprint of the weights: of an adapter's base, or of the model itself. None if
            they are not known.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    task: Task
    path: Path | str | None = None
    base_fingerprint: str | None = None


def quantization_of(model: "PreTrainedModel") -> str:
    """How the weights of a base are stored: ``nf4``, ``int8`` or ``none``."""
    if getattr(model, "is_loaded_in_4bit", False):
        return "nf4"
    return "int8" if getattr(model, "is_loaded_in_8bit", False) else "none"
