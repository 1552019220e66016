"""What a language model is for, read from its configuration: no weights, no transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from distill_hwdetect.errors import ModelConfigError
from distill_hwdetect.model_types import CLASS_TASKS, TYPE_TASKS
from distill_hwdetect.refusals import nearest

Task = Literal["causal", "seq2seq", "masked"]

TASKS: tuple[Task, ...] = ("causal", "seq2seq", "masked")
_SEQ2SEQ = ("ForConditionalGeneration", "ForSeq2SeqLM", "MTModel", "EncoderDecoderModel", "ForTextToText")
# A model that reads images or sound and answers with a decoder alone is called ForConditionalGeneration too.
_NESTED = ("text_config", "vision_config", "audio_config")
_TYPES: Mapping[str, Task] = {name: task for task in TASKS for name in TYPE_TASKS[task].split()}


def task_of(config: Mapping[str, object] | Path | str) -> Task:
    """Return the task of a model: ``causal``, ``seq2seq`` or ``masked``.

    The class names under ``architectures`` decide. Only a configuration without them (of a model that is yet
    to be made) is judged by ``is_encoder_decoder``, ``is_decoder`` and ``model_type``.

    Args:
        config: A ``config.json``, a folder that holds one, or its content (``config.to_dict()`` of a
            transformers configuration).

    Returns:
        The task.

    Raises:
        ModelConfigError: No file can be read; ``architectures`` names none of the three tasks (a classifier,
            an encoder without a head); or there are no architectures and the model type is not known.

    Example:
        >>> from distill_hwdetect import task_of
        >>> task_of("translator")
        'seq2seq'
        >>> task_of({"model_type": "ernie", "architectures": ["ErnieForMaskedLM"]})
        'masked'
    """
    content = read_config(config)
    found = content.get("architectures")
    names = [str(name) for name in found] if isinstance(found, (list, tuple)) else []
    for name in names:
        task = _class_task(name, content)
        if task is not None:
            return task
    if names:
        raise ModelConfigError(
            f"The task cannot be read from the architectures {', '.join(names)}: none of them is a causal, "
            "seq2seq or masked language model. Give task='causal', 'seq2seq' or 'masked'.",
            field="architectures",
            found=tuple(names),
        )
    return _fresh_task(content)


def read_config(config: Mapping[str, object] | Path | str) -> dict[str, object]:
    """Return the content of a model's configuration.

    Raises:
        ModelConfigError: The file does not exist or does not hold a JSON object.
    """
    if isinstance(config, Mapping):
        return dict(config)
    path = Path(config)
    file = path / "config.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelConfigError(
            f"{file} does not exist. Give a model folder or its config.json.", field="config", found=str(path)
        ) from error
    except (OSError, ValueError) as error:
        raise ModelConfigError(
            f"{file} cannot be read as JSON: {error}.", field="config", found=str(path)
        ) from error
    if not isinstance(content, dict):
        raise ModelConfigError(
            f"{file} holds {type(content).__name__}, not the JSON object of a model configuration.",
            field="config",
            found=str(path),
        )
    return content


def _class_task(name: str, content: Mapping[str, object]) -> Task | None:
    """Return the task of a model class, None where its head is for something else."""
    if name in CLASS_TASKS:
        return CLASS_TASKS[name]
    if name.endswith("ForMaskedLM"):
        return "masked"
    if name.endswith("ForCausalLM"):
        return "causal"
    both = content.get("is_encoder_decoder")
    if name.endswith("LMHeadModel"):  # T5WithLMHeadModel is what T5 was called in transformers 2
        return "seq2seq" if both is True else "causal"
    if name.endswith(_SEQ2SEQ):
        return "seq2seq" if both is True or (both is None and content.keys().isdisjoint(_NESTED)) else None
    # BART's own folders name BartModel: encoder and decoder, whose head is the embedding.
    bare = name.endswith("Model") and not name.endswith("EncoderModel")
    return "seq2seq" if both is True and bare else None


def _fresh_task(content: Mapping[str, object]) -> Task:
    """Return the task of a configuration that names no architectures."""
    if content.get("is_encoder_decoder") is True:
        return "seq2seq"
    family = str(content.get("model_type", ""))
    if content.get("is_decoder") is True:
        return "causal"
    if family in _TYPES:
        return _TYPES[family]
    nested = content.get("text_config")
    if isinstance(nested, Mapping):
        return task_of(nested)
    raise ModelConfigError(
        f"The task of model_type {family!r} is not known, and the configuration names no architectures. "
        "Add architectures, or give task='causal', 'seq2seq' or 'masked'.",
        field="model_type",
        found=family,
        suggestion=nearest(family, _TYPES),
    )
