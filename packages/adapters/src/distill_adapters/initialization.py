"""A freshly initialised model, made from a configuration for a tokenizer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distill_adapters.config import Task, check_task
from distill_adapters.errors import ModelLoadError
from distill_adapters.loaded import LoadedModel
from distill_adapters.pretrained import first_line, model_class
from distill_adapters.quiet import quiet
from distill_adapters.spelling import did_you_mean, near

# They give padding no position of its own: from the second step of generating on, everything after a padding
# token that begins the decoder would be read one position later than in training.
_BEGIN_WITH_END = ("m2m_100", "nllb-moe")

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def new_model(
    config: Mapping[str, object], tokenizer: "PreTrainedTokenizerBase", *, task: Task, seed: int
) -> LoadedModel:
    """Make a freshly initialised model for a tokenizer.

    Vocabulary size and the ids of special tokens come from the tokenizer; everything else, such as
    ``init_std`` or ``scale_embedding``, passes through to the configuration of the family.

    Args:
        config: ``model_type`` and the fields of its configuration.
        tokenizer: The tokenizer that the model will read and write with.
        task: The task of the model.
        seed: Seed of the weights. The random state of the caller is left as it was.

    Raises:
        ModelLoadError: ``model_type`` or a field is unknown, the family has no model for the task, or
            ``vocab_size`` is smaller than the tokenizer's.

    Example:
        >>> from distill_adapters import load_tokenizer, new_model
        >>> config = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1}
        >>> config |= {"num_attention_heads": 2, "intermediate_size": 32}
        >>> made = new_model(config, load_tokenizer("filler"), task="masked", seed=0)
        >>> type(made.model).__name__, made.model.config.vocab_size == len(made.tokenizer)
        ('BertForMaskedLM', True)
    """
    import torch
    import transformers
    from transformers import AutoConfig

    check_task(task)
    special = _special_ids(tokenizer, task, str(config.get("model_type", "")))
    fields = {"vocab_size": len(tokenizer), **special, **config}
    model_type = str(fields.pop("model_type", ""))
    _check_fields(model_type, {name for name in config if name != "model_type"})
    if int(str(fields["vocab_size"])) < len(tokenizer):
        raise ModelLoadError(
            f"vocab_size = {fields['vocab_size']} was given, but the tokenizer has {len(tokenizer)} tokens. "
            "Leave vocab_size out to take its size.",
            field="config.vocab_size",
            found=fields["vocab_size"],
            suggestion=len(tokenizer),
        )
    if model_type == "marian":
        fields.setdefault("decoder_vocab_size", fields["vocab_size"])
    made = AutoConfig.for_model(model_type, **fields)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        try:
            model = model_class(task).from_config(made)
        except ValueError as error:
            raise ModelLoadError(
                f"{model_type!r} has no {task} model: {first_line(error)}", field="task", found=task
            ) from error
    if task != "masked":
        generation: Any = transformers.GenerationConfig  # untyped in transformers
        model.generation_config = generation(**special)
    return LoadedModel(model=model, tokenizer=tokenizer, task=task)


def _special_ids(tokenizer: "PreTrainedTokenizerBase", task: Task, model_type: str) -> dict[str, object]:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids: dict[str, object] = {
        "pad_token_id": pad,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    if task == "seq2seq":
        # Marian and BART force their own end token at the limit unless told not to.
        start = tokenizer.eos_token_id if model_type in _BEGIN_WITH_END else pad
        ids |= {"decoder_start_token_id": pad if start is None else start, "forced_eos_token_id": None}
    return ids


def _check_fields(model_type: str, names: set[str]) -> None:
    from transformers import CONFIG_MAPPING, AutoConfig

    if model_type not in CONFIG_MAPPING:
        suggestion = near(model_type, CONFIG_MAPPING.keys())
        raise ModelLoadError(
            f"transformers does not know the model_type {model_type!r}.{did_you_mean(suggestion)}",
            field="config.model_type",
            found=model_type,
            suggestion=suggestion,
        )
    plain = AutoConfig.for_model(model_type)
    known = {*plain.to_dict(), *plain.attribute_map, *vars(plain)}
    for name in sorted(names - known):
        suggestion = near(name, known)
        raise ModelLoadError(
            f"a {model_type!r} configuration has no field {name!r}.{did_you_mean(suggestion)}",
            field=f"config.{name}",
            found=name,
            suggestion=suggestion,
        )
