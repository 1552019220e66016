"""A model and its tokenizer: made new, loaded under a policy, saved whole."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.errors import ModelLoadError
from distill_adapters.fingerprints import weights_fingerprint
from distill_adapters.placing import quantization_config, torch_dtype, with_ipex
from distill_adapters.quiet import quiet
from distill_adapters.settings import Task, check_task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from distill_hwdetect import ExecutionPolicy

_LOG = logging.getLogger(__name__)
_AUTO: Mapping[str, str] = {
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "masked": "AutoModelForMaskedLM",
}
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "vocab.json",
    "vocab.txt",
)
ADAPTER_FILE = "adapter_config.json"
# What the manifest of an adapter says about its base.
BASE, QUANTIZATION = "base_fingerprint", "base_quantization"


@dataclass(kw_only=True)
class LoadedModel:
    """A model, the tokenizer it reads with, what it is for, and where it came from.

    Args:
        model: A transformers model, or a PEFT model around one.
        tokenizer: Its tokenizer.
        task: ``causal``, ``seq2seq`` or ``masked``.
        path: The folder or hub name; None for a model made new.
        base_fingerprint: Which weights an adapter stands on, or those of the model itself; None where they
            are not known.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    task: Task
    path: Path | str | None = None
    base_fingerprint: str | None = None


