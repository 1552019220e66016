"""Saving a model, or an adapter, with its tokenizer as one sealed folder."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.base_location import base_reference
from distill_adapters.loaded import BASE_FINGERPRINT, BASE_QUANTIZATION, LoadedModel, quantization_of
from distill_adapters.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def save_model(
    loaded: LoadedModel,
    folder: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    relative_within: Path | str | None = None,
) -> Path:
    """Save a model or an adapter with its tokenizer as a ``save_pretrained`` folder, whole or not at all.

    The folder gets a manifest. An adapter's holds the fingerprint and quantization of its base.

    Args:
        loaded: The model, and its tokenizer.
        folder: The folder to make.
        metadata: Further texts for the manifest.
        overwrite: Replace an existing folder.
        relative_within: A folder that may later be moved as a whole. An adapter in it whose base is in it
            too refers to the base by a relative path, which :func:`adapter_base` reads.

    Raises:
        FileExistsError: ``folder`` exists and ``overwrite`` is false.
        NonFiniteWeightsError: A tensor holds NaN or infinity.

    Example:
        >>> from distill_adapters import load_tokenizer, new_model, save_model
        >>> config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1}
        >>> model = new_model(config, load_tokenizer("writer"), task="causal", seed=0)
        >>> [file.name for file in save_model(model, "small-gpt2").glob("*.safetensors")]
        ['model.safetensors']
    """
    from distill_deploy import save

    noted = dict(metadata or {})
    if hasattr(loaded.model, "peft_config"):
        noted[BASE_QUANTIZATION] = quantization_of(loaded.model)
        if loaded.base_fingerprint is not None:
            noted[BASE_FINGERPRINT] = loaded.base_fingerprint
    with quiet(), _base_named(loaded.model, Path(folder), relative_within):
        return save(_Saved(loaded.model), loaded.tokenizer, folder, metadata=noted, overwrite=overwrite)


@contextmanager
def _base_named(model: Any, folder: Path, within: Path | str | None) -> Iterator[None]:
    """Inside the block, an adapter refers to its base by the path that its folder is to hold."""
    configs = list(model.peft_config.values()) if within is not None and hasattr(model, "peft_config") else []
    before = [config.base_model_name_or_path for config in configs]
    for config in configs:
        base = config.base_model_name_or_path or model.get_base_model().name_or_path
        config.base_model_name_or_path = base_reference(str(base), folder, Path(str(within)))
    try:
        yield
    finally:
        for config, base in zip(configs, before, strict=True):
            config.base_model_name_or_path = base


class _Saved:
    """A model as distill_deploy saves it; PEFT would ask the hub about the base's embeddings."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self._model = model

    def save_pretrained(self, save_directory: str) -> None:
        """Write safetensors and configuration."""
        options: dict[str, Any] = (
            {"save_embedding_layers": False} if hasattr(self._model, "peft_config") else {}
        )
        self._model.save_pretrained(save_directory, **options)
