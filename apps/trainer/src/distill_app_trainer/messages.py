"""What pydantic found wrong, in one line for the one who wrote the run file."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill_app_trainer.config import STAGE_KINDS, UNDER_DATA
from distill_app_trainer.errors import nearest

if TYPE_CHECKING:
    from pydantic import ValidationError

_TAGS = tuple(STAGE_KINDS)


def explain(error: "ValidationError") -> str:
    """The first finding: where, what was found, what is allowed, and the nearest right spelling."""
    findings = error.errors(include_url=False)
    unknown = [
        found for found in findings if found["type"] in ("extra_forbidden", "unexpected_keyword_argument")
    ]
    first = (unknown or findings)[0]
    path = list(first["loc"])
    where = _where(path)
    message = {
        "extra_forbidden": _unknown_key,
        "unexpected_keyword_argument": _unknown_key,
        "missing": _missing,
        "missing_keyword_only_argument": _missing,
        "union_tag_invalid": _bad_kind,
        "union_tag_not_found": _bad_kind,
    }.get(first["type"])
    if message is not None:
        text = message(path, first["input"])
    elif first["type"] == "value_error":
        text = f"{where}: {first['ctx']['error']}"
    else:
        hint = _literal_hint(path, first["input"])
        text = f"{where} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}.{hint}"
    # A union's findings repeat one mistake; others are counted by place.
    others = {_where(list(found["loc"])) for found in findings} - {where}
    others = {other for other in others if not other.startswith(where) and not where.startswith(other)}
    return text + (f" ({len(others)} more to mend.)" if others else "")


def _where(path: Sequence[object]) -> str:
    parts = [str(part) for part in path]
    kept = []
    for index, part in enumerate(parts):
        is_tag = index == 2 and parts[0] == "stages" and part in _TAGS
        is_branch = "[" in part or part in ("str", "tuple", "function-after")
        if not is_tag and not is_branch:
            kept.append(part)
    return ".".join(["data", *kept] if kept and kept[0] in UNDER_DATA else kept) or "the run file"


def _unknown_key(path: Sequence[object], _found: object) -> str:
    allowed = _keys_at(path[:-1])
    hint = nearest(str(path[-1]), allowed)
    return f"the key {_where(path)!r} is unknown.{hint} Allowed here: {', '.join(allowed)}."


def _missing(path: Sequence[object], _found: object) -> str:
    if len(path) == 1:
        return f"[{path[0]}] is missing."
    return f"[{_where(path[:-1])}] needs the key {str(path[-1])!r}."


def _bad_kind(path: Sequence[object], found: object) -> str:
    kind = found.get("kind") if isinstance(found, Mapping) else None
    if kind is None:
        return f"[{_where(path)}] needs a kind: {', '.join(_TAGS)}."
    return (
        f"{_where(path)}.kind = {kind!r} is unknown.{nearest(str(kind), _TAGS)} Allowed: {', '.join(_TAGS)}."
    )


def _literal_hint(path: Sequence[object], found: object) -> str:
    kind = _type_at(path)
    options = (
        [str(option) for option in typing.get_args(kind)] if typing.get_origin(kind) is typing.Literal else []
    )
    return nearest(str(found), options)


def _keys_at(path: Sequence[object]) -> tuple[str, ...]:
    kind = _type_at(path)
    if not dataclasses.is_dataclass(kind):
        return ()
    names = [item.name for item in dataclasses.fields(kind)]
    return tuple(name for name in names if path or name not in UNDER_DATA)


def _type_at(path: Sequence[object]) -> object:
    """The type that stands at a place of the configuration; None when the place has none."""
    from distill_app_trainer.config import STAGE_KINDS, RunConfig

    kind: object = RunConfig
    for part in path:
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            kind = typing.get_type_hints(kind, include_extras=True).get(str(part))
        elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
            kind = STAGE_KINDS.get(str(part))
        elif typing.get_origin(kind) is not None and len(typing.get_args(kind)) == 2:
            kind = typing.get_args(kind)[1]
        else:
            return None
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return kind