def load_model(
    model: str | Path,
    policy: "ExecutionPolicy",
    task: Task | None = None,
    *,
    training: bool = True,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer the way a policy says.

    A local folder is verified first, wherever it has a manifest. Weights are read from safetensors, or
    dequantised from GGUF, and every tensor of the model must be there.

    Args:
        model: A folder, a folder with an adapter (its base is loaded too), a ``.gguf`` file, or a name on
            the hub.
        policy: Device, types, quantization, attention.
        task: None asks the configuration.
        training: False for a model that is only run.
        trust_remote_code: Run code that comes with the model.
        base: Where the base of an adapter lies; None takes the place that the adapter names.

    Raises:
        ModelLoadError: There is no such model, it is none of the three tasks, tensors are missing, or an
            adapter was trained on another base.
        IntegrityError: A file of the folder is not what its manifest says, or is a pickle.
    """
    if task is not None:
        check_task(task)
    source = _source(model)
    if isinstance(source, Path):
        if source.suffix == ".gguf":
            from distill_adapters.gguf import load_gguf

            return load_gguf(source, policy, task, training=training)
        from distill_deploy import verify

        metadata = verify(source).metadata
        if (source / ADAPTER_FILE).is_file():
            found = base_place(source, base)
            under = load_model(found, policy, task, training=training, trust_remote_code=trust_remote_code)
            return put_on(under, source, metadata, training=training)
    if base is not None:
        raise ModelLoadError(
            f"base = {base} was given, and {model} is no adapter (it has no {ADAPTER_FILE})."
        )
    config = _config(source, trusted=trust_remote_code)
    _refuse_hub_kernels(source, config)
    task = task or task_of(config)
    with quiet():
        tokenizer = _tokenizer(source, trusted=trust_remote_code)
        loaded = _from_pretrained(source, policy, task, trusted=trust_remote_code)
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
    """Fit tokenizer and model to each other, and the model to its device and mode."""
    _fit_tokenizer(model, tokenizer)
    if policy.value("quantization") == "none" and not policy.value("offload"):
        model.to(str(policy.value("device")))  # type: ignore[arg-type]  # the mixin's method is typed too narrowly
    if policy.value("ipex"):
        model = with_ipex(model, policy, training=training)
    model.train(training)
    return LoadedModel(
        model=model, tokenizer=tokenizer, task=task, path=path, base_fingerprint=weights_fingerprint(path)
    )


def task_of(config: "PretrainedConfig") -> Task:
    """What a configuration is for.

    Raises:
        ModelLoadError: It names no architecture of the three tasks.
    """
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq"
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
    )

    for name in getattr(config, "architectures", None) or ():
        # FlaubertWithLMHeadModel is masked, GPT2LMHeadModel causal.
        if name.endswith("ForMaskedLM") or (name in MASKED.values() and name not in CAUSAL.values()):
            return "masked"
        if name.endswith(("ForCausalLM", "LMHeadModel")):
            return "causal"
    raise ModelLoadError(
        f"the task of a {config.model_type!r} model with architectures {config.architectures} cannot be "
        "told. Give task='causal', 'seq2seq' or 'masked'."
    )


def save_model(
    loaded: LoadedModel,
    folder: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write model (or adapter) and tokenizer as one sealed ``save_pretrained`` folder, whole or not at all.

    The manifest of an adapter carries a fingerprint of its base, and how that was stored.

    Args:
        loaded: What to save.
        folder: Where.
        metadata: Texts for the manifest.
        overwrite: Replace an existing folder.

    Raises:
        FileExistsError: ``folder`` exists and ``overwrite`` is false.
        NonFiniteWeightsError: A tensor holds NaN or infinity.
    """
    from distill_deploy import save

    noted = dict(metadata or {})
    if hasattr(loaded.model, "peft_config"):
        noted[QUANTIZATION] = quantization_of(loaded.model)
        if loaded.base_fingerprint is not None:
            noted[BASE] = loaded.base_fingerprint
    with quiet():
        return save(_Saved(loaded.model), loaded.tokenizer, folder, metadata=noted, overwrite=overwrite)


def quantization_of(model: "PreTrainedModel") -> str:
    """How the weights of a base are stored: ``nf4``, ``int8`` or ``none``."""
    if getattr(model, "is_loaded_in_4bit", False):
        return "nf4"
    return "int8" if getattr(model, "is_loaded_in_8bit", False) else "none"


def set_threads(policy: "ExecutionPolicy") -> None:
    """Give torch the threads that the policy names."""
    import torch

    threads = int(str(policy.value("threads")))
    if threads > 0 and threads != torch.get_num_threads():
        torch.set_num_threads(threads)


class _Saved:
    """A model as distill_deploy saves it: an adapter asks no hub about its base's embeddings."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self._model = model

    def save_pretrained(self, save_directory: str) -> None:
        """Write safetensors and configuration."""
        options: dict[str, Any] = (
            {"save_embedding_layers": False} if hasattr(self._model, "peft_config") else {}
        )
        self._model.save_pretrained(save_directory, **options)


def _source(model: str | Path) -> Path | str:
    path = Path(model)
    if path.is_dir() or (path.suffix == ".gguf" and path.is_file()):
        return path
    if isinstance(model, Path) or path.is_absolute() or str(model).startswith((".", "~")) or path.exists():
        raise ModelLoadError(f"a model folder was expected at {path}, and there is none.")
    return str(model)


def model_class(task: Task) -> Any:
    """The automatic class of transformers for a task."""
    import transformers

    return getattr(transformers, _AUTO[task])


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _config(source: Path | str, *, trusted: bool) -> "PretrainedConfig":
    from transformers import AutoConfig

    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(str(source), trust_remote_code=trusted)
    except (OSError, ValueError, KeyError) as error:
        where = "in this folder" if isinstance(source, Path) else "here or on the hub"
        raise ModelLoadError(f"no model {source} {where}: {first_line(error)}") from error
    return config


def _refuse_hub_kernels(source: Path | str, config: "PretrainedConfig") -> None:
    """A configuration can name attention code on a hub, which transformers would fetch and run."""
    for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        asked = getattr(config, name, None)
        if "/" in str(asked):
            raise ModelLoadError(
                f"the configuration of {source} takes its attention from {asked!r}, code on a hub, which is "
                "never run. Remove attn_implementation from its config.json; the policy chooses."
            )


def _from_pretrained(
    source: Path | str, policy: "ExecutionPolicy", task: Task, *, trusted: bool
) -> "PreTrainedModel":
    import torch

    quantization, device = quantization_config(policy), str(policy.value("device"))
    options: dict[str, Any] = {
        "dtype": torch_dtype(policy.value("storage_dtype")),
        "use_safetensors": True,
        "trust_remote_code": trusted,
        "attn_implementation": str(policy.value("attention")),
    }
    if policy.value("offload"):
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
            raise ModelLoadError(f"{source} cannot be loaded for {task}: {first_line(error)}") from error
        _LOG.warning("%s has no %s attention; loaded with eager.", source, options["attn_implementation"])
        model, told = kind.from_pretrained(str(source), **{**options, "attn_implementation": "eager"})
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelLoadError(
            f"{source} lacks {len(missing)} tensors of a {type(model).__name__}, such as {missing[0]}, which "
            "would be random; it was saved as something else, or its names are wrong."
        )
    if quantization is not None and device == "cpu":
        for part in filter(torch.is_floating_point, model.parameters()):
            part.data = part.data.clone()  # the others are quantized; these would keep whole files mapped
    loaded: PreTrainedModel = model
    return loaded


def _tokenizer(source: Path | str, *, trusted: bool) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    # Without any of its files transformers 5 makes up an empty tokenizer.
    if isinstance(source, Path) and not any((source / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelLoadError(f"{source} holds no tokenizer (none of {', '.join(_TOKENIZER_FILES)}).")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(source), trust_remote_code=trusted
        )
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"the tokenizer of {source} cannot be read: {first_line(error)}") from error
    return tokenizer


def _fit_tokenizer(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Give the tokenizer a padding token, and the model room for every token."""
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


def base_place(folder: Path, given: str | Path | None) -> str | Path:
    """Where the base of an adapter lies: where the caller says, else where the adapter does."""
    import json

    content = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
    base = given or content.get("base_model_name_or_path")
    if not base:
        raise ModelLoadError(
            f"{folder / ADAPTER_FILE} names no base_model_name_or_path; give base= the base's folder."
        )
    beside = folder / base
    place = Path(base) if Path(base).exists() or not beside.is_dir() else beside
    if given is None and place.is_absolute() and not place.exists():
        raise ModelLoadError(
            f"the base of {folder} was at {base}, where nothing is now; give base= its place."
        )
    return place if place.exists() else str(base)


def put_on(base: LoadedModel, folder: Path, metadata: Mapping[str, str], *, training: bool) -> LoadedModel:
    """Put a saved adapter on its base, which is changed in place.

    Args:
        base: The base.
        folder: With the adapter.
        metadata: Of the folder's manifest.
        training: Whether the adapter is trained on.

    Raises:
        ModelLoadError: The adapter was trained on another base, or lacks tensors.
    """
    from peft import PeftModel

    expected = metadata.get(BASE)
    if expected is not None and base.base_fingerprint not in (None, expected):
        raise ModelLoadError(
            f"the adapter {folder} was trained on other weights than those of {base.path}: fingerprint "
            f"{expected[:12]} was expected, {str(base.base_fingerprint)[:12]} found. Give base= its place."
        )
    try:
        with quiet():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            model: Any = PeftModel.from_pretrained(base.model, str(folder), is_trainable=training)
    except (UserWarning, RuntimeError, ValueError) as error:
        raise ModelLoadError(f"the adapter {folder} does not fit {base.path}: {first_line(error)}") from error
    model.train(training)
    own = any((folder / name).is_file() for name in _TOKENIZER_FILES)
    return LoadedModel(
        model=model,
        tokenizer=_tokenizer(folder, trusted=False) if own else base.tokenizer,
        task=base.task,
        path=folder,
        base_fingerprint=base.base_fingerprint,
    )
