"""What this package raises and warns."""


class DatakitError(Exception):
    """Base of the errors of this package."""


class DataError(DatakitError, ValueError):
    """Data that cannot be used as it is; the message names file, row and field where they are known.

    Args:
        message: What was found, what is allowed, what to do.
        file: The file, or a description of where the rows came from.
        row: Its number, counted from 1; in a line-based file the number of the line.
        field: The column.
    """

    def __init__(
        self, message: str, *, file: str | None = None, row: int | None = None, field: str | None = None
    ) -> None:
        place = [file] if file is not None else []
        place += [f"row {row}"] if row is not None else []
        place += [f"field {field!r}"] if field is not None else []
        super().__init__(", ".join(place) + ": " + message if place else message)
        self.message, self.file, self.row, self.field = message, file, row, field

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, for errors raised in worker processes."""
        return _rebuild, (self.message, self.file, self.row, self.field)


def _rebuild(message: str, file: str | None, row: int | None, field: str | None) -> DataError:
    return DataError(message, file=file, row=row, field=field)


class TokenizerError(DatakitError, ValueError):
    """A tokenizer that cannot do what was asked, or cannot be trained from these texts."""


class DroppedRowsWarning(UserWarning):
    """Rows were dropped because ``on_error="drop"`` was asked for; says how many and why the first was."""


class SpecialTokensWarning(UserWarning):
    """Special tokens were written out in texts and stayed text; says in how many."""
