"""Exporting a saved model so that it runs without torch, with a certificate of how well it agrees."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill_deploy.conversion import (
    RUNTIME_FILE,
    Source,
    Task,
    convert_ctranslate2,
    convert_onnx,
    open_source,
    write_runtime_files,
)
from distill_deploy.errors import ExportError, ExportRefusedError
from distill_deploy.folders import staged
from distill_deploy.verification import verify

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distill_deploy.certifying import Measured

Format = Literal["auto", "ctranslate2", "onnx"]
Precision = Literal["fp32", "int8"]
Metric = Callable[[Sequence[str], Sequence[object]], tuple[float, float, float]]

FLOORS: Mapping[str, float] = {"causal": 0.99, "seq2seq": 0.99, "masked": 0.97}
TOLERANCE = 1e-3  # largest logit difference of an fp32 export, as a share of the range of the logits
CERTIFICATE = "certificate.json"
_WEIGHTS = ("model.bin", "model.onnx")


@dataclass(frozen=True)
class ExportedModel:
    """An export that was verified: where it is, its files and their bytes, and its certificate."""

    path: Path
    format: str
    precision: str
    files: Mapping[str, int]
    size_bytes: int
    certificate: Mapping[str, object]


@dataclass(frozen=True)
class _Request:
    """What the certificate is made for."""

    format: str
    precision: str
    held_out: Sequence[str] | None
    references: Sequence[object] | None
    metric: Metric | None
    floor: float | None
    accept: bool
    max_new_tokens: int


def export(
    folder: Path | str,
    out: Path | str,
    *,
    task: Task | None = None,
    format: Format = "auto",  # noqa: A002 - the word users know
    precision: Precision = "int8",
    held_out: Sequence[str] | None = None,
    references: Sequence[object] | None = None,
    metric: Metric | None = None,
    floor: float | None = None,
    accept: bool = False,
    max_new_tokens: int = 64,
    overwrite: bool = False,
) -> ExportedModel:
    """Convert a saved transformers folder, compare it with its model, and keep it only if they agree.

    Args:
        folder: A ``save_pretrained`` folder; it is verified first and never changed.
        out: Where the export shall stand.
        task: "causal", "seq2seq" or "masked"; None reads it from the configuration.
        format: "ctranslate2" (causal, seq2seq), "onnx" (masked), or "auto".
        precision: "fp32", or "int8" weights.
        held_out: Texts to compare on: sources, prompts or texts (masks in them, else 15 % are masked).
            None compares on 64 rows of random tokens, and the certificate says so.
        references: What ``metric`` compares with, one for each of ``held_out``.
        metric: ``(predictions, references) -> (value, low, high)``; the export's value must lie within the
            interval of the model's.
        floor: Least share of equal teacher-forced tokens; None takes 0.99 (masked 0.97). In fp32 tokens may
            differ only where the arithmetic explains it, whatever the floor.
        accept: Keep an export that misses its floor; the certificate records it.
        max_new_tokens: Length of the compared generations, and the runtime's default.
        overwrite: Whether an existing ``out`` is replaced.

    Raises:
        ExportRefusedError: The export misses its floor. It stands at ``out`` + ".rejected".
        ExportError: The architecture, format, precision or arguments have no path.
        IntegrityError: ``folder`` is not what its manifest says.
        FileExistsError: ``out`` exists and ``overwrite`` is false.
    """
    source_path, target = Path(folder), Path(out)
    _check(precision, held_out, references, metric)
    verify(source_path)
    source = open_source(source_path, task)
    chosen = _format(source, format)
    request = _Request(chosen, precision, held_out, references, metric, floor, accept, max_new_tokens)
    with staged(target, overwrite=overwrite, metadata={"source": source_path.name}) as staging:
        convert = convert_onnx if chosen == "onnx" else convert_ctranslate2
        model = convert(source, staging, precision)
        facts = {"format": chosen, "precision": precision, "max_new_tokens": max_new_tokens}
        write_runtime_files(source, model, staging, {"schema_version": 1, **facts})
        del model
        certificate = _certify(source, staging, request)
        (staging / CERTIFICATE).write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
        failures = _list(certificate["failures"])
        if failures and not accept:
            asked = f"{source_path} exported as {chosen} {precision}"
            raise _refusal(asked, failures, _set_aside(staging, target))
    files = {name: (target / name).stat().st_size for name in verify(target).files}
    return ExportedModel(target, chosen, precision, files, sum(files.values()), certificate)


def _check(
    precision: Precision,
    held_out: Sequence[str] | None,
    references: Sequence[object] | None,
    metric: Metric | None,
) -> None:
    if precision not in ("fp32", "int8"):
        raise ExportError(f"precision {precision!r} was asked for; there are fp32 and int8")
    if metric is not None and (held_out is None or references is None or len(references) != len(held_out)):
        raise ExportError("a metric needs held_out texts and one reference for each of them")
    if held_out is not None and not held_out:
        raise ExportError("held_out is empty; pass None to compare on made rows")


def _set_aside(staging: Path, target: Path) -> Path:
    rejected = target.with_name(target.name + ".rejected")
    with staged(rejected, overwrite=True) as aside:
        shutil.copytree(staging, aside, dirs_exist_ok=True)
    return rejected


def _refusal(asked: str, failures: Sequence[object], rejected: Path) -> ExportRefusedError:
    return ExportRefusedError(
        f"{asked} was refused: {'; '.join(map(str, failures))}. "
        f"It stands at {rejected}; try fp32, or pass accept=True (--accept) to keep it"
    )


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _format(source: Source, asked: str) -> str:
    right = "onnx" if source.task == "masked" else "ctranslate2"
    if asked not in ("auto", right):
        raise ExportError(
            f"format {asked!r} was asked for a {source.task} model, which is exported as {right!r}"
        )
    return right


def _certify(source: Source, folder: Path, request: _Request) -> dict[str, object]:
    """Measure the export in ``folder`` against the model and judge it."""
    from distill_deploy.certifying import MIN_DISTINCT, MIN_POSITIONS

    measured, same_ids = _measure(source, folder, request)
    agreement = measured.agreement
    floor = FLOORS[source.task] if request.floor is None else request.floor
    failures = [] if same_ids else ["the tokenizer without transformers makes other ids"]
    relative = agreement.largest_difference / agreement.range if agreement.range > 0 else 0.0
    if request.precision == "fp32":
        if agreement.unexplained:
            failures.append(f"{agreement.unexplained} tokens differ beyond the model's margin")
        if relative > TOLERANCE:
            failures.append(f"logits differ by {relative:.2g} of their range, allowed are {TOLERANCE:g}")
    if agreement.rate < floor and (request.precision != "fp32" or request.floor is not None):
        failures.append(
            f"{agreement.rate:.2%} of {agreement.positions} tokens agree, the floor is {floor:.2%}"
        )
    metric = _metric(request, measured, failures)
    weights = sum((folder / name).stat().st_size for name in _WEIGHTS if (folder / name).exists())
    saved = sum(path.stat().st_size for path in source.path.glob("*.safetensors"))
    return {
        "schema_version": 1,
        "task": source.task,
        "model_type": source.model_type,
        "format": request.format,
        "precision": request.precision,
        "verified": not failures and measured.distinct_tokens >= MIN_DISTINCT,
        "accepted": bool(failures) and request.accept,
        "failures": failures,
        "compared_on": "64 rows of random tokens" if request.held_out is None else "held-out texts",
        "examples": measured.examples,
        "positions": agreement.positions,
        "all_positions_there_are": agreement.positions < MIN_POSITIONS,
        "distinct_tokens": measured.distinct_tokens,
        "degenerate": measured.distinct_tokens < MIN_DISTINCT,
        "token_agreement": agreement.rate,
        "floor": floor,
        "method": measured.method,
        "largest_logit_difference": agreement.largest_difference,
        "logit_range": agreement.range,
        "tolerance": TOLERANCE if request.precision == "fp32" else None,
        "tokens_differing_beyond_margin": agreement.unexplained,
        "equal_outputs": measured.equal_outputs / measured.examples,
        "max_new_tokens": request.max_new_tokens,
        "weights_bytes": weights,
        "source_bytes": saved,
        "size_ratio": weights / saved if saved else None,
        "torch_seconds": measured.torch_seconds,
        "runtime_seconds": measured.runtime_seconds,
        "speed_ratio": measured.torch_seconds / max(measured.runtime_seconds, 1e-9),
        "metric": metric,
        "versions": _versions(),
    }


def _measure(source: Source, folder: Path, request: _Request) -> tuple[Measured, bool]:
    import torch

    from distill_deploy.certifying import made_prompts, mask_rows, measure_filler, measure_generator
    from distill_deploy.runtime import MaskFiller, TextGenerator

    facts = json.loads((folder / RUNTIME_FILE).read_bytes())
    reference, threads = source.model(), torch.get_num_threads()
    runtime: TextGenerator | MaskFiller
    runtime = (MaskFiller if source.task == "masked" else TextGenerator)(folder, facts, threads=threads)
    same = True
    if request.held_out is None:
        rows = made_prompts(source)
    else:
        rows = [runtime.encode(text) for text in request.held_out]
        theirs = [list(source.tokenizer(text).input_ids) for text in request.held_out]
        if source.task == "causal":
            theirs = [trimmed(row, facts["eos_token_ids"]) for row in theirs]
        same = rows == [row or ours for row, ours in zip(theirs, rows, strict=True)]
    if isinstance(runtime, MaskFiller):
        mask = facts["mask_token_id"]
        if mask is None:
            raise ExportError(f"{source.path} has no mask token, so nothing can be filled")
        rows = mask_rows(rows, mask=mask, special=set(source.tokenizer.all_special_ids))
        return measure_filler(reference, runtime, rows, mask=mask), same
    measured = measure_generator(
        reference,
        runtime,
        rows,
        suppressed=facts["suppress_token_ids"],
        ends=facts["eos_token_ids"],
        max_new_tokens=_room(reference, rows, request.max_new_tokens),
    )
    return measured, same


def _room(model: PreTrainedModel, rows: Sequence[Sequence[int]], asked: int) -> int:
    """As many new tokens as the positions of the model leave room for."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:  # relative positions have no end
        return asked
    taken = 0 if model.config.is_encoder_decoder else max(map(len, rows))
    room = min(asked, int(positions) - taken)
    if room < 1:
        raise ExportError(
            f"a held-out text of {taken} tokens leaves no room in the model's {positions} positions"
        )
    return room


def trimmed(row: list[int], ends: Sequence[int]) -> list[int]:
    """A prompt without the end token that some tokenizers append: nothing continues after the end."""
    return row[:-1] if len(row) > 1 and row[-1] in ends else row


def _metric(request: _Request, measured: Measured, failures: list[str]) -> dict[str, object] | None:
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


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("distill-deploy", "ctranslate2", "onnxruntime", "tokenizers", "torch", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
