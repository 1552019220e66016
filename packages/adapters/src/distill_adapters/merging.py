"""Merging an adapter into its base, and a check that the merged model gives the same logits."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill_adapters.base_location import ADAPTER_FILE, adapter_base
from distill_adapters.config import unknown_value
from distill_adapters.errors import ConfigError, MergeError, ModelLoadError
from distill_adapters.loaded import BASE_QUANTIZATION, LoadedModel
from distill_adapters.loading import load_model, put_on
from distill_adapters.saving import save_model

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy

_LOG = logging.getLogger(__name__)
_PROBE = (4, 16)  # batch and tokens of the random texts on which drift is measured if none are given
_TOKENS_OF_A_TEXT = 64
# Largest difference of logits, as a share of the largest. LLM.int8 also rounds activations, which a merged
# model does not: on a tiny Llama that alone moves them by 1 %.
BOUNDS: Mapping[str, float] = {"none": 1e-4, "nf4": 1e-4, "int8": 0.05}
INTO = ("auto", "original", "dequantized")


def merge(
    folder: str | Path,
    out: str | Path,
    *,
    base: str | Path | None = None,
    into: str = "auto",
    texts: Sequence[str] = (),
    bound: float | None = None,
) -> Path:
    """Merge the adapter in ``folder`` into its base, and save an ordinary model folder.

    An adapter that was trained on 4-bit or 8-bit weights can be merged into the original weights or into the
    quantized ones, dequantized. Both are tried, and the one whose logits drift less from those of the trained
    model is kept. Everything is computed in float32.

    Args:
        folder: The folder of the adapter.
        out: The folder to make for the merged model and its tokenizer.
        base: Location of the base; None takes the one that the adapter names.
        into: ``auto`` tries both; ``original`` or ``dequantized`` tries that one alone.
        texts: Texts on which the drift is measured; without any, random tokens.
        bound: Largest drift accepted, as a share of the largest logit. None means 1e-4, or 0.05 for int8.

    Returns:
        ``out``. Its manifest holds ``merged_into``, ``merge_drift``, and ``drift_NAME`` of each one tried.

    Raises:
        ModelLoadError: ``folder`` holds no adapter, or it belongs to another base.
        MergeError: The logits drift by more than ``bound``; nothing is written.
        FileExistsError: ``out`` exists.
        ConfigError: ``into`` is not one of the three, or it is ``dequantized`` and the base was not
            quantized.

    Example:
        >>> from distill_adapters import attach, load_model, merge, save_model
        >>> from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts
        >>> needs = Requirements(task="causal", model=read_model_facts("writer"), adapter="lora")
        >>> policy = choose_policy(detect(), needs)
        >>> adapter = save_model(attach(load_model("writer", policy)), "writer-adapter")
        >>> (merge(adapter, "writer-merged") / "model.safetensors").is_file()
        True
    """
    source, target = Path(folder), Path(out)
    if not (source / ADAPTER_FILE).is_file():
        raise ModelLoadError(
            f"{source} holds no adapter (it has no {ADAPTER_FILE}), so there is nothing to merge.",
            field="folder",
            found=str(source),
        )
    if target.exists():
        raise FileExistsError(f"{target} exists. Choose another folder.")
    quantization = _trained_on(source)
    ways = _ways(into, quantization)
    trained = load_model(source, _policy(quantization), training=False, base=base)
    kept, found = _tried(source, trained, ways, quantization, base, texts)
    drift, merged = found[kept]
    _check_drift(drift, BOUNDS[quantization] if bound is None else bound)
    facts = {"merged_from": source.name, "merged_into": kept, "merge_drift": f"{drift:.2e}"}
    facts |= {f"drift_{way}": f"{value:.2e}" for way, (value, _) in found.items()}
    return save_model(merged, target, metadata=facts)


def _check_drift(drift: float, bound: float) -> None:
    if not drift <= bound:
        raise MergeError(
            f"merging moves the logits by {drift:.2e} of the largest, more than {bound:.0e}; nothing was "
            "written. Keep the adapter, or raise bound= if that is acceptable.",
            field="bound",
            found=bound,
            suggestion=drift,
        )


def _tried(
    source: Path,
    trained: LoadedModel,
    ways: Sequence[str],
    quantization: str,
    base: str | Path | None,
    texts: Sequence[str],
) -> tuple[str, dict[str, tuple[float, LoadedModel]]]:
    """The way that drifts least, and the drift and merged model of each way."""
    expected = _logits(trained, texts)
    found: dict[str, tuple[float, LoadedModel]] = {}
    for way in ways:
        merged = _merged(source, trained, way, quantization, base)
        drift = float((_logits(merged, texts) - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
        found[way] = drift, merged
    return min(found, key=lambda way: found[way][0]), found


def _trained_on(folder: Path) -> str:
    """How the base was stored when the adapter was trained; ``none`` if that cannot be repeated here."""
    from importlib.util import find_spec

    from distill_deploy import verify

    quantization = verify(folder).metadata.get(BASE_QUANTIZATION, "none")
    if quantization != "none" and find_spec("bitsandbytes") is None:
        _LOG.warning(
            "%s was trained on %s weights, which need bitsandbytes. It is merged into the original weights, "
            "and the drift is that of merging alone. To compare both: pip install 'distill-adapters[qlora]'",
            folder,
            quantization,
        )
        return "none"
    return quantization


def _ways(into: str, quantization: str) -> tuple[str, ...]:
    if into not in INTO:
        raise unknown_value("into", into, INTO)
    if into == "dequantized" and quantization == "none":
        raise ConfigError(
            "into = 'dequantized' was given, but the adapter's base was not quantized.",
            field="into",
            found=into,
            allowed=("auto", "original"),
            suggestion="auto",
        )
    if into != "auto":
        return (into,)
    return ("original",) if quantization == "none" else ("dequantized", "original")


def _merged(
    source: Path, trained: LoadedModel, way: str, quantization: str, base: str | Path | None
) -> LoadedModel:
    """The adapter merged into its base; ``trained`` itself where its base was not quantized."""
    if quantization == "none":
        adapted = trained
    else:
        under = load_model(
            adapter_base(source, base),
            _policy(quantization if way == "dequantized" else "none"),
            training=False,
        )
        if way == "dequantized":
            model: Any = under.model
            under.model = model.dequantize()
        adapted = put_on(under, source, {}, training=False)
    tuner: Any = adapted.model
    return LoadedModel(
        model=tuner.merge_and_unload(safe_merge=True), tokenizer=adapted.tokenizer, task=adapted.task
    )


def _policy(quantization: str) -> "ExecutionPolicy":
    """A policy for this machine's CPU in float32; the size of the model plays no part in it."""
    from distill_hwdetect import ModelFacts, Requirements, choose_policy, detect

    unknown = ModelFacts(parameters=1, layers=1, hidden_size=1, vocab_size=1, intermediate_size=1)
    overrides = {"device": "cpu", "quantization": quantization, "compute_dtype": "float32"}
    return choose_policy(
        detect(), Requirements(task="causal", model=unknown, training=False, overrides=overrides)
    )


def _logits(loaded: LoadedModel, texts: Sequence[str]) -> torch.Tensor:
    """Logits of the tokens of texts, ``(tokens, vocab)``; of fixed random tokens if there are no texts."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, len(loaded.tokenizer), _PROBE, generator=generator).tolist()
    if texts:
        rows = [list(ids)[:_TOKENS_OF_A_TEXT] for ids in loaded.tokenizer(list(texts))["input_ids"]]
    loaded.model.train(mode=False)
    scores = []
    with torch.inference_mode():
        for row in filter(None, rows):
            ids = torch.tensor([row])
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if loaded.task == "seq2seq":
                batch["decoder_input_ids"] = ids.flip(1)
            scores.append(loaded.model(**batch).logits[0].float())
    return torch.cat(scores)
