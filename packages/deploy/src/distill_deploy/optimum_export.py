"""Exporting through Optimum: in this environment where it is installed, else in one of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from distill_deploy.downgrade import write_downgraded
from distill_deploy.errors import ExportError, MissingExtraError
from distill_deploy.exporter import Conversion, Exporter
from distill_deploy.isolation import isolated_python
from distill_deploy.onnx_export import OnnxExporter, place_onnx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distill_deploy.facts import Task
    from distill_deploy.generation import TextGenerator
    from distill_deploy.mask_filling import MaskFiller
    from distill_deploy.source import Source

PACKAGES: Mapping[str, str] = {"onnx": "optimum-onnx", "openvino": "optimum-intel"}
"""Optimum's packages by format."""
_OPENVINO = ("openvino_model.xml", "openvino_model.bin", "config.json", "generation_config.json")
# Settings for this Python; without compiled modules each start of the other would take half a minute.
_OURS = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"})


class _OptimumExporter(Exporter):
    """By a package of Optimum, here or in an environment of its own."""

    exporter: ClassVar[str] = "optimum"
    form: ClassVar[str]
    files: ClassVar[Mapping[str, tuple[str, ...]]]  # of each task: what the runtime reads

    def reason(self, task: Task, *, isolated: bool) -> str:
        """Why this exporter was chosen, for the certificate."""
        place = "an environment of its own" if isolated else "this environment"
        return (
            f"{PACKAGES[self.form]} in {place} was asked for; its {task} models run in {self.form} without "
            "torch"
        )

    def check(self, source: Source, *, isolated: bool) -> None:
        """Refuse a package that is not installed, and defaults that the runtime would leave out."""
        check_optimum(self.form, isolated=isolated)
        lacking(source, self.form)

    def convert(self, job: Conversion) -> None:
        """Let Optimum write its files once, then copy those that the runtime reads."""
        made = job.scratch / "optimum"
        if not made.exists():
            made.mkdir()
            copy = job.scratch / "downgraded" / job.source.path.resolve().name
            copy.parent.mkdir()
            write_downgraded(job.source.path, copy)
            job.versions.update(
                convert_optimum(
                    job.source, copy, made, job.texts[:16], self.form, job.precision, isolated=job.isolated
                )
            )
        for name in self.files[job.source.task]:
            path = made / name
            if path.suffix == ".onnx":
                place_onnx(path, job)
            elif path.exists():
                shutil.copyfile(path, job.out / name)


class OptimumOnnxExporter(_OptimumExporter):
    """By optimum-onnx, run by onnxruntime."""

    tasks: ClassVar[tuple[Task, ...]] = ("seq2seq", "masked")
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    form: ClassVar[str] = "onnx"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "seq2seq": ("encoder_model.onnx", "decoder_model_merged.onnx"),
        "masked": ("model.onnx",),
    }

    def computes(self, task: Task, precision: str) -> tuple[str, ...]:
        """Activations are rounded as well only for one pass: a decoder's errors add up."""
        return OnnxExporter().computes(task, precision) if task == "masked" else ("float32",)

    def load(
        self, folder: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None
    ) -> TextGenerator | MaskFiller:
        """A greedy loop over sessions of onnxruntime, or one session that fills masks."""
        from distill_deploy.backend_onnx import OnnxTranslator

        if facts["task"] == "masked":
            return OnnxExporter().load(folder, facts, threads=threads, seed=seed)
        return OnnxTranslator(folder, facts, threads=threads)


class OptimumOpenVinoExporter(_OptimumExporter):
    """By optimum-intel, run by openvino-genai (causal) or OpenVINO itself (masked)."""

    tasks: ClassVar[tuple[Task, ...]] = ("causal", "masked")
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")
    form: ClassVar[str] = "openvino"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {"causal": _OPENVINO, "masked": _OPENVINO}

    def load(
        self, folder: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None
    ) -> TextGenerator | MaskFiller:
        """A pipeline of openvino-genai, or a compiled model that fills masks."""
        from distill_deploy.backend_openvino import OpenVinoFiller, OpenVinoGenerator

        if facts["task"] == "masked":
            return OpenVinoFiller(folder, facts, threads=threads)
        return OpenVinoGenerator(folder, facts, threads=threads, seed=seed)


