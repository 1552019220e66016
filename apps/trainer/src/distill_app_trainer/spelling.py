"""The nearest right spelling of a word."""

from collections.abc import Iterable


def nearest(word: str, allowed: Iterable[object], *, cutoff: float = 0.5) -> str | None:
    """Return the nearest of ``allowed``, or None where no similarity reaches ``cutoff``, 0 to 1."""
    import difflib

    return next(iter(difflib.get_close_matches(word, map(str, allowed), n=1, cutoff=cutoff)), None)


def did_you_mean(word: str, allowed: Iterable[object], *, cutoff: float = 0.5) -> str:
    """Return `` Did you mean 'x'?`` for the nearest of ``allowed``, or nothing."""
    found = nearest(word, allowed, cutoff=cutoff)
    return f" Did you mean {found!r}?" if found else ""
