"""Masked models to ONNX, by transformers' own exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, cast

from distill_deploy.errors import MissingExtraError
from distill_deploy.exporter import Conversion, Exporter
from distill_deploy.onnx_weights import quantize_weights, share_transposed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from distill_deploy.facts import Task
    from distill_deploy.mask_filling import MaskFiller
    from distill_deploy.source import Source


class OnnxExporter(Exporter):
    """By transformers' exporter, run by onnxruntime."""

    tasks: ClassVar[tuple[Task, ...]] = ("masked",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    exporter: ClassVar[str] = "own"

    def computes(self, task: Task, precision: str) -> tuple[str, ...]:
        """In int8 activations are rounded as well; in float32 the weights alone are int8."""
        del task
        return ("int8", "float32") if precision == "int8" else ("float32",)

    def reason(self, task: Task, *, isolated: bool) -> str:
        """Why this exporter was chosen, for the certificate."""
        del isolated
        return f"onnx runs {task} models without torch, and its library owns the computation"

    def convert(self, job: Conversion) -> None:
        """Write model.onnx, made smaller from a float32 file that is kept for the next try."""
        whole = job.scratch / "model.onnx"
        if not whole.exists():
            convert_onnx(job.source, job.scratch)
        place_onnx(whole, job)

    def load(self, folder: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None) -> MaskFiller:
        """A session of onnxruntime."""
        from distill_deploy.backend_onnx import OnnxFiller

        del seed
        return OnnxFiller(folder, facts, threads=threads)


def place_onnx(path: Path, job: Conversion) -> None:
    """Copy a float32 ONNX file into the export, as int8 where that was asked for."""
    if job.precision == "int8":
        quantize_weights(path, job.out / path.name, activations=job.compute == "int8")
    else:
        shutil.copyfile(path, job.out / path.name)


def convert_onnx(source: Source, out: Path) -> None:
    """Write model.onnx in float32, with inputs ``(batch, seq)`` of any size and the output ``logits``.

    int8 is made of that file afterwards, by :func:`distill_deploy.onnx_weights.quantize_weights`.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
    """
    try:
        import onnx_ir
        from transformers.exporters import (  # type: ignore[attr-defined]  # its stub re-exports neither
            OnnxConfig,
            OnnxExporter,
        )
    except ImportError as error:
        raise MissingExtraError(
            "this export needs onnx: pip install 'distill-deploy[export]'", extra="export"
        ) from error
    sample = dict(source.tokenizer(["a b c", "a"], padding=True, return_tensors="pt"))
    with _quiet():
        exporter = cast("Any", OnnxExporter)()
        exported = exporter.export(source.model(), sample, config=OnnxConfig(dynamic=True))
        onnx_ir.save(exported.program, str(out / "model.onnx"))
        share_transposed(out / "model.onnx")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters: warnings, logging, and what torch.onnx prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
