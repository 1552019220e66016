"""Reading values of unknown type out of what files, drivers and recordings say."""

from __future__ import annotations

from collections.abc import Mapping

Raw = Mapping[str, object]


def mapping(value: object) -> Raw:
    """Return a mapping, empty where there is none."""
    return value if isinstance(value, Mapping) else {}


def number(raw: Raw, name: str) -> int | None:
    """Return a whole number, also one that a file wrote as text; None where there is none."""
    found = raw.get(name)
    if isinstance(found, str):
        found = int(found) if found.strip().lstrip("-").isdigit() else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def text(value: object) -> str | None:
    """Return a text, None where there is none."""
    return value if isinstance(value, str) else None
