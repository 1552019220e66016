"""What was probably meant: a value for a key that is missing or wrong."""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill_adapters import TrainConfig
from distill_app_trainer.errors import Fix, Setting, near
from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.runfile.schema import (
    STAGE_KINDS,
    DistillStage,
    FinetuneStage,
    PseudoLabelStage,
    RunConfig,
)

_SAID = re.compile(r"(?:Did you mean '([^']+)')|(?:Set \w+ = '?([\w.]+)'?)")
_EXAMPLE_MODEL = "packaged:phonemes/teacher"
_MARKS = {"teacher": "distill", "systems": "evaluate", "precision": "export", "format": "export"}
"""Keys by which the kind of a stage is known."""


def found_at(raw: Mapping[str, object], keys: Sequence[str]) -> object:
    """The value at a place of a run file, or None."""
    value: object = raw
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def kind_of(name: str, stage: object) -> str:
    """The kind of a stage, from its keys or else its name."""
    keys = set(stage) if isinstance(stage, Mapping) else set()
    marked = [kind for mark, kind in _MARKS.items() if mark in keys]
    if marked or keys:
        return marked[0] if marked else "finetune"
    return near(name, STAGE_KINDS) or "report"


def for_missing(keys: tuple[str, ...], raw: Mapping[str, object]) -> Fix | None:
    """A value for a key that has to be there."""
    models, stages = _names(raw, "models"), _names(raw, "stages")
    if keys == ("run",):
        return Setting(("run", "name"), "mine")
    if keys == ("stages",):
        return Setting((*keys, "trained"), {"kind": "finetune", "model": models[0]}) if models else None
    if keys == ("models",):
        return Setting((*keys, "teacher", "path"), _EXAMPLE_MODEL)
    if keys[0] != "stages":
        return Setting(keys, {"name": "mine"}.get(keys[-1])) if keys[-1] == "name" else None
    before = stages[: stages.index(keys[1])] if keys[1] in stages else stages
    stores, made = (
        [name for name in before if found_at(raw, ("stages", name, "kind")) in kinds]
        for kinds in (("cache_teacher",), ("finetune", "distill", "merge"))
    )
    own = found_at(raw, (*keys[:2], "model"))
    others = [name for name in (*stores, *made, *models) if name != own]
    guess: dict[str, object] = {
        "teacher": others[0] if others else None,
        "model": (made or models)[0] if made or models else None,
        "systems": made or models,
        "metrics": ["exact_match"],
        "data": next(iter(_names(raw, "data")), "train"),
    }
    return Setting(keys, guess[keys[-1]]) if guess.get(keys[-1]) else None


def for_value_error(keys: tuple[str, ...], said: str, owner: object, raw: Mapping[str, object]) -> Fix | None:
    """What mends a value that a configuration refused."""
    if keys[0] == "models" and len(keys) == 2:
        return _for_model(keys, said, raw)
    if keys == ("run",):
        name = re.sub(r"[^\w.-]+", "-", str(found_at(raw, ("run", "name")))).strip(".-")
        return Setting(("run", "name"), name or "mine")
    names = [word for word in re.findall(r"\w+", said) if word in _defaults(owner)]
    if not names:
        return None
    value = _said(said)
    if value is None or " both given" in said:
        value = _defaults(owner)[names[0]]
    return Setting((*keys, names[0]), value)


def for_value(keys: tuple[str, ...], found: object, owner: object, options: Sequence[str]) -> Fix | None:
    """What mends a value of a wrong type or out of a choice."""
    default = _defaults(owner).get(keys[-1])
    if options:
        return Setting(keys, near(str(found), options) or default or options[0])
    if isinstance(found, str) and re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", found):
        return Setting(keys, float(found) if "." in found or "e" in found else int(found))
    if default is None or default == ():
        kind = str(_types(owner).get(keys[-1], ""))
        if "tuple" in kind and isinstance(found, str):
            return Setting(keys, [found])
        if "str" in kind and "tuple" not in kind and found is not None and not isinstance(found, Mapping):
            return Setting(keys, str(found))
    return Setting(keys, default if not isinstance(default, Mapping) else None)


def for_failure(config: RunConfig, folder: Path, job: Job | None, error: Exception) -> str | None:
    """The command that runs a run anew without what made a stage fail.

    Args:
        config: The run.
        folder: Its folder, whose ``run.toml`` is run.
        job: What failed.
        error: How.
    """
    again = f"distill-train run {shlex.quote(str(folder / 'run.toml'))}"
    names = {kind.__name__ for kind in type(error).__mro__}
    stage = None if job is None else config.stages[job.stage]
    broke = names & {"NonFiniteError", "NonFiniteLogitsError"} and "teacher" not in str(error)
    if job is not None and broke and isinstance(stage, FinetuneStage | DistillStage):
        rate = min(stage.train.learning_rate / 10, TrainConfig().learning_rate)
        return f"{again} --set stages.{job.stage}.train.learning_rate={rate:g}"
    if job is not None and "WorseTeacherError" in names:
        return f"{again} --set stages.{job.stage}.accept_worse_teacher=true"
    if job is not None and "ExportRefusedError" in names:
        return f"{again} --set stages.{job.stage}.accept=true"
    # A labelling that gives nothing gives nothing again.
    return again if str(folder) in str(error) and not isinstance(stage, PseudoLabelStage) else None


def _for_model(keys: tuple[str, ...], said: str, raw: Mapping[str, object]) -> Fix | None:
    others = [name for name in _names(raw, "models") if name != keys[1]]
    configs = [found_at(raw, ("models", name, "config")) for name in others]
    config = next((one for one in configs if isinstance(one, Mapping)), {"model_type": "marian"})
    if said.startswith("give either"):
        both = found_at(raw, (*keys, "path")) is not None
        return Setting((*keys, "path"), None) if both else Setting((*keys, "config"), config)
    if "needs tokenizer" in said:
        return Setting((*keys, "tokenizer"), others[0]) if others else None
    if "needs a model_type" in said:
        return Setting((*keys, "config", "model_type"), config.get("model_type", "marian"))
    return Setting((*keys, "adapter"), "full")


def _said(text: str) -> object:
    """The value that a message recommends."""
    match = _SAID.search(text)
    return None if match is None else match[1] or match[2]


def _names(raw: Mapping[str, object], table: str) -> list[str]:
    found = raw.get(table)
    return [str(name) for name in found] if isinstance(found, Mapping) else []


def _defaults(owner: object) -> dict[str, object]:
    """Fields of a configuration with their defaults; None for those without one."""
    if not (dataclasses.is_dataclass(owner) and isinstance(owner, type)):
        return {}
    return {
        one.name: None if one.default is dataclasses.MISSING else one.default
        for one in dataclasses.fields(owner)
    }


def _types(owner: object) -> dict[str, object]:
    if not (dataclasses.is_dataclass(owner) and isinstance(owner, type)):
        return {}
    return {one.name: one.type for one in dataclasses.fields(owner)}
