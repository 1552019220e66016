"""Loading a model under a policy: a folder, an adapter with its base, a GGUF file, or a name on the hub."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.base_location import ADAPTER_FILE, adapter_base
from distill_adapters.config import Task, check_task
from distill_adapters.errors import ModelLoadError
from distill_adapters.gguf import load_gguf
from distill_adapters.hub import is_hub_name
from distill_adapters.loaded import BASE_FINGERPRINT, LoadedModel
from distill_adapters.model_folder import has_tokenizer
from distill_adapters.pretrained import first_line, load_pretrained, load_tokenizer
from distill_adapters.quiet import quiet
from distill_adapters.spelling import did_you_mean, near_path

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy


def load_model(
    model: str | Path,
    policy: "ExecutionPolicy",
    task: Task | None = None,
    *,
    training: bool = True,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer under a policy.

    A local folder that has a manifest is verified first. Weights are read from safetensors, or dequantized
    from GGUF, and every tensor of the model must be present.

    Args:
        model: A folder, a folder with an adapter (its base is loaded too), a ``.gguf`` file, or a name on
            the hub.
        policy: Device, number types, quantization and attention.
        task: The task; None reads it from the configuration.
        training: False for a model that is not trained.
        trust_remote_code: Run code that comes with the model.
        base: Location of an adapter's base; None takes the one that the adapter names.

    Raises:
        ModelLoadError: There is no such model, it has none of the three tasks, tensors are missing, or an
            adapter was trained on another base.
        IntegrityError: A file of the folder differs from its manifest, or is a pickle.

    Example:
        >>> from distill_adapters import load_model
        >>> from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts
        >>> needs = Requirements(task="causal", model=read_model_facts("writer"), training=False)
        >>> loaded = load_model("writer", choose_policy(detect(), needs), training=False)
        >>> type(loaded.model).__name__, loaded.task
        ('LlamaForCausalLM', 'causal')
    """
    if task is not None:
        check_task(task)
    source = _source(model)
    if isinstance(source, Path):
        if source.suffix == ".gguf":
            return load_gguf(source, policy, task, training=training)
        from distill_deploy import verify

        metadata = verify(source).metadata
        if (source / ADAPTER_FILE).is_file():
            found = adapter_base(source, base)
            under = load_model(found, policy, task, training=training, trust_remote_code=trust_remote_code)
            return put_on(under, source, metadata, training=training)
    if base is not None:
        raise ModelLoadError(
            f"base = {base} was given, but {model} is not an adapter (it has no {ADAPTER_FILE}).",
            field="base",
            found=str(base),
        )
    return load_pretrained(source, policy, task, training=training, trusted=trust_remote_code)


def put_on(base: LoadedModel, folder: Path, metadata: Mapping[str, str], *, training: bool) -> LoadedModel:
    """Put a saved adapter on its base, which is changed in place.

    Args:
        base: The base model.
        folder: The folder of the adapter.
        metadata: The metadata in the folder's manifest.
        training: Whether the adapter will be trained further.

    Raises:
        ModelLoadError: The adapter was trained on another base, or lacks tensors.
    """
    from peft import PeftModel

    expected = metadata.get(BASE_FINGERPRINT)
    if expected is not None and base.base_fingerprint not in (None, expected):
        raise ModelLoadError(
            f"the adapter {folder} was trained on other weights than those of {base.path}: fingerprint "
            f"{expected[:12]} was expected, {str(base.base_fingerprint)[:12]} found. Give base= the "
            "location of its own base.",
            field="base",
            found=str(base.path),
        )
    try:
        with quiet():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            model: Any = PeftModel.from_pretrained(base.model, str(folder), is_trainable=training)
    except (UserWarning, RuntimeError, ValueError) as error:
        raise ModelLoadError(
            f"the adapter {folder} does not fit {base.path}: {first_line(error)}",
            field="base",
            found=str(base.path),
        ) from error
    for config in model.peft_config.values():
        if str(config.base_model_name_or_path).startswith(
            "."
        ):  # as seen from its folder, not from the next one
            config.base_model_name_or_path = str(base.path)
    model.train(training)
    return LoadedModel(
        model=model,
        tokenizer=load_tokenizer(folder) if has_tokenizer(folder) else base.tokenizer,
        task=base.task,
        path=folder,
        base_fingerprint=base.base_fingerprint,
    )


def _source(model: str | Path) -> Path | str:
    path = Path(model)
    if path.is_dir() or (path.suffix == ".gguf" and path.is_file()):
        return path
    named = isinstance(model, str) and not model.startswith((".", "~")) and not path.exists()
    if named and (is_hub_name(model) or len(path.parts) == 1):  # the oldest models have no organisation
        return str(model)
    suggestion = near_path(path)
    raise ModelLoadError(
        f"there is no model folder {path}.{did_you_mean(suggestion)}",
        field="model",
        found=str(model),
        suggestion=suggestion,
    )
