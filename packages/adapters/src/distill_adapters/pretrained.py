"""A model and its tokenizer from a ``save_pretrained`` folder or the hub, made ready for its device."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.backend import quantization_config, torch_dtype, with_ipex
from distill_adapters.base_identity import weights_fingerprint
from distill_adapters.config import TASKS, Task
from distill_adapters.errors import ModelLoadError
from distill_adapters.loaded import LoadedModel
from distill_adapters.model_folder import TOKENIZER_FILES, has_tokenizer
from distill_adapters.quiet import quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from distill_hwdetect import ExecutionPolicy

_LOG = logging.getLogger(__name__)
_AUTO: Mapping[str, str] = {
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "masked": "AutoModelForMaskedLM",
}


def load_pretrained(
    source: Path | str, policy: "ExecutionPolicy", task: Task | None, *, training: bool, trusted: bool = False
) -> LoadedModel:
    """Load an ordinary model and its tokenizer, as :func:`distill_adapters.load_model` promises."""
    config = _config(source, trusted=trusted)
    _refuse_hub_kernels(source, config)
    task = task or _task_of(config)
    with quiet():
        tokenizer = load_tokenizer(source, trust_remote_code=trusted)
        loaded = _from_pretrained(source, policy, task, trusted=trusted)
    return finish(loaded, tokenizer, policy, task, training=training, path=source)


def finish(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    policy: "ExecutionPolicy",
    task: Task,
    *,
    training: bool,
    path: Path | str,
) -> LoadedModel:
    """Match tokenizer and model, and move the model to its device and mode."""
    _fit_tokenizer(model, tokenizer)
    if policy.quantization.value == "none" and not policy.offload.value:
        model.to(policy.device.value)  # type: ignore[arg-type]  # the mixin's method is typed too narrowly
    if policy.ipex.value:
        model = with_ipex(model, policy, training=training)
    model.train(training)
    return LoadedModel(
        model=model, tokenizer=tokenizer, task=task, path=path, base_fingerprint=weights_fingerprint(path)
    )


def _task_of(config: "PretrainedConfig") -> Task:
    from distill_hwdetect import ModelConfigError, task_of

    try:
        return task_of(config.to_dict())
    except ModelConfigError as error:
        raise ModelLoadError(str(error), field="task", allowed=TASKS) from error


def model_class(task: Task) -> Any:
    """The automatic class of transformers for a task."""
    import transformers

    return getattr(transformers, _AUTO[task])


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _config(source: Path | str, *, trusted: bool) -> "PretrainedConfig":
    from transformers import AutoConfig

    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(str(source), trust_remote_code=trusted)
    except (OSError, ValueError, KeyError) as error:
        where = "in this folder" if isinstance(source, Path) else "here or on the hub"
        raise ModelLoadError(
            f"no model {source} {where}: {first_line(error)}", field="model", found=str(source)
        ) from error
    return config


def _refuse_hub_kernels(source: Path | str, config: "PretrainedConfig") -> None:
    """A configuration can name attention code on a hub, which transformers would fetch and run."""
    for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        asked = getattr(config, name, None)
        if "/" in str(asked):
            raise ModelLoadError(
                f"the configuration of {source} takes its attention from {asked!r}, code on a hub, which is "
                "never run. Remove attn_implementation from its config.json; the policy chooses.",
                field="model",
                found=asked,
            )


def _from_pretrained(
    source: Path | str, policy: "ExecutionPolicy", task: Task, *, trusted: bool
) -> "PreTrainedModel":
    import torch

    quantization, device = quantization_config(policy), policy.device.value
    options: dict[str, Any] = {
        "dtype": torch_dtype(policy.storage_dtype.value),
        "use_safetensors": True,
        "trust_remote_code": trusted,
        "attn_implementation": policy.attention.value,
    }
    if policy.offload.value:
        options["device_map"] = "auto"
    elif quantization is not None:
        options["device_map"] = {"": device}
    if quantization is not None:
        options["quantization_config"] = quantization
    kind = model_class(task)
    options["output_loading_info"] = True
    try:
        model, told = kind.from_pretrained(str(source), **options)
    except (OSError, ValueError) as error:
        if "does not support an attention implementation" not in str(error):
            raise ModelLoadError(
                f"{source} cannot be loaded for {task}: {first_line(error)}", field="model", found=str(source)
            ) from error
        _LOG.warning("%s has no %s attention; loaded with eager.", source, options["attn_implementation"])
        model, told = kind.from_pretrained(str(source), **{**options, "attn_implementation": "eager"})
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelLoadError(
            f"{source} lacks {len(missing)} tensors of a {type(model).__name__}, such as {missing[0]}, which "
            "would be random. It was saved as another kind of model, or its tensors have other names.",
            field="model",
            found=str(source),
        )
    if quantization is not None and device == "cpu":
        for part in filter(torch.is_floating_point, model.parameters()):
            part.data = part.data.clone()  # the others are quantized; these would keep whole files mapped
    loaded: PreTrainedModel = model
    return loaded


def load_tokenizer(model: Path | str, *, trust_remote_code: bool = False) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model folder, or of a model on the hub.

    Args:
        model: A folder, which is read without asking the hub, or a name on the hub.
        trust_remote_code: Run code that comes with the tokenizer.

    Raises:
        ModelLoadError: The folder holds no tokenizer, or it cannot be read.

    Example:
        >>> from distill_adapters import load_tokenizer
        >>> tokenizer = load_tokenizer("writer")
        >>> tokenizer.decode(tokenizer("w1 w2")["input_ids"], skip_special_tokens=True)
        'w1 w2'
    """
    from transformers import AutoTokenizer

    local = Path(model).is_dir()
    # Without any of its files transformers 5 makes up an empty tokenizer.
    if local and not has_tokenizer(Path(model)):
        raise ModelLoadError(
            f"{model} holds no tokenizer (none of {', '.join(TOKENIZER_FILES)}). Save it beside the weights "
            "with tokenizer.save_pretrained.",
            field="model",
            found=str(model),
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(model), trust_remote_code=trust_remote_code, local_files_only=local
        )
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"the tokenizer of {model} cannot be read: {first_line(error)}", field="model", found=str(model)
        ) from error
    return tokenizer


def _fit_tokenizer(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Give the tokenizer a padding token, and the model an embedding for every token."""
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
        _LOG.info("no padding token: the end-of-text token pads.")
    # Rows to learn from are padded on the right; predict() pads the prompts of causal models on the left.
    tokenizer.padding_side = "right"
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if rows < len(tokenizer):
        _LOG.warning("the tokenizer has %d tokens, the model %d rows: resized.", len(tokenizer), rows)
        with quiet():
            model.resize_token_embeddings(len(tokenizer))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
