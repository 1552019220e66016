"""Which exporter and which format a model takes, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_deploy.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distill_deploy.facts import Task

PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "ctranslate2": ("fp32", "fp16", "int8"),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
}
OWN: Mapping[str, tuple[str, ...]] = {
    "causal": ("ctranslate2",),
    "seq2seq": ("ctranslate2",),
    "masked": ("onnx",),
}
OPTIMUM: Mapping[str, tuple[str, ...]] = {
    "causal": ("openvino",),
    "seq2seq": ("onnx",),
    "masked": ("onnx", "openvino"),
}
PACKAGES: Mapping[str, str] = {"onnx": "optimum-onnx", "openvino": "optimum-intel"}
"""Optimum's packages by format."""


@dataclass(frozen=True)
class ExportPath:
    """How a model is exported.

    Attributes:
        format: "ctranslate2", "onnx" or "openvino"; distill-deploy has an extra of that name to run it.
        exporter: "own" or "optimum".
        reason: Why these.
    """

    format: str
    exporter: str
    reason: str


def export_path(
    task: Task,
    *,
    format: str = "auto",  # noqa: A002 - the word users know
    precision: str = "int8",
    exporter: str = "auto",
    isolated: bool = False,
) -> ExportPath:
    """Settle what :func:`distill_deploy.export` is asked for; imports and reads nothing.

    Args:
        task: "causal", "seq2seq" or "masked".
        format: As of ``export``; so the others.
        precision: "fp32", "fp16" or "int8".
        exporter: "own", "optimum" or "auto".
        isolated: Whether Optimum runs in an environment of its own.

    Raises:
        ExportError: There is no such path; the message lists those that there are.
    """
    own, optimum = OWN[task], OPTIMUM[task]
    if exporter == "auto":
        exporter = "optimum" if isolated or (format in optimum and format not in own) else "own"
    if exporter == "own" and isolated:
        raise ExportError("isolated is for Optimum's exporters; ours need no environment of their own")
    there = own if exporter == "own" else optimum
    if format not in ("auto", *there):
        raise ExportError(
            f"format {format!r} was asked for a {task} model, which is exported as {', '.join(own)}, "
            f"or through Optimum (exporter='optimum') as {', '.join(optimum)}"
        )
    chosen = there[0] if format == "auto" else format
    if precision not in PRECISIONS[chosen]:
        raise ExportError(
            f"precision {precision!r} was asked for; {chosen} on a CPU has {', '.join(PRECISIONS[chosen])}"
        )
    if exporter == "own":
        reason = f"{chosen} runs {task} models without torch, and its library owns the computation"
        return ExportPath(chosen, exporter, reason)
    place = "an environment of its own" if isolated else "this environment"
    reason = f"{PACKAGES[chosen]} in {place} was asked for; its {task} models run in {chosen} without torch"
    return ExportPath(chosen, exporter, reason)
