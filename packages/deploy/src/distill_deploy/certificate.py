"""The certificate of an export: what was compared, what was found, and whether that is enough."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_deploy.comparison import Measured, compare_filler, compare_generator
from distill_deploy.errors import ExportError
from distill_deploy.facts import RUNTIME_FILE
from distill_deploy.generation import TextGenerator
from distill_deploy.mask_filling import MaskFiller
from distill_deploy.reference import (
    MIN_DISTINCT,
    MIN_POSITIONS,
    Recorded,
    made_rows,
    mask_rows,
    record_fills,
    record_generations,
    text_rows,
)
from distill_deploy.runtime import open_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from distill_deploy.source import Source

Metric = Callable[[Sequence[str], Sequence[object]], tuple[float, float, float]]
MIN_AGREEMENT: Mapping[str, float] = {"causal": 0.99, "seq2seq": 0.99, "masked": 0.97}
TOLERANCE = 1e-3  # largest logit difference of an fp32 export, as a share of the range of the logits
MIN_TOKENS = 200  # fewer compared tokens prove nothing
MIN_EQUAL_BEAMS = 0.9  # scores of beams tie more often than those of tokens
_WEIGHTS = ("*.bin", "*.onnx", "*.onnx.data")


@dataclass(frozen=True)
class Request:
    """What a certificate is made for."""

    format: str
    precision: str
    exporter: str
    reason: str
    held_out: Sequence[str] | None
    references: Sequence[object] | None
    metric: Metric | None
    min_agreement: float | None
    allow_failed: bool
    max_new_tokens: int
    isolated: bool = False


@dataclass(frozen=True)
class Evidence:
    """The texts, and what the model answers to them, both by transformers."""

    texts: list[str]
    rows: list[list[int]]  # of the texts, before masks were put in
    recorded: Recorded


def record(source: Source, request: Request) -> Evidence:
    """Run the model on the held-out texts, or on made rows, in this environment."""
    facts, model = source.facts, source.model()
    ends = facts["eos_token_ids"]
    if request.held_out is None:
        rows = made_rows(source)
        texts = [str(source.tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
    else:
        texts = list(request.held_out)
        rows = text_rows(source, texts, ends)
    if source.task != "masked":
        encoded = rows if request.held_out is not None else text_rows(source, texts, ends)
        return Evidence(texts, encoded, record_generations(model, rows, facts, request.max_new_tokens))
    mask = source.tokenizer.mask_token_id
    if mask is None:
        raise ExportError(f"{source.path} has no mask token, so nothing can be filled")
    special = set(source.tokenizer.all_special_ids)
    masked = mask_rows(rows, mask=mask, special=special)
    if request.metric is None:  # every text once where outputs are scored, else until there are enough masks
        for seed in range(1, 9):
            if sum(row.count(mask) for row in masked) >= MIN_TOKENS:
                break
            masked += mask_rows(rows, mask=mask, special=special, seed=seed)
    return Evidence(texts, text_rows(source, texts, ends), record_fills(model, masked, mask=mask))


def certify(source: Source, folder: Path, request: Request, evidence: Evidence) -> dict[str, object]:
    """Load the export in ``folder`` without transformers, compare, and judge."""
    import torch

    facts = json.loads((folder / RUNTIME_FILE).read_bytes())
    recorded, threads = evidence.recorded, torch.get_num_threads()
    runtime = open_runtime(folder, facts, threads=threads)
    if isinstance(runtime, MaskFiller):
        measured = compare_filler(recorded, runtime, mask=facts["mask_token_id"])
    else:
        measured = compare_generator(recorded, runtime, facts, request.max_new_tokens)
    failures = _carried(source, facts, runtime, evidence) + _agreeing(source, request, measured)
    metric = _metric(request, measured, failures)
    return _written(source, folder, request, evidence, measured, failures) | {"metric": metric}


def _carried(
    source: Source, facts: Mapping[str, object], runtime: TextGenerator | MaskFiller, evidence: Evidence
) -> list[str]:
    """What the folder should carry and does not: tokenizer, template, special ids, generation defaults."""
    failures = [f"the backend does not compute in float32: {rounding}" for rounding in runtime.roundings]
    tokenizer = source.tokenizer
    if [runtime.encode(text) for text in evidence.texts if text] != [
        row for text, row in zip(evidence.texts, evidence.rows, strict=True) if text
    ]:
        failures.append("the tokenizer without transformers makes other ids")
    slow: Any = source.slow
    for text in evidence.texts if slow is not None else ():
        ids = tokenizer(text).input_ids
        if ids != slow(text).input_ids or tokenizer.decode(ids) != slow.decode(ids):
            failures.append(f"tokenizer.json reads or writes {text!r} differently from the model's tokenizer")
            break
    answers = evidence.recorded.answers
    texts = [
        tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in answers
    ]
    if [runtime.tokenizer.decode(row, skip_special_tokens=True) for row in answers] != texts:
        failures.append("the tokenizer without transformers makes other texts")
    if isinstance(runtime, TextGenerator) and tokenizer.chat_template is not None:
        messages = [{"role": "user", "content": "a"}]
        prompt = wanted = None
        with contextlib.suppress(ValueError):
            prompt = runtime.chat_prompt(messages)
        with contextlib.suppress(Exception):  # a template may refuse the sample in its own way
            wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if prompt != wanted:
            failures.append("the chat template makes another prompt")
    for name, value in source.facts.items():
        if facts.get(name) != value:
            failures.append(f"{RUNTIME_FILE} says {name} = {facts.get(name)!r}, the model says {value!r}")
    return failures


def _agreeing(source: Source, request: Request, measured: Measured) -> list[str]:
    failures = []
    every, counting = measured.every, measured.counting if measured.counting.positions else measured.every
    relative = every.largest_difference / every.range if every.range > 0 else 0.0
    if request.precision == "fp32":
        if every.unexplained:
            failures.append(f"{every.unexplained} tokens differ beyond the model's margin")
        if measured.parted:
            failures.append(f"{measured.parted} greedy outputs part from the model's own beyond its margin")
        if relative > TOLERANCE:
            failures.append(f"logits differ by {relative:.2g} of their range, allowed are {TOLERANCE:g}")
        if measured.equal_beams is not None and measured.equal_beams < MIN_EQUAL_BEAMS * measured.beams:
            failures.append(
                f"beam search gives {measured.equal_beams} of {measured.beams} outputs of the model's own"
            )
    least = _min_agreement(source, request)
    if counting.rate < least and (request.precision != "fp32" or request.min_agreement is not None):
        failures.append(
            f"{counting.rate:.2%} of {counting.positions} tokens agree, and at least {least:.2%} have to"
        )
    return failures


def _min_agreement(source: Source, request: Request) -> float:
    return MIN_AGREEMENT[source.task] if request.min_agreement is None else request.min_agreement


def _metric(request: Request, measured: Measured, failures: list[str]) -> dict[str, object] | None:
    if request.metric is None or request.references is None:
        return None
    model = request.metric(measured.expected, request.references)
    exported = request.metric(measured.found, request.references)
    if not model[1] <= exported[0] <= model[2]:
        failures.append(
            f"the metric is {exported[0]:.4g}, outside the model's interval {model[1]:.4g} to {model[2]:.4g}"
        )
    return {
        "model": dict(zip(("value", "low", "high"), model, strict=True)),
        "export": dict(zip(("value", "low", "high"), exported, strict=True)),
    }


def _doubts(measured: Measured, counted: int) -> list[str]:
    """Why agreement, however high, would prove too little."""
    doubts = []
    if measured.distinct_tokens < MIN_DISTINCT:
        doubts.append(f"the model's outputs hold {measured.distinct_tokens} distinct tokens")
    if counted < MIN_TOKENS:
        doubts.append(
            f"{counted} tokens of outputs with at least {MIN_DISTINCT} distinct tokens were compared, "
            f"and {MIN_TOKENS} are needed; give more held-out texts"
        )
    return doubts


def _written(
    source: Source,
    folder: Path,
    request: Request,
    evidence: Evidence,
    measured: Measured,
    failures: list[str],
) -> dict[str, object]:
    every, counting = measured.every, measured.counting
    doubts, recorded = _doubts(measured, counting.positions), evidence.recorded
    agreement = counting if counting.positions else every
    weights = sum(path.stat().st_size for form in _WEIGHTS for path in folder.glob(form))
    saved = sum(path.stat().st_size for path in source.path.glob("*.safetensors"))
    return {
        "schema_version": 1,
        "task": source.task,
        "model_type": source.model_type,
        "format": request.format,
        "precision": request.precision,
        "exporter": request.exporter,
        "reason": request.reason,
        "verified": not failures and not doubts,
        "accepted": bool(failures) and request.allow_failed,
        "failures": failures,
        "doubts": doubts,
        "warnings": _warnings(measured, recorded),
        "compared_on": "64 rows of random tokens" if request.held_out is None else "held-out texts",
        "examples": measured.examples,
        "positions": agreement.positions,
        "all_positions_there_are": every.positions < MIN_POSITIONS,
        "distinct_tokens": measured.distinct_tokens,
        "degenerate": measured.distinct_tokens < MIN_DISTINCT,
        "token_agreement": agreement.rate,
        "min_agreement": _min_agreement(source, request),
        "method": measured.method,
        "largest_logit_difference": every.largest_difference,
        "logit_range": every.range,
        "tolerance": TOLERANCE if request.precision == "fp32" else None,
        "tokens_differing_beyond_margin": every.unexplained,
        "equal_outputs": measured.equal_outputs / measured.examples,
        "equal_beam_outputs": None if measured.equal_beams is None else measured.equal_beams / measured.beams,
        "max_new_tokens": request.max_new_tokens,
        "weights_bytes": weights,
        "source_bytes": saved,
        "size_ratio": weights / saved if saved else None,
        "torch_ms_per_example": recorded.ms_per_example,
        "runtime_ms_per_example": measured.ms_per_example,
        "speed_ratio": recorded.ms_per_example / max(measured.ms_per_example, 1e-9),
        "versions": _versions(),
    }


def _warnings(measured: Measured, recorded: Recorded) -> list[str]:
    differing = sum(a != b for a, b in zip(recorded.beams, recorded.early, strict=True))
    if recorded.early and measured.equal_beams is None:
        return ["the model's generation defaults search beams, and this export's runtime is greedy only"]
    if not differing:
        return []
    return [
        (
            f"the model's generation defaults search beams that do not stop early, the runtime's do: "
            f"{differing} of {measured.beams} outputs differ for that alone"
        )
    ]


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in (
        "distill-deploy",
        "ctranslate2",
        "onnxruntime",
        "openvino",
        "openvino-genai",
        "tokenizers",
        "torch",
        "transformers",
    ):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
