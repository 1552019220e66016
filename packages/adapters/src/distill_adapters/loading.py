"""A model and its tokenizer: made new, loaded under a policy, saved whole."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.errors import ModelLoadError
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


@dataclass(kw_only=True)
class LoadedModel:
    """A model, the tokenizer it reads with, what it is for, and where it came from.

    Args:
        model: A transformers model, or a PEFT model around one.
        tokenizer: Its tokenizer.
        task: ``causal``, ``seq2seq`` or ``masked``.
        path: The folder or hub name; None for a model made new.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    task: Task
    path: Path | str | None = None


def load_model(
    model: str | Path,
    policy: "ExecutionPolicy",
    task: Task | None = None,
    *,
    training: bool = True,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model and its tokenizer the way a policy says.

    A local folder is verified first, wherever it has a manifest. Weights are read from safetensors only.

    Args:
        model: A folder, a folder with an adapter (its base is loaded too), or a name on the hub.
        policy: Device, types, quantization, attention.
        task: None asks the configuration.
        training: False for a model that is only run.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelLoadError: There is no such model, or it is none of the three tasks.
        IntegrityError: A file of the folder is not what its manifest says, or is a pickle.
    """
    if task is not None:
        check_task(task)
    source = _source(model)
    if isinstance(source, Path):
        from distill_deploy import verify

        verify(source)
        if (source / ADAPTER_FILE).is_file():
            return _load_adapted(source, policy, task, training=training, trusted=trust_remote_code)
    config = _config(source, trusted=trust_remote_code)
    _refuse_hub_kernels(source, config)
    task = task or task_of(config)
    with quiet():
        tokenizer = _tokenizer(source, trusted=trust_remote_code)
        loaded = _from_pretrained(source, policy, task, trusted=trust_remote_code)
    _fit_tokenizer(loaded, tokenizer)
    if policy.value("ipex"):
        loaded = with_ipex(loaded, policy, training=training)
    loaded.train(training)
    return LoadedModel(model=loaded, tokenizer=tokenizer, task=task, path=source)


def task_of(config: "PretrainedConfig") -> Task:
    """What a configuration is for.

    Raises:
        ModelLoadError: It names no architecture of the three tasks.
    """
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq"
    for name in getattr(config, "architectures", None) or ():
        if name.endswith("ForMaskedLM"):
            return "masked"
        if name.endswith(("ForCausalLM", "LMHeadModel")):
            return "causal"
    raise ModelLoadError(
        f"the task of a {config.model_type!r} model with architectures {config.architectures} cannot be "
        "told. Give task='causal', 'seq2seq' or 'masked'."
    )


def new_model(
    config: Mapping[str, object], tokenizer: "PreTrainedTokenizerBase", *, task: Task, seed: int
) -> LoadedModel:
    """Make a freshly initialised model for a tokenizer.

    Vocabulary size and the ids of special tokens come from the tokenizer; everything else, such as
    ``init_std`` or ``scale_embedding``, passes through to the configuration of the family.

    Args:
        config: ``model_type`` and the fields of its configuration.
        tokenizer: What the model will read and write.
        task: What it is for.
        seed: Of the weights. The random state of the caller is left as it was.

    Raises:
        ModelLoadError: An unknown ``model_type`` or field, a family without the task, a vocabulary
            smaller than the tokenizer's.
    """
    import torch
    import transformers
    from transformers import AutoConfig

    check_task(task)
    fields = {"vocab_size": len(tokenizer), **_special_ids(tokenizer, task), **config}
    model_type = str(fields.pop("model_type", ""))
    _check_fields(model_type, {name for name in config if name != "model_type"})
    if int(str(fields["vocab_size"])) < len(tokenizer):
        raise ModelLoadError(
            f"vocab_size = {fields['vocab_size']} was asked for, and the tokenizer has {len(tokenizer)} "
            "tokens; leave vocab_size out to take its size."
        )
    if model_type == "marian":
        fields.setdefault("decoder_vocab_size", fields["vocab_size"])
    made = AutoConfig.for_model(model_type, **fields)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        try:
            model = getattr(transformers, _AUTO[task]).from_config(made)
        except ValueError as error:
            raise ModelLoadError(f"{model_type!r} has no {task} model: {_first_line(error)}") from error
    if task != "masked":
        generation: Any = transformers.GenerationConfig  # untyped in transformers
        model.generation_config = generation(**_special_ids(tokenizer, task))
    return LoadedModel(model=model, tokenizer=tokenizer, task=task)


def save_model(
    loaded: LoadedModel,
    folder: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write model (or adapter) and tokenizer as one sealed ``save_pretrained`` folder, whole or not at all.

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

    with quiet():
        return save(_Saved(loaded.model), loaded.tokenizer, folder, metadata=metadata, overwrite=overwrite)


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
    if path.is_dir():
        return path
    if isinstance(model, Path) or path.is_absolute() or str(model).startswith((".", "~")) or path.exists():
        raise ModelLoadError(f"a model folder was expected at {path}, and there is none.")
    return str(model)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _config(source: Path | str, *, trusted: bool) -> "PretrainedConfig":
    from transformers import AutoConfig

    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(str(source), trust_remote_code=trusted)
    except (OSError, ValueError, KeyError) as error:
        where = "in this folder" if isinstance(source, Path) else "here or on the hub"
        raise ModelLoadError(f"no model {source} {where}: {_first_line(error)}") from error
    return config


def _refuse_hub_kernels(source: Path | str, config: "PretrainedConfig") -> None:
    """A configuration can name attention code on a hub, which transformers would fetch and run."""
    for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        asked = getattr(config, name, None)
        if "/" in str(asked):
            raise ModelLoadError(
                f"the configuration of {source} takes its attention from {asked!r}, code on a hub, which is "
                "never "
                "run. Remove attn_implementation from its config.json; the policy chooses."
            )


def _from_pretrained(
    source: Path | str, policy: "ExecutionPolicy", task: Task, *, trusted: bool
) -> "PreTrainedModel":
    import transformers

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
    kind = getattr(transformers, _AUTO[task])
    try:
        model: PreTrainedModel = kind.from_pretrained(str(source), **options)
    except (OSError, ValueError) as error:
        if "does not support an attention implementation" not in str(error):
            raise ModelLoadError(f"{source} cannot be loaded for {task}: {_first_line(error)}") from error
        _LOG.warning("%s has no %s attention; loaded with eager.", source, options["attn_implementation"])
        model = kind.from_pretrained(str(source), **{**options, "attn_implementation": "eager"})
    if "device_map" not in options:
        model.to(device)  # type: ignore[arg-type]  # transformers types the mixin's method too narrowly
    return model


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
        raise ModelLoadError(f"the tokenizer of {source} cannot be read: {_first_line(error)}") from error
    return tokenizer


def _fit_tokenizer(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Give the tokenizer a padding token, and the model room for every token."""
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
        _LOG.info("no padding token: the end-of-text token pads.")
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if rows < len(tokenizer):
        _LOG.warning("the tokenizer has %d tokens, the model %d rows: resized.", len(tokenizer), rows)
        with quiet():
            model.resize_token_embeddings(len(tokenizer))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id


def _load_adapted(
    folder: Path, policy: "ExecutionPolicy", task: Task | None, *, training: bool, trusted: bool
) -> LoadedModel:
    import json

    from peft import PeftModel

    content = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
    base = content.get("base_model_name_or_path")
    if not base:
        raise ModelLoadError(
            f"{folder / ADAPTER_FILE} names no base_model_name_or_path; add the base's folder."
        )
    if not Path(base).is_dir() and (folder / base).is_dir():
        base = os.fspath(folder / base)
    loaded = load_model(
        Path(base) if Path(base).is_dir() else base,
        policy,
        task,
        training=training,
        trust_remote_code=trusted,
    )
    with quiet():
        model: Any = PeftModel.from_pretrained(loaded.model, str(folder), is_trainable=training)
    model.train(training)
    own = any((folder / name).is_file() for name in _TOKENIZER_FILES)
    tokenizer = _tokenizer(folder, trusted=trusted) if own else loaded.tokenizer
    return LoadedModel(model=model, tokenizer=tokenizer, task=loaded.task, path=folder)


def _special_ids(tokenizer: "PreTrainedTokenizerBase", task: Task) -> dict[str, object]:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids: dict[str, object] = {
        "pad_token_id": pad,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    if task == "seq2seq":
        # Marian and BART force their own end token at the limit unless told not to.
        ids |= {"decoder_start_token_id": pad, "forced_eos_token_id": None}
    return ids


def _check_fields(model_type: str, names: set[str]) -> None:
    import difflib

    from transformers import CONFIG_MAPPING, AutoConfig

    if model_type not in CONFIG_MAPPING:
        near = difflib.get_close_matches(model_type, list(CONFIG_MAPPING.keys()), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ModelLoadError(f"model_type {model_type!r} is unknown to transformers.{hint}")
    plain = AutoConfig.for_model(model_type)
    known = {*plain.to_dict(), *plain.attribute_map, *vars(plain)}
    for name in sorted(names - known):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ModelLoadError(f"a {model_type!r} configuration has no field {name!r}.{hint}")
