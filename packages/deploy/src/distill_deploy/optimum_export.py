"""Exporting through Optimum: in this environment where it is installed, else in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from distill_deploy.choosing import PACKAGES
from distill_deploy.conversion import runtime_facts
from distill_deploy.errors import ExportError, MissingExtraError
from distill_deploy.isolation import isolated_python

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distill_deploy.conversion import Source

# Settings for this Python; without compiled modules each start of the other would take half a minute.
_OURS = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"})


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
            f"of its own, or install 'distill-deploy[{package}]' into one without newer transformers"
        ) from error


def lacking(source: Source, form: str) -> None:
    """Refuse generation defaults that the backend would silently leave out.

    Raises:
        ExportError: The model suppresses tokens or punishes repetition, and the runtime of ``form`` cannot.
    """
    facts = runtime_facts(source)
    defaults, lost = facts["generation"], []
    if form == "openvino" and source.task == "causal" and facts["suppress_token_ids"]:
        lost = ["suppress_tokens"]
    if form == "onnx" and source.task == "seq2seq" and isinstance(defaults, dict):
        usual = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        lost = [name for name, value in usual.items() if defaults[name] != value]
    if lost:
        raise ExportError(
            f"the model's generation defaults set {', '.join(lost)}, which the runtime of Optimum's {form} "
            "exports does not have; export it with exporter='own', whose runtime does"
        )


def convert_optimum(
    source: Source,
    legacy: Path,
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
        legacy: Its copy for the older transformers, from :func:`distill_deploy.legacy.write_legacy`.
        out: An empty folder.
        texts: A few texts, of which both tokenizers must make the same ids.
        form: "onnx" or "openvino".
        precision: "fp32", "fp16" or "int8"; ONNX files are written in float32 and made smaller afterwards.
        isolated: Whether to run in an environment of its own.

    Raises:
        ExportError: Optimum cannot export this, or reads configuration or tokenizer otherwise.
    """
    request = {
        "folder": str(legacy), "out": str(out), "task": source.task, "format": form, "precision": precision,
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
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ExportError(f"{PACKAGES[form]} ended with status {done.returncode}: {said}")
    facts = json.loads(answer.read_bytes())
    if facts["faults"]:
        raise ExportError(f"{PACKAGES[form]} cannot export {source.path}: {'; '.join(facts['faults'])}")
    versions: dict[str, str] = facts["versions"]
    return versions


def _rope_theta(source: Source) -> float | None:
    """As this environment reads it; None for a model without a rotary embedding."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source.path)
    rope = getattr(config, "rope_parameters", None) or {}
    theta: float | None = rope.get("rope_theta", getattr(config, "rope_theta", None))
    return theta