def check_optimum(form: str, *, isolated: bool) -> None:
    """Refuse before anything is recorded what this environment cannot do.

    Raises:
        MissingExtraError: It is not installed here, and no environment of its own was asked for.
    """
    package = PACKAGES[form]
    if isolated:
        return
    try:
        version(package)
    except PackageNotFoundError as error:
        raise MissingExtraError(
            f"{package} is not installed here; pass isolated=True (--isolated) to run it in an environment "
            f"of its own, or install 'distill-deploy[{package}]' into one without newer transformers",
            field="isolated",
            found=False,
            allowed=(True,),
            suggestion=True,
            extra=package,
        ) from error


def lacking(source: Source, form: str) -> None:
    """Refuse generation defaults that the backend would silently leave out.

    Raises:
        ExportError: The model suppresses tokens or punishes repetition, and the runtime of ``form`` cannot.
    """
    facts = source.facts
    defaults, lost = facts["generation"], []
    if form == "openvino" and source.task == "causal" and facts["suppress_token_ids"]:
        lost = ["suppress_tokens"]
    if form == "onnx" and source.task == "seq2seq":
        usual = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        lost = [name for name, value in usual.items() if defaults[name] != value]
    if lost:
        raise ExportError(
            f"the model's generation defaults set {', '.join(lost)}, which the runtime of Optimum's {form} "
            "exports does not have; export it with exporter='own', whose runtime does",
            field="exporter",
            found="optimum",
            allowed=("own",),
            suggestion="own",
        )


def convert_optimum(
    source: Source,
    copy: Path,
    out: Path,
    texts: Sequence[str],
    form: str,
    precision: str,
    *,
    isolated: bool,
) -> dict[str, str]:
    """Let Optimum write its files into ``out``; the versions that did it.

    Args:
        source: The model as this environment reads it.
        copy: Its copy for the older transformers, from :func:`distill_deploy.downgrade.write_downgraded`.
        out: An empty folder.
        texts: A few texts, of which both tokenizers must make the same ids.
        form: "onnx" or "openvino".
        precision: "fp32", "fp16" or "int8"; ONNX files are written in float32 and made smaller afterwards.
        isolated: Whether to run in an environment of its own.

    Raises:
        ExportError: Optimum cannot export this, or reads configuration or tokenizer differently.
    """
    request = {
        "folder": str(copy), "out": str(out), "task": source.task, "format": form, "precision": precision,
        "package": PACKAGES[form], "texts": list(texts),
        "ids": [list(source.tokenizer(text).input_ids) for text in texts],
        "rope_theta": _rope_theta(source),
    }  # fmt: skip
    python = isolated_python(PACKAGES[form]) if isolated else Path(sys.executable)
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    worker = Path(__file__).with_name("optimum_worker.py")
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch, "request.json")
        asked.write_text(json.dumps(request), encoding="utf-8")
        done = subprocess.run(
            [str(python), "-P", "-W", "ignore", str(worker), str(asked)], capture_output=True, text=True,
            check=False, env=environment | {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    answer = out / "facts.json"
    if not answer.exists():
        stderr = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ExportError(f"{PACKAGES[form]} ended with status {done.returncode}: {stderr}")
    facts = json.loads(answer.read_bytes())
    if facts["faults"]:
        raise ExportError(f"{PACKAGES[form]} cannot export {source.path}: {'; '.join(facts['faults'])}")
    versions: dict[str, str] = facts["versions"]
    return versions


def _rope_theta(source: Source) -> float | None:
    """As this environment reads it; None for a model without a rotary embedding."""
    rope = getattr(source.config, "rope_parameters", None) or {}
    theta: float | None = rope.get("rope_theta", getattr(source.config, "rope_theta", None))
    return theta
