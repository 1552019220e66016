"""Refusals of arguments and overrides: what was found, what is allowed, and what was probably meant."""

from __future__ import annotations

from distill_hwdetect.errors import ArgumentError, UnsupportedPolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the most similar of ``names``, None where none is similar."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(names), n=1)), None)


def check_one_of(argument: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a value that is not one of ``allowed``.

    Raises:
        ArgumentError: With the nearest allowed value as its suggestion.
    """
    if value not in allowed:
        names = ", ".join(repr(name) for name in allowed[:-1])
        raise ArgumentError(
            f"{argument} must be {names} or {allowed[-1]!r}, found {value!r}.",
            field=argument,
            found=value,
            allowed=allowed,
            suggestion=nearest(str(value), allowed) or allowed[0],
        )


def unsupported(field: str, found: object, why: str, allowed: Sequence[str]) -> UnsupportedPolicyError:
    """Return the refusal of an override that this machine or this model does not support.

    Args:
        field: The field of the policy.
        found: The override.
        why: The reason, a clause that follows "but".
        allowed: What may be set instead, the best first; ``auto`` always may.
    """
    choices = " or ".join(repr(name) for name in allowed)
    return UnsupportedPolicyError(
        f"{field} {found!r} was asked for, but {why}. "
        f"Set {field} = {choices}, or 'auto' to let the policy choose.",
        field=field,
        found=found,
        allowed=(*allowed, "auto"),
        suggestion=allowed[0],
    )
