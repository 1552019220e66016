"""runtime.json: what an export says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from distill_deploy.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNTIME_FILE = "runtime.json"
Task = Literal["causal", "seq2seq", "masked"]
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """What an exported folder is.

    Attributes:
        task: The task of its model: "causal", "seq2seq" or "masked".
        format: The format of its files, such as "ctranslate2" or "onnx".
        precision: The precision of its weights: "fp32", "fp16" or "int8".
        max_new_tokens: Number of tokens that it generates at most unless it is asked for another.
    """

    task: Task
    format: str
    precision: str
    max_new_tokens: int


def read_runtime_facts(folder: Path | str) -> RuntimeFacts:
    """Read what an exported folder says of itself, without loading a model or a backend.

    The manifest is not checked; :func:`distill_deploy.load_runtime` does that.

    Args:
        folder: What :func:`distill_deploy.export` wrote.

    Raises:
        IntegrityError: runtime.json is missing, is not valid JSON, or lacks one of the facts.

    Example:
        >>> from distill_deploy import export, read_runtime_facts
        >>> exported = export("writer", "writer-int8", allow_failed=True, max_new_tokens=4)
        >>> read_runtime_facts(exported.path)
        RuntimeFacts(task='causal', format='ctranslate2', precision='int8', max_new_tokens=4)
    """
    facts = read_facts(Path(folder))
    return RuntimeFacts(
        task=cast("Task", facts["task"]),
        format=str(facts["format"]),
        precision=str(facts["precision"]),
        max_new_tokens=int(facts["max_new_tokens"]),
    )


def read_facts(root: Path) -> Mapping[str, Any]:
    """The whole content of runtime.json, in which task, format and precision are checked.

    Raises:
        IntegrityError: As :func:`read_runtime_facts`.
    """
    path = root / RUNTIME_FILE
    try:
        facts = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IntegrityError(
            f"{root}: {RUNTIME_FILE} is missing, so this is not an exported model; make one with "
            "distill-export"
        ) from error
    except ValueError as error:
        raise IntegrityError(f"{path} is not valid JSON ({error}); export the model again") from error
    if not isinstance(facts, dict) or facts.get("task") not in TASKS:
        found = facts.get("task") if isinstance(facts, dict) else None
        raise IntegrityError(
            f"{path} names the task {found!r}; allowed: {', '.join(TASKS)}. Export the model again."
        )
    for name, kind in (("format", str), ("precision", str), ("max_new_tokens", int)):
        if not isinstance(facts.get(name), kind):
            raise IntegrityError(f"{path} lacks {name!r}; export the model again")
    return facts
