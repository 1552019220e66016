"""Exporting a saved model so that it runs without torch, with a certificate of how well it agrees."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill_deploy.backend_onnx import DECODER, ENCODER
from distill_deploy.backend_openvino import MODEL
from distill_deploy.certificate import Evidence, Metric, Request, certify, record
from distill_deploy.choosing import export_path
from distill_deploy.conversion import (
    Source,
    convert_ctranslate2,
    convert_onnx,
    open_source,
    write_runtime_files,
)
from distill_deploy.errors import ExportError, ExportRefusedError
from distill_deploy.facts import Task
from distill_deploy.folders import staged
from distill_deploy.legacy import write_legacy
from distill_deploy.onnx_weights import quantize_weights
from distill_deploy.optimum_export import check_optimum, convert_optimum, lacking
from distill_deploy.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Format = Literal["auto", "ctranslate2", "onnx", "openvino"]
Exporter = Literal["auto", "own", "optimum"]
Precision = Literal["fp32", "fp16", "int8"]

CERTIFICATE = "certificate.json"
# What the runtime computes in, the fastest first; the next is tried where one misses the floor. With int8
# activations are rounded as well; with float32 the weights alone are int8 (weight-only).
_BOTH, _EXACT = ("int8", "float32"), ("float32",)


@dataclass(frozen=True)
class ExportedModel:
    """An export that was verified: where it is, its files and their bytes, and its certificate."""

    path: Path
    format: str
    precision: str
    files: Mapping[str, int]
    size_bytes: int
    certificate: Mapping[str, object]


def export(
    folder: Path | str,
    out: Path | str,
    *,
    task: Task | None = None,
    format: Format = "auto",  # noqa: A002 - the word users know
    precision: Precision = "int8",
    exporter: Exporter = "auto",
    isolated: bool = False,
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
        format: "ctranslate2" (causal, seq2seq), "onnx" (masked; through Optimum seq2seq too), "openvino"
            (through Optimum: causal, masked), or "auto".
        precision: "fp32", "fp16" (weights; ctranslate2, openvino), or "int8" (weights, and activations too
            where the export then still reaches its floor).
        exporter: "own", "optimum", or "auto": our own where it has the format, else Optimum's.
        isolated: Run Optimum in an environment of its own, which uv makes once and keeps in the user's cache.
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
        MissingExtraError: Something to export or run with is not installed; the message names the extra.
        IntegrityError: ``folder`` is not what its manifest says.
        FileExistsError: ``out`` exists and ``overwrite`` is false.
    """
    _check(held_out, references, metric)
    verify(folder)
    request = Request(
        format, precision, exporter, "", held_out, references, metric, floor, accept, max_new_tokens, isolated
    )
    with tempfile.TemporaryDirectory() as scratch:
        source, legacy = _opened(Path(folder), task, Path(scratch))
        return _export(
            source, legacy, Path(scratch), Path(out), _chosen(source, request), overwrite=overwrite
        )


def _chosen(source: Source, request: Request) -> Request:
    """The request with format, exporter and reason settled."""
    path = export_path(
        source.task, format=request.format, precision=request.precision, exporter=request.exporter,
        isolated=request.isolated,
    )  # fmt: skip
    if path.exporter == "optimum":
        check_optimum(path.format, isolated=request.isolated)
        lacking(source, path.format)
    return replace(request, format=path.format, exporter=path.exporter, reason=path.reason)


def _opened(folder: Path, task: Task | None, scratch: Path) -> tuple[Source, Callable[[], Path]]:
    """The model as it is recorded, and what writes the copy that Optimum reads."""
    import importlib.metadata

    def legacy() -> Path:
        copy = scratch / "legacy" / folder.resolve().name
        if not copy.exists():
            copy.parent.mkdir()
            write_legacy(folder, copy)
        return copy

    try:
        older = int(importlib.metadata.version("transformers").partition(".")[0]) < 5
    except importlib.metadata.PackageNotFoundError:
        older = False  # open_source says what is missing
    return open_source(legacy() if older and (folder / "config.json").exists() else folder, task), legacy


def _export(
    source: Source,
    legacy: Callable[[], Path],
    scratch: Path,
    target: Path,
    request: Request,
    *,
    overwrite: bool,
) -> ExportedModel:
    evidence = record(source, request)  # before anything is converted
    with staged(target, overwrite=overwrite, metadata={"source": source.path.name}) as staging:
        converted = staging if request.format == "ctranslate2" else scratch / "converted"
        converted.mkdir(exist_ok=True)
        versions: dict[str, str] = {}
        if request.exporter == "optimum":
            versions = convert_optimum(
                source, legacy(), converted, evidence.texts[:16], request.format, request.precision,
                isolated=request.isolated,
            )  # fmt: skip
        elif request.format == "onnx":
            convert_onnx(source, converted)
        else:
            convert_ctranslate2(source, converted, request.precision)
        certificate = _certified(source, converted, staging, request, evidence)
        certificate |= {"isolated": request.isolated, "exporter_versions": versions}
        (staging / CERTIFICATE).write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
        failures = certificate["failures"]
        if failures and isinstance(failures, list) and not request.accept:
            asked = f"{source.path} exported as {request.format} {request.precision}"
            raise _refusal(asked, failures, _set_aside(staging, target))
    files = {name: (target / name).stat().st_size for name in verify(target).files}
    return ExportedModel(target, request.format, request.precision, files, sum(files.values()), certificate)


def _certified(
    source: Source, converted: Path, folder: Path, request: Request, evidence: Evidence
) -> dict[str, object]:
    """Finish the export in ``folder`` in the fastest way that has no failures, else in the most exact one."""
    tried: dict[str, object] = {}
    certificate: dict[str, object] = {}
    for compute in _computes(source, request):
        for path in _made(source, request, converted):
            if path.suffix == ".onnx" and request.precision == "int8":
                quantize_weights(path, folder / path.name, activations=compute == "int8")
            else:
                shutil.copyfile(path, folder / path.name)
        facts = {"schema_version": 1, "format": request.format, "precision": request.precision}
        write_runtime_files(
            source, folder, {**facts, "compute": compute, "max_new_tokens": request.max_new_tokens}
        )
        certificate = certify(source, folder, request, evidence)
        tried[compute] = certificate["token_agreement"]
        certificate |= {"compute": compute, "token_agreement_by_compute": dict(tried)}
        if not certificate["failures"]:
            break
    return certificate


def _computes(source: Source, request: Request) -> tuple[str, ...]:
    """What the runtime computes int8 in, the fastest first; the next is tried where one misses the floor.

    With "int8" activations are rounded as well; with "float32" the weights alone are int8 (weight-only).
    """
    rounds = request.format == "ctranslate2" or (request.format == "onnx" and source.task == "masked")
    return _BOTH if request.precision == "int8" and rounds else _EXACT


def _made(source: Source, request: Request, converted: Path) -> list[Path]:
    """The files of an exporter that the runtime reads and that are not in the export yet."""
    if request.format == "ctranslate2":
        return []
    names = {
        "openvino": (MODEL, "openvino_model.bin", "config.json", "generation_config.json"),
        "onnx": (ENCODER, DECODER) if source.task == "seq2seq" else ("model.onnx",),
    }[request.format]
    return [converted / name for name in names if (converted / name).exists()]


def _check(
    held_out: Sequence[str] | None,
    references: Sequence[object] | None,
    metric: Metric | None,
) -> None:
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
