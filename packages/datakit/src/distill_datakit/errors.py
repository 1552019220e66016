"""What this package raises and warns."""

import difflib
from collections.abc import Iterable, Sequence


class DatakitError(Exception):
    """Base of the errors of this package.

    Args:
        message: What was asked, what was found, what is allowed, what to do.
        field: The argument or column that is wrong, as a caller would write it.
        found: The value that was given.
        allowed: The values that would be accepted; empty if they cannot be listed.
        suggestion: A value that would be accepted in place of ``found``.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        found: object = None,
        allowed: Sequence[object] = (),
        suggestion: object = None,
    ) -> None:
        super().__init__(message)
        self.message, self.field, self.found = message, field, found
        self.allowed, self.suggestion = tuple(allowed), suggestion

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, for errors raised in worker processes."""
        return _rebuild, (type(self), self.__dict__.copy())


def _rebuild(kind: type[DatakitError], data: dict[str, object]) -> DatakitError:
    return kind(**data)  # type: ignore[arg-type]  # what __init__ kept


class DataError(DatakitError, ValueError):
    """Data that cannot be used as it is; the message names file, row and column where they are known.

    Args:
        message: What was found, what is allowed, what to do.
        file: The file, or another description of the source of the rows.
        row: The number of the row, counted from 1; in a line-based file the number of the line.
        field: The column, or the argument that is wrong.
        found: The value that was given; of a column that is missing, the columns that there are.
        allowed: The values or columns that would be accepted; empty if they cannot be listed.
        suggestion: A value that would be accepted; of a column that is missing, the one that is probably
            meant.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        row: int | None = None,
        field: str | None = None,
        found: object = None,
        allowed: Sequence[object] = (),
        suggestion: object = None,
    ) -> None:
        place = [file] if file is not None else []
        place += [f"row {row}"] if row is not None else []
        place += [f"field {field!r}"] if field is not None and place else []
        said = ", ".join(place) + ": " + message if place else message
        super().__init__(said, field=field, found=found, allowed=allowed, suggestion=suggestion)
        self.message, self.file, self.row = message, file, row

    def at(self, file: str | None, row: int | None, field: str | None = None) -> "DataError":
        """The same error with its place."""
        return DataError(self.message, file=file, row=row, field=field or self.field, found=self.found,
                         allowed=self.allowed, suggestion=self.suggestion)  # fmt: skip


class TokenizerError(DatakitError, ValueError):
    """A tokenizer that cannot do what was asked, or cannot be trained from these texts."""


class OptionError(DatakitError, ValueError):
    """An argument whose value is not allowed."""

    @classmethod
    def of(cls, field: str, found: object, allowed: Sequence[object], note: str = "") -> "OptionError":
        """An error for a value that is none of those that are allowed."""
        near = nearest(str(found), [str(one) for one in allowed])
        suggestion = next((one for one in allowed if str(one) == near), allowed[0])
        names = ", ".join(map(repr, allowed))
        return cls(f"{field}={found!r}{note}: allowed are {names}.",
                   field=field, found=found, allowed=allowed, suggestion=suggestion)  # fmt: skip


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that is probably meant, if any is like it."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), None)


class DroppedRowsWarning(UserWarning):
    """Rows were dropped, as ``on_error="drop"`` asks; the message says how many, and why the first."""


class SpecialTokensWarning(UserWarning):
    """Special tokens were written in texts and stayed text; the message says in how many texts."""
