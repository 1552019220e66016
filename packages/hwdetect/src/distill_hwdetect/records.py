"""Frozen records with named fields: what ``dataclasses`` would give, without its 10 to 20 ms of imports.

Detection has 30 ms in all, and ``dataclasses`` imports ``inspect``, ``ast``, ``re`` and ``enum``.
"""

from __future__ import annotations

from collections.abc import Mapping

from distill_hwdetect.errors import RecordFieldError
from distill_hwdetect.refusals import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        """Do nothing: only type checkers read it."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """A frozen record: fields are the annotated names of the class, given by keyword; equal by value."""

    def __init__(self, **values: object) -> None:
        unknown = values.keys() - self.fields()
        missing = [name for name in self.fields() if name not in values and not hasattr(type(self), name)]
        if unknown or missing:
            field = min(unknown) if unknown else missing[0]
            raise RecordFieldError(
                f"{type(self).__name__} {'has no' if unknown else 'needs the'} field {field!r}; "
                f"its fields are {', '.join(self.fields())}",
                field=field,
                found=values.get(field),
                allowed=self.fields(),
                suggestion=nearest(field, self.fields()) if unknown else None,
            )
        for name in self.fields():
            self.__dict__[name] = values[name] if name in values else getattr(type(self), name)

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the fields, in the order of the class."""
        return tuple(cls.__annotations__)

    def replace(self, **changes: object) -> Self:
        """Return a copy with other values.

        Raises:
            RecordFieldError: A name that is not a field; also a ``TypeError``.
        """
        return type(self)(**{**self.__dict__, **changes})

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types: records and mappings as dictionaries, tuples as lists."""
        return {name: plain(value) for name, value in self.__dict__.items()}

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: records are frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen; .replace({name}=...) makes another.")

    def __delattr__(self, name: str) -> None:
        """Refuse: records are frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen; {name!r} cannot be deleted.")

    def __eq__(self, other: object) -> bool:
        """Whether type and values are the same."""
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        """Hash the values, where all of them can be."""
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        """Write the record as the call that makes it."""
        values = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({values})"


def plain(value: object) -> object:
    """Return a value as plain JSON types."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value
