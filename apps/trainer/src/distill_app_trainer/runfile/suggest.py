"""The value that was probably meant, for a key of a run file that is missing or wrong."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from distill_app_trainer.errors import Fix, SetKey
from distill_app_trainer.runfile.kinds import STAGE_KINDS
from distill_app_trainer.spelling import nearest

_EXAMPLE_MODEL = "packaged:phonemes/teacher"
_MARKS = {"teacher": "distill", "systems": "evaluate", "precision": "export", "format": "export"}
"""Keys that only one kind of stage has."""


def found_at(raw: Mapping[str, object], keys: Sequence[str]) -> object:
    """The value at a place of a run file, or None."""
    value: object = raw
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def kind_of(name: str, stage: object) -> str:
    """The kind of a stage, judged by its keys or else by its name."""
    keys = set(stage) if isinstance(stage, Mapping) else set()
    marked = [kind for mark, kind in _MARKS.items() if mark in keys]
    if marked or keys:
        return marked[0] if marked else "finetune"
    return nearest(name, STAGE_KINDS) or "report"


def for_missing(keys: tuple[str, ...], raw: Mapping[str, object]) -> Fix | None:
    """A value for a key that is required."""
    models, stages = _names(raw, "models"), _names(raw, "stages")
    if keys == ("run",):
        return SetKey(("run", "name"), "mine")
    if keys == ("stages",):
        return SetKey((*keys, "trained"), {"kind": "finetune", "model": models[0]}) if models else None
    if keys == ("models",):
        return SetKey((*keys, "teacher", "path"), _EXAMPLE_MODEL)
    if keys[0] != "stages":
        return SetKey(keys, "mine") if keys[-1] == "name" else None
    before = stages[: stages.index(keys[1])] if keys[1] in stages else stages
    makes = {name: STAGE_KINDS.get(str(found_at(raw, ("stages", name, "kind")))) for name in before}
    caches, made = (
        [name for name, kind in makes.items() if kind is not None and kind.makes == what]
        for what in ("cache", "model")
    )
    own = found_at(raw, (*keys[:2], "model"))
    others = [name for name in (*caches, *made, *models) if name != own]
    guess: dict[str, object] = {
        "teacher": others[0] if others else None,
        "model": (made or models)[0] if made or models else None,
        "systems": made or models,
        "metrics": ["exact_match"],
        "data": next(iter(_names(raw, "data")), "train"),
    }
    return SetKey(keys, guess[keys[-1]]) if guess.get(keys[-1]) else None


def for_value_error(
    keys: tuple[str, ...], error: object, owner: object, raw: Mapping[str, object]
) -> Fix | None:
    """The change that corrects a value that a configuration refused.

    Args:
        keys: The table.
        error: The error, with ``field`` and ``suggestion`` as data.
        owner: The configuration that refused it.
        raw: The content of the run file.
    """
    field: str | None = getattr(error, "field", None)
    if field is None:
        return None
    value = getattr(error, "suggestion", None)
    if value is None and keys[0] == "models":
        value = _of_another_model(keys[1], field, raw)
        if value is None and field == "tokenizer":
            return None
    if value is None:
        value = _defaults(owner).get(field)
    return SetKey((*keys, *field.split(".")), value)


def for_value(keys: tuple[str, ...], found: object, owner: object, options: Sequence[str]) -> Fix | None:
    """The change that corrects a value of a wrong type, or one that is not among the options."""
    default = _defaults(owner).get(keys[-1])
    if options:
        return SetKey(keys, nearest(str(found), options) or default or options[0])
    if isinstance(found, str) and re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", found):
        return SetKey(keys, float(found) if "." in found or "e" in found else int(found))
    if default is None or default == ():
        kind = str(_types(owner).get(keys[-1], ""))
        if "tuple" in kind and isinstance(found, str):
            return SetKey(keys, [found])
        if "str" in kind and "tuple" not in kind and found is not None and not isinstance(found, Mapping):
            return SetKey(keys, str(found))
    return SetKey(keys, default if not isinstance(default, Mapping) else None)


def _of_another_model(name: str, field: str, raw: Mapping[str, object]) -> object:
    """What another model of the file has in place of a field that is missing."""
    others = [one for one in _names(raw, "models") if one != name]
    if field == "tokenizer":
        return others[0] if others else None
    configs = (found_at(raw, ("models", one, "config")) for one in others)
    config = next((one for one in configs if isinstance(one, Mapping)), {"model_type": "marian"})
    return {"config": config, "config.model_type": config.get("model_type", "marian")}.get(field)


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
