"""Who is told what happens in a run: several at once, or the main process from within a worker."""

from collections.abc import Callable, Mapping
from typing import Protocol


class RunListener(Protocol):
    """Who is told what happens."""

    def note(self, text: str) -> None:
        """One line."""

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        """A stage begins."""

    def progress(self, name: str, facts: Mapping[str, float]) -> None:
        """A step of a stage: ``step``, ``total_steps``, and whatever else is a number."""

    def stage_done(self, name: str, text: str, seconds: float) -> None:
        """A stage is finished."""


class Relay:
    """A listener that passes on every call.

    Args:
        send: Is given the name of the method and its arguments.
    """

    def __init__(self, send: Callable[[str, tuple[object, ...]], None]) -> None:
        self._send = send

    def note(self, text: str) -> None:
        """Pass it on."""
        self._send("note", (text,))

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        """Pass it on."""
        self._send("stage", (name, kind, number, total))

    def progress(self, name: str, facts: Mapping[str, float]) -> None:
        """Pass it on."""
        self._send("progress", (name, dict(facts)))

    def stage_done(self, name: str, text: str, seconds: float) -> None:
        """Pass it on."""
        self._send("stage_done", (name, text, seconds))


def listeners(*several: RunListener) -> RunListener:
    """One listener that tells several."""

    def tell(method: str, arguments: tuple[object, ...]) -> None:
        for one in several:
            getattr(one, method)(*arguments)

    return Relay(tell)
