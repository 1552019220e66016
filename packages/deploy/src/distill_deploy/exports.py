"""Exporting a saved model so that it runs without torch, with a certificate of how well it agrees."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distill_deploy.certificate import Evidence, Metric, Request, certify, record
from distill_deploy.downgrade import write_downgraded
from distill_deploy.errors import ExportError, ExportRefusedError
from distill_deploy.exporter import Conversion
from distill_deploy.folders import staged
from distill_deploy.routes import export_path, exporter_of
from distill_deploy.source import Source, open_source, write_runtime_files
from distill_deploy.verification import verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distill_deploy.exporter import Exporter
    from distill_deploy.facts import Task

CERTIFICATE = "certificate.json"


@dataclass(frozen=True)
class ExportedModel:
    """An export that stands at its place.

    Attributes:
        path: The folder of the export.
        format: The format of its files.
        precision: The precision of its weights.
        files: Name and bytes of each of its files.
        size_bytes: Bytes of all of them.
        certificate: How well it agrees with its model; the content of its certificate.json.
    """

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
    format: str = "auto",  # noqa: A002 - the word users know
    precision: str = "int8",
    exporter: Literal["auto", "own", "optimum"] = "auto",
    isolated: bool = False,
    held_out: Sequence[str] | None = None,
    references: Sequence[object] | None = None,
    metric: Metric | None = None,
    min_agreement: float | None = None,
    allow_failed: bool = False,
    max_new_tokens: int = 64,
    overwrite: bool = False,
) -> ExportedModel:
    """Convert a saved transformers folder, compare it with its model, and keep it only if they agree.

    Args:
        folder: A ``save_pretrained`` folder; it is verified first and never changed.
        out: Where the export shall stand.
        task: "causal", "seq2seq" or "masked"; None reads it from the configuration.
        format: "ctranslate2" (causal, seq2seq), "onnx" (masked; through Optimum seq2seq too), "openvino"
            (through Optimum: causal, masked), a format that another package registers, or "auto".
        precision: The precision of the weights: "fp32", "fp16" (ctranslate2, openvino), or "int8" (rounds
            activations too where the export then still agrees enough).
        exporter: "own", "optimum", or "auto" for our own where it has the format, else Optimum's.
        isolated: Run Optimum in an environment of its own, which uv makes once and keeps in the user's cache.
        held_out: Texts to compare on: sources, prompts or texts (masks in them, else 15 % are masked).
            None compares on 64 rows of random tokens, and the certificate says so.
        references: What ``metric`` compares with, one for each of ``held_out``.
        metric: ``(predictions, references) -> (value, low, high)``; the export's value must lie within the
            interval of the model's.
        min_agreement: Least share of teacher-forced tokens that are equal; None takes 0.99 (masked 0.97). In
            fp32 tokens may differ only where the arithmetic explains it, whatever is asked for here.
        allow_failed: Keep an export that agrees less than that; the certificate records it.
        max_new_tokens: Length of the compared generations, and the runtime's default.
        overwrite: Whether an existing ``out`` is replaced.

    Raises:
        ExportRefusedError: The export agrees too little with its model. It stands at ``out`` +
            ".rejected"; ``rate`` and ``min_agreement`` are what was found and what was asked for.
        ExportError: The architecture, format, precision or arguments have no path.
        MissingExtraError: Something to export or run with is not installed; ``extra`` names what brings it.
        IntegrityError: ``folder`` differs from its manifest.
        FileExistsError: ``out`` exists and ``overwrite`` is false.

    Example:
        >>> from distill_deploy import export
        >>> exported = export("translator", "translator-fp32", precision="fp32", max_new_tokens=4)
        >>> exported.format, exported.certificate["failures"]
        ('ctranslate2', [])
    """
    _check(held_out, references, metric)
    request = Request(
        format, precision, exporter, "", held_out, references, metric, min_agreement, allow_failed,
        max_new_tokens, isolated,
    )  # fmt: skip
    return _verified(Path(folder), Path(out), task, request, overwrite=overwrite)


def _verified(
    folder: Path, out: Path, task: Task | None, request: Request, *, overwrite: bool
) -> ExportedModel:
    verify(folder)
    with tempfile.TemporaryDirectory() as temporary:
        source = _opened(folder, task, Path(temporary))
        path = export_path(
            source.task, format=request.format, precision=request.precision, exporter=request.exporter,
            isolated=request.isolated,
        )  # fmt: skip
        exporter = exporter_of(path, source.task)
        exporter.check(source, isolated=request.isolated)
        scratch = Path(temporary, "conversion")
        scratch.mkdir()
        settled = replace(request, format=path.format, exporter=path.exporter, reason=path.reason)
        return _export(source, exporter, scratch, out, settled, overwrite=overwrite)


def _opened(folder: Path, task: Task | None, temporary: Path) -> Source:
    """The model as it is recorded; an older transformers reads a copy."""
    import importlib.metadata

    try:
        older = int(importlib.metadata.version("transformers").partition(".")[0]) < 5
    except importlib.metadata.PackageNotFoundError:
        older = False  # open_source says what is missing
    if older and (folder / "config.json").exists():
        copy = temporary / "model" / folder.resolve().name
        copy.parent.mkdir()
        folder = write_downgraded(folder, copy)
    return open_source(folder, task)


def _export(
    source: Source, exporter: Exporter, scratch: Path, target: Path, request: Request, *, overwrite: bool
) -> ExportedModel:
    evidence = record(source, request)  # before anything is converted
    with staged(target, overwrite=overwrite, metadata={"source": source.path.name}) as staging:
        certificate = _certified(source, exporter, scratch, staging, request, evidence)
        (staging / CERTIFICATE).write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
        if certificate["failures"] and not request.allow_failed:
            asked = f"{source.path} exported as {request.format} {request.precision}"
            raise _refusal(asked, certificate, _set_aside(staging, target))
    files = {name: (target / name).stat().st_size for name in verify(target).files}
    return ExportedModel(target, request.format, request.precision, files, sum(files.values()), certificate)


def _certified(
    source: Source, exporter: Exporter, scratch: Path, out: Path, request: Request, evidence: Evidence
) -> dict[str, Any]:
    """Finish the export in ``out`` in the fastest way that has no failures, else in the most exact one."""
    tried: dict[str, object] = {}
    versions: dict[str, str] = {}
    certificate: dict[str, object] = {}
    for compute in exporter.computes(source.task, request.precision):
        exporter.convert(
            Conversion(
                source=source, out=out, precision=request.precision, compute=compute, scratch=scratch,
                texts=evidence.texts, isolated=request.isolated, versions=versions,
            )
        )  # fmt: skip
        facts = {"schema_version": 1, "format": request.format, "precision": request.precision}
        write_runtime_files(
            source, out, {**facts, "compute": compute, "max_new_tokens": request.max_new_tokens}
        )
        certificate = certify(source, out, request, evidence)
        tried[compute] = certificate["token_agreement"]
        certificate |= {"compute": compute, "token_agreement_by_compute": dict(tried)}
        if not certificate["failures"]:
            break
    return certificate | {"isolated": request.isolated, "exporter_versions": versions}


def _check(
    held_out: Sequence[str] | None,
    references: Sequence[object] | None,
    metric: Metric | None,
) -> None:
    if metric is not None and (held_out is None or references is None or len(references) != len(held_out)):
        raise ExportError(
            "a metric needs held_out texts and one reference for each of them",
            field="held_out" if held_out is None else "references",
        )
    if held_out is not None and not held_out:
        raise ExportError("held_out is empty; pass None to compare on made rows", field="held_out", found=())


def _set_aside(staging: Path, target: Path) -> Path:
    rejected = target.with_name(target.name + ".rejected")
    with staged(rejected, overwrite=True) as aside:
        shutil.copytree(staging, aside, dirs_exist_ok=True)
    return rejected


def _refusal(asked: str, certificate: Mapping[str, Any], rejected: Path) -> ExportRefusedError:
    return ExportRefusedError(
        f"{asked} was refused: {'; '.join(certificate['failures'])}. It stands at {rejected}; "
        "try precision fp32, or pass allow_failed=True (--allow-failed) to keep it",
        field="allow_failed",
        found=False,
        allowed=(True,),
        suggestion=True,
        rate=certificate["token_agreement"],
        min_agreement=certificate["min_agreement"],
    )
