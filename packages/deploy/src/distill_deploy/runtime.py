"""Running an export without torch: the backend computes, ``tokenizers`` reads and writes text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_deploy.backend_ctranslate2 import CTranslate2Generator
from distill_deploy.backend_onnx import OnnxTranslator
from distill_deploy.backend_openvino import OpenVinoGenerator
from distill_deploy.facts import read_facts
from distill_deploy.filling import Fill, MaskFiller
from distill_deploy.generating import TextGenerator
from distill_deploy.tokens import usable_cores
from distill_deploy.verification import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fill", "MaskFiller", "TextGenerator", "load_runtime"]


def load_runtime(
    folder: Path | str, *, threads: int | None = None, seed: int | None = None
) -> TextGenerator | MaskFiller:
    """Verify an exported folder and load it with the backend it was made for.

    Args:
        folder: What :func:`distill_deploy.export` wrote.
        threads: Threads to compute with; None takes every usable core.
        seed: Makes what this runtime draws, call after call, repeatable; None draws anew.

    Raises:
        IntegrityError: The folder is no export, or not what its manifest says.
        MissingExtraError: The backend is not installed; the message names the extra.
    """
    root = Path(folder)
    verify(root)
    facts = read_facts(root)
    return open_runtime(root, facts, threads=threads or usable_cores(), seed=seed)


def open_runtime(
    root: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None = None
) -> TextGenerator | MaskFiller:
    """The runtime for the task and format that ``facts``, the content of runtime.json, name."""
    if facts["task"] == "masked":
        return MaskFiller(root, facts, threads=threads)
    if facts["format"] == "openvino":
        return OpenVinoGenerator(root, facts, threads=threads, seed=seed)
    if facts["format"] == "onnx":
        return OnnxTranslator(root, facts, threads=threads)
    return CTranslate2Generator(root, facts, threads=threads, seed=seed)
