"""What pydantic found wrong, in one line for the author of the run file."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill_app_trainer.errors import Fix, ReplaceText, SetKey
from distill_app_trainer.runfile import suggest
from distill_app_trainer.runfile.kinds import STAGE_KINDS
from distill_app_trainer.runfile.schema import UNDER_DATA, RunConfig
from distill_app_trainer.runfile.stage import Stage
from distill_app_trainer.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from pydantic import ValidationError


def explain(error: "ValidationError", raw: Mapping[str, object]) -> tuple[str, Fix | None]:
    """The first finding: where, what was found, what is allowed, the nearest right spelling, and the fix.

    Args:
        error: What pydantic found.
        raw: The content of the run file.
    """
    findings = error.errors(include_url=False)
    unknown = [
        found for found in findings if found["type"] in ("extra_forbidden", "unexpected_keyword_argument")
    ]
    first = (unknown or findings)[0]
    path = list(first["loc"])
    where, keys = _where(path), tuple(_where(path).split("."))
    message = {
        "extra_forbidden": _unknown_key,
        "unexpected_keyword_argument": _unknown_key,
        "missing": _missing,
        "missing_keyword_only_argument": _missing,
        "union_tag_invalid": _bad_kind,
        "union_tag_not_found": _bad_kind,
    }.get(first["type"])
    fix: Fix | None
    if message is not None:
        text, fix = message(path, first["input"], raw)
    elif first["type"] == "value_error":
        refusal = first["ctx"]["error"]
        text, fix = f"{where}: {refusal}", suggest.for_value_error(keys, refusal, _type_at(path), raw)
    else:
        hint = _literal_hint(path, first["input"])
        text = f"{where} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}.{hint}"
        owner = _type_at(path[:-1])
        while not dataclasses.is_dataclass(owner) and len(path) > 2:  # inside a list, or a branch of a union
            path = path[:-1]
            owner = _type_at(path[:-1])
        keys = tuple(_where(path).split("."))
        fix = suggest.for_value(keys, suggest.found_at(raw, keys), owner, _options(_type_at(path)))
    # A union's findings repeat one mistake; others are counted by place.
    others = {_where(list(found["loc"])) for found in findings} - {where}
    others = {other for other in others if not other.startswith(where) and not where.startswith(other)}
    return text + (f" ({len(others)} more to correct.)" if others else ""), fix


def _where(path: Sequence[object]) -> str:
    parts = [str(part) for part in path]
    kept = []
    for index, part in enumerate(parts):
        is_tag = index == 2 and parts[0] == "stages" and part in STAGE_KINDS
        is_branch = "[" in part or part in ("str", "tuple", "function-after")
        if not is_tag and not is_branch:
            kept.append(part)
    return ".".join(["data", *kept] if kept and kept[0] in UNDER_DATA else kept) or "the run file"


def _unknown_key(path: Sequence[object], _found: object, _raw: object) -> tuple[str, Fix]:
    allowed, keys = _keys_at(path[:-1]), tuple(_where(path).split("."))
    right = nearest(keys[-1], allowed)
    text = f"the key {_where(path)!r} is unknown.{did_you_mean(keys[-1], allowed)} Allowed here: "
    if right is None:
        return text + f"{', '.join(allowed)}.", SetKey(keys, None)
    return text + f"{', '.join(allowed)}.", ReplaceText(keys, keys[-1], right)


def _missing(path: Sequence[object], _found: object, raw: Mapping[str, object]) -> tuple[str, Fix | None]:
    keys = tuple(_where(path).split("."))
    fix = suggest.for_missing(keys, raw)
    if len(path) == 1:
        return f"[{path[0]}] is missing.", fix
    return f"[{'.'.join(keys[:-1])}] needs the key {keys[-1]!r}.", fix


def _bad_kind(path: Sequence[object], found: object, _raw: object) -> tuple[str, Fix]:
    kind = found.get("kind") if isinstance(found, Mapping) else None
    keys = (*_where(path).split("."), "kind")
    if kind is None:
        text = f"[{_where(path)}] needs a kind: {', '.join(STAGE_KINDS)}."
        return text, SetKey(keys, suggest.kind_of(keys[-2], found))
    hint = did_you_mean(str(kind), STAGE_KINDS, cutoff=0.6)
    text = f"{_where(path)}.kind = {kind!r} is unknown.{hint} Allowed: {', '.join(STAGE_KINDS)}."
    return text, SetKey(keys, nearest(str(kind), STAGE_KINDS, cutoff=0.6) or suggest.kind_of(keys[-2], found))


def _literal_hint(path: Sequence[object], found: object) -> str:
    return did_you_mean(str(found), _options(_type_at(path)))


def _options(kind: object) -> list[str]:
    """What a choice allows."""
    if typing.get_origin(kind) is not typing.Literal:
        return []
    return [str(option) for option in typing.get_args(kind)]


def _keys_at(path: Sequence[object]) -> tuple[str, ...]:
    kind = _type_at(path)
    if not dataclasses.is_dataclass(kind):
        return ()
    names = [item.name for item in dataclasses.fields(kind)]
    return tuple(name for name in names if path or name not in UNDER_DATA)


def _type_at(path: Sequence[object]) -> object:
    """The type that stands at a place of the configuration; None when the place has none."""
    kind: object = RunConfig
    for part in path:
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            kind = typing.get_type_hints(kind, include_extras=True).get(str(part))
        elif kind is Stage:
            kind = STAGE_KINDS.get(str(part))
        elif typing.get_origin(kind) is not None and len(typing.get_args(kind)) == 2:
            kind = typing.get_args(kind)[1]
        else:
            return None
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return kind
