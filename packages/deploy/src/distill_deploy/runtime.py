"""Running an export without torch: the backend computes, ``tokenizers`` reads and writes text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_deploy.errors import ArgumentError
from distill_deploy.facts import read_facts
from distill_deploy.routes import runner_of
from distill_deploy.tokens import usable_cores
from distill_deploy.verification import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distill_deploy.generation import TextGenerator
    from distill_deploy.mask_filling import MaskFiller


def load_runtime(
    folder: Path | str, *, threads: int | None = None, seed: int | None = None
) -> TextGenerator | MaskFiller:
    """Verify an exported folder and load it with the backend it was made for.

    Args:
        folder: What :func:`distill_deploy.export` wrote.
        threads: Number of threads to compute with; None takes every usable core.
        seed: Makes what this runtime draws, call after call, repeatable; None draws again.

    Returns:
        What answers texts: ``answer`` serves every task. A causal or seq2seq export gives a
        :class:`TextGenerator`, a masked one a :class:`MaskFiller`.

    Raises:
        IntegrityError: The folder is not an export, or differs from its manifest.
        MissingExtraError: The backend is not installed; ``extra`` names what brings it.
        ExportError: No installed package runs its format.
        ArgumentError: ``threads`` is not positive.

    Example:
        >>> from distill_deploy import export, load_runtime
        >>> exported = export("writer", "writer-fp32", precision="fp32", max_new_tokens=4)
        >>> runtime = load_runtime(exported.path, threads=1)
        >>> runtime.task, len(runtime.answer(["w1 w2", "w3"]))
        ('causal', 2)
    """
    if threads is not None and threads < 1:
        raise ArgumentError(
            f"threads must be at least 1, not {threads}", field="threads", found=threads, suggestion=1
        )
    root = Path(folder)
    verify(root)
    return open_runtime(root, read_facts(root), threads=threads or usable_cores(), seed=seed)


def open_runtime(
    root: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None = None
) -> TextGenerator | MaskFiller:
    """The runtime for the task and format that ``facts``, the content of runtime.json, name."""
    return runner_of(facts["format"], facts["task"]).load(root, facts, threads=threads, seed=seed)
