"""Merging an adapter into its base, and proof that the merged model says the same."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill_adapters.errors import MergeError, ModelLoadError
from distill_adapters.loading import LoadedModel, load_model, save_model

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy

_PROBE = (4, 16)  # batch and tokens of the random texts that drift is measured on


def merge(folder: str | Path, out: str | Path, *, bound: float = 1e-4) -> Path:
    """Merge the adapter in ``folder`` into the base it names, and save an ordinary model folder.

    The base is loaded unquantized in float32, so an adapter trained on a 4-bit base is merged into the
    original weights.

    Args:
        folder: A folder with an adapter.
        out: Where the merged model and its tokenizer go.
        bound: Largest difference of logits that is accepted, as a share of the logits' largest.

    Returns:
        ``out``.

    Raises:
        ModelLoadError: ``folder`` holds no adapter.
        MergeError: The merged model's logits differ by more than ``bound``; nothing is written.
        FileExistsError: ``out`` is there.
    """
    source = Path(folder)
    if not (source / "adapter_config.json").is_file():
        raise ModelLoadError(
            f"{source} holds no adapter (there is no adapter_config.json), so nothing is to merge."
        )
    loaded = load_model(source, _policy("none"), training=False)
    before = _logits(loaded)
    merged = loaded.model.merge_and_unload(safe_merge=True)  # type: ignore[operator]  # PEFT's, untyped
    result = LoadedModel(model=merged, tokenizer=loaded.tokenizer, task=loaded.task, path=loaded.path)
    drift = float((_logits(result) - before).abs().max() / before.abs().max().clamp_min(1e-12))
    if not drift <= bound:
        raise MergeError(
            f"merging moves the logits by {drift:.2e} of the largest, more than {bound:.0e}; nothing was "
            "written. Keep the adapter, or raise bound= where that is acceptable."
        )
    return save_model(result, out, metadata={"merged_from": source.name, "merge_drift": f"{drift:.2e}"})


def _policy(quantization: str) -> "ExecutionPolicy":
    """This machine's CPU in float32; of the model nothing is planned."""
    from distill_hwdetect import ModelFacts, Requirements, detect, plan

    unknown = ModelFacts(parameters=1, layers=1, hidden_size=1, vocab_size=1, intermediate_size=1)
    overrides = {"device": "cpu", "quantization": quantization, "compute_dtype": "float32"}
    return plan(detect(), Requirements(task="causal", model=unknown, training=False, overrides=overrides))


def _logits(loaded: LoadedModel) -> torch.Tensor:
    """Logits of fixed random token ids, ``(batch, seq, vocab)``."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, len(loaded.tokenizer), _PROBE, generator=generator)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if loaded.task == "seq2seq":
        batch["decoder_input_ids"] = ids.flip(1)
    loaded.model.train(mode=False)
    with torch.inference_mode():
        logits: torch.Tensor = loaded.model(**batch).logits.float()
    return logits
