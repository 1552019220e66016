"""Merging an adapter into its base, and proof that the merged model says the same."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill_adapters.base_location import ADAPTER_FILE, adapter_base
from distill_adapters.errors import MergeError, ModelLoadError
from distill_adapters.loaded import BASE_QUANTIZATION, LoadedModel
from distill_adapters.loading import load_model, put_on
from distill_adapters.saving import save_model

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy

_LOG = logging.getLogger(__name__)
_PROBE = (4, 16)  # batch and tokens of the random texts that drift is measured on where none are given
_TOKENS_OF_A_TEXT = 64
# Largest difference of logits, as a share of the largest. LLM.int8 rounds its activations too, and no merged
# model does: on a tiny Llama that alone moves them by 1 %.
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

    An adapter that was trained on 4 or 8 bits can go into the original weights or into those bits
    dequantized. Both are tried, and the one whose logits drift less from what was trained is kept. Everything
    is computed in float32.

    Args:
        folder: A folder with an adapter.
        out: Where the merged model and its tokenizer go.
        base: Where the base lies; None takes the place that the adapter names.
        into: ``auto``, or ``original`` or ``dequantized`` to try one alone.
        texts: What the drift is measured on; random tokens where there are none.
        bound: Largest drift that is accepted, as a share of the largest logit; None is 1e-4, and 0.05 for
            int8.

    Returns:
        ``out``. Its manifest says ``merged_into`` and ``merge_drift``, and ``drift_NAME`` of each one tried.

    Raises:
        ModelLoadError: ``folder`` holds no adapter, or it belongs to another base.
        MergeError: The logits drift by more than ``bound``; nothing is written.
        FileExistsError: ``out`` is there.
        ValueError: ``into`` is none of the three, or ``dequantized`` and the base was not quantized.
    """
    source, target = Path(folder), Path(out)
    if not (source / ADAPTER_FILE).is_file():
        raise ModelLoadError(
            f"{source} holds no adapter (there is no {ADAPTER_FILE}), so nothing is to merge."
        )
    if target.exists():
        raise FileExistsError(f"{target} exists; choose another place.")
    quantization = _trained_on(source)
    ways = _ways(into, quantization)
    trained = load_model(source, _policy(quantization), training=False, base=base)
    expected = _logits(trained, texts)
    found: dict[str, tuple[float, LoadedModel]] = {}
    for way in ways:
        merged = _merged(source, trained, way, quantization, base)
        drift = float((_logits(merged, texts) - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
        found[way] = drift, merged
    kept = min(found, key=lambda way: found[way][0])
    drift, merged = found[kept]
    allowed = BOUNDS[quantization] if bound is None else bound
    if not drift <= allowed:
        raise MergeError(
            f"merging moves the logits by {drift:.2e} of the largest, more than {allowed:.0e}; nothing was "
            "written. Keep the adapter, or raise bound= where that is acceptable."
        )
    facts = {"merged_from": source.name, "merged_into": kept, "merge_drift": f"{drift:.2e}"}
    facts |= {f"drift_{way}": f"{value:.2e}" for way, (value, _) in found.items()}
    return save_model(merged, target, metadata=facts)


def _trained_on(folder: Path) -> str:
    """How the base was stored when the adapter was trained; ``none`` where that cannot be repeated."""
    from importlib.util import find_spec

    from distill_deploy import verify

    quantization = verify(folder).metadata.get(BASE_QUANTIZATION, "none")
    if quantization != "none" and find_spec("bitsandbytes") is None:
        _LOG.warning(
            "%s was trained on %s weights, which needs bitsandbytes: merged into the original, and the drift "
            "is that of merging alone. pip install 'distill-adapters[qlora]'",
            folder,
            quantization,
        )
        return "none"
    return quantization


def _ways(into: str, quantization: str) -> tuple[str, ...]:
    if into not in INTO:
        raise ValueError(f"into = {into!r} was asked for; there are {', '.join(INTO)}.")
    if into == "dequantized" and quantization == "none":
        raise ValueError("into = 'dequantized' was asked for, and the adapter's base was not quantized.")
    if into != "auto":
        return (into,)
    return ("original",) if quantization == "none" else ("dequantized", "original")


def _merged(
    source: Path, trained: LoadedModel, way: str, quantization: str, base: str | Path | None
) -> LoadedModel:
    """The adapter in its base; ``trained`` is used up where it is that base already."""
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
    """This machine's CPU in float32; of the model nothing is planned."""
    from distill_hwdetect import ModelFacts, Requirements, choose_policy, detect

    unknown = ModelFacts(parameters=1, layers=1, hidden_size=1, vocab_size=1, intermediate_size=1)
    overrides = {"device": "cpu", "quantization": quantization, "compute_dtype": "float32"}
    return choose_policy(
        detect(), Requirements(task="causal", model=unknown, training=False, overrides=overrides)
    )


def _logits(loaded: LoadedModel, texts: Sequence[str]) -> torch.Tensor:
    """Logits of the tokens of texts, ``(tokens, vocab)``; of fixed random ones where there are no texts."""
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
