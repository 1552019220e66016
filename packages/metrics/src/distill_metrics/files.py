"""Texts out of files: one a line, or JSON Lines, plain or gzipped, or standard input."""

import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from distill_metrics.errors import FileFormatError
from distill_metrics.results import Reference

_PREDICTION_KEYS = ("prediction", "output", "text")
_REFERENCE_KEYS = ("references", "reference", "target", "output", "text")


def read_predictions(path: str) -> list[str]:
    """One text an example.

    Args:
        path: A text file with one example a line, or ``.jsonl`` whose lines are strings or objects with
            ``prediction``, ``output`` or ``text``; either may end in ``.gz``. ``-`` is standard input.

    Raises:
        FileNotFoundError: There is no such file.
        FileFormatError: A line is not what it should be; file and line are named.
    """
    texts: list[str] = []
    for place, entry in _entries(path, _PREDICTION_KEYS):
        if not isinstance(entry, str):
            raise FileFormatError(
                f"{place}: a string is needed, a {type(entry).__name__} was found.", found=entry
            )
        texts.append(entry)
    return texts


def read_references(path: str) -> list[Reference]:
    """One text or list of texts an example.

    As :func:`read_predictions`, from ``references``, ``reference``, ``target``, ``output`` or ``text``.
    """
    found: list[Reference] = []
    for place, entry in _entries(path, _REFERENCE_KEYS):
        if isinstance(entry, str):
            found.append(entry)
        elif isinstance(entry, list) and entry and all(isinstance(text, str) for text in entry):
            found.append([str(text) for text in entry])
        else:
            raise FileFormatError(f"{place}: a string or a list of strings is needed.", found=entry)
    return found


def _entries(path: str, keys: Sequence[str]) -> Iterator[tuple[str, object]]:
    name = "standard input" if path == "-" else path
    lines = _text(path, name).split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise FileFormatError(f"{name} is empty; one example a line is needed.", found=name)
    is_json = path.removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    for number, line in enumerate(lines, start=1):
        place, text = f"{name}, line {number}", line.removesuffix("\r")
        yield place, _field(text, place, keys) if is_json else text


def _field(line: str, place: str, keys: Sequence[str]) -> object:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{place} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        return value
    for key in keys:
        if key in value:
            return value[key]
    raise FileFormatError(
        f"{place} has none of the fields {', '.join(keys)}; found: {', '.join(value) or 'none'}.",
        found=tuple(value),
        allowed=tuple(keys),
    )


def _text(path: str, name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        if path.endswith(".gz"):
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except (OSError, EOFError) as error:
        raise FileFormatError(f"{name} cannot be read: {error}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileFormatError(
            f"{name}, line {line} is not UTF-8 (byte {error.start}: {error.reason})."
        ) from error
