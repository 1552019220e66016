"""The known name that is nearest to a misspelled one."""

import difflib
from collections.abc import Iterable
from pathlib import Path


def near(name: object, known: Iterable[str]) -> str | None:
    """The most similar of the known names, or None if none is similar."""
    return next(iter(difflib.get_close_matches(str(name), sorted(known), n=1)), None)


def near_path(path: Path) -> str | None:
    """The entry beside a missing path whose name is most similar, as a path."""
    if not path.parent.is_dir():
        return None
    found = near(path.name, [entry.name for entry in path.parent.iterdir()])
    return None if found is None else str(path.parent / found)


def did_you_mean(suggestion: object) -> str:
    """A sentence that offers a suggestion; empty without one."""
    return "" if suggestion is None else f" Did you mean {suggestion!r}?"
