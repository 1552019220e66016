"""A fix, written as a command or as an edit of one line of the run file.

An edit reads ``FILE:LINE: OLD -> NEW``, ``FILE:LINE: delete``, ``FILE:FIRST-LAST: delete`` or
``FILE:FIRST-LAST: move above LINE``.
"""

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_app_trainer.errors import DropOverride, Fix, MoveTable, ReplaceText, ReplaceWord, SetKey

_NOTHING = "(nothing)"
_ASSIGNMENT = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\.(?:[\w-]+|"[^"]*"))*)\s*=""")
_AT = re.compile(r"at line (\d+)")


@dataclass(frozen=True)
class _Place:
    """A line of a run file: the keys that lead to what it opens or sets."""

    line: int
    path: tuple[str, ...]
    header: bool


def written(fix: Fix, given: Sequence[str]) -> str | None:
    """Write a fix for a person, literally enough for a program to apply it.

    Args:
        fix: The fix.
        given: The command line, without the program's name.

    Returns:
        A command, or an edit; None where the run file does not show what is to be changed.
    """
    if isinstance(fix, str):
        return fix
    words = _retyped(fix, given)
    if words is not None:
        return shlex.join(["distill-train", *words])
    file = _run_file(given)
    if file is None:
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    found: str | None = None
    if isinstance(fix, ReplaceText):
        found = _edit(lines, fix)
    elif isinstance(fix, MoveTable):
        found = _move(lines, fix)
    elif isinstance(fix, SetKey):
        found = _setting(lines, fix)
        if found is None and fix.value is not None:
            more = ("--set", f"{'.'.join(fix.path)}={as_toml(fix.value)}")
            return shlex.join(["distill-train", *given, *more])
    return None if found is None else f"{file}:{found}"


def _retyped(fix: Fix, given: Sequence[str]) -> list[str] | None:
    """The command line as it should have been, where the mistake is on it."""
    if isinstance(fix, ReplaceWord):
        return [fix.new if word == fix.old else word for word in given]
    if isinstance(fix, DropOverride):
        return _without(given, fix.override)
    for number, word in enumerate(given):
        override = word.removeprefix("--set=")
        if not (word != override or (number and given[number - 1] == "--set")):
            continue
        key = override.partition("=")[0]
        if isinstance(fix, SetKey) and key.strip() == ".".join(fix.path):
            if fix.value is None:
                return _without(given, override)
            return [
                *given[:number],
                word.replace(override, f"{key}={as_toml(fix.value)}"),
                *given[number + 1 :],
            ]
        if (
            isinstance(fix, ReplaceText)
            and _same_way(key, fix.path)
            and (old := fix.old.strip('"')) in override
        ):
            return [*given[:number], word.replace(old, fix.new.strip('"'), 1), *given[number + 1 :]]
    if isinstance(fix, ReplaceText) and _run_file(given) is None and any(fix.old in word for word in given):
        return [word.replace(fix.old, fix.new) for word in given]
    return None


def _without(given: Sequence[str], override: str) -> list[str]:
    """The command line without an override."""
    return [
        word
        for number, word in enumerate(given)
        if word not in (override, f"--set={override}")
        and not (word == "--set" and given[number + 1 : number + 2] == [override])
    ]


def as_toml(value: object) -> str:
    """A value as it stands in a run file, on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    import json

    return json.dumps(value, ensure_ascii=False)


def to_utf8(file: Path) -> str:
    """The command that turns a file of an older encoding into UTF-8."""
    name = shlex.quote(str(file))
    return f"iconv -f latin1 -t utf-8 {name} > {name}.utf8 && mv {name}.utf8 {name}"


def repaired(file: Path, error: Exception) -> str | None:
    """The edit that makes a file valid TOML, where a usual slip explains it."""
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    said = _AT.search(str(error))
    last = int(said[1]) if said else len(lines)
    for number in range(last, max(0, last - 3), -1):
        if number > len(lines):
            continue
        old = lines[number - 1]
        for new in _repairs(old):
            if _error_line([*lines[: number - 1], new, *lines[number:]]) is None:
                return (
                    f"{file}:{number}: {old.strip()} -> {new.strip()}" if new else f"{file}:{number}: delete"
                )
    return None


def _repairs(line: str) -> Sequence[str]:
    """What a line could have been meant to be."""
    key, equals, value = line.partition("=")
    words = {"True": "true", "False": "false"}
    found = [line + '"', line + "]", line + '"]', line + " }", re.sub(r"^(\s*[\w-]+)\s*:", r"\1 =", line)]
    if equals:
        bare = value.strip()
        found.append(f"{key}= {words.get(bare, bare)}")
    if equals and value.strip():
        found += [f'{key}= "{bare.strip(chr(39)).strip(chr(34))}"']
    found.append(re.sub(r"^\s*\[?([\w.-]+)\]?\s*$", r"[\1]", line))
    return [new for new in found if new != line] + [""]


def _error_line(lines: Sequence[str]) -> int | None:
    try:
        tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        said = _AT.search(str(error))
        return int(said[1]) if said else len(lines)
    return None


def _places(lines: Sequence[str]) -> list[_Place]:
    """Tables and assignments, in the order of the file."""
    table: tuple[str, ...] = ()
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text.startswith("[") and "=" not in text.partition("]")[0]:
            table = _keys(text.strip("[").partition("]")[0])
            found.append(_Place(number, table, header=True))
        elif match := _ASSIGNMENT.match(line):
            found.append(_Place(number, (*table, *_keys(match[1])), header=False))
    return found


def _keys(text: str) -> tuple[str, ...]:
    return tuple(key.strip(" \"'") for key in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", text))


def _edit(lines: Sequence[str], fix: ReplaceText) -> str | None:
    """Where the old text stands, at the place of the file that is nearest to the keys."""
    word = re.compile(rf"(?<![\w-]){re.escape(fix.old)}(?![\w-])")
    for place in _nearest_first(lines, fix.path):
        for number in range(place.line, len(lines) + 1):
            line = lines[number - 1]
            if number > place.line and line.lstrip().startswith("[") and not line.lstrip().startswith("[["):
                break
            if match := word.search(line):
                old, new = fix.old, fix.new
                if line.find(old) != match.start():
                    old = line.strip()
                    new = word.sub(fix.new.replace("\\", r"\\"), line, count=1).strip()
                return f"{number}: {old} -> {new}"
    return None


def _nearest_first(lines: Sequence[str], path: tuple[str, ...]) -> list[_Place]:
    """Places on the way to the keys, the nearest first."""
    every = _places(lines)
    there = [place for place in every if place.path == path and not place.header]
    below = [place for place in every if place.header and place.path[: len(path)] == path]
    above = [place for place in every if place.path == path[: len(place.path)] and place.path != path]
    return [*there, *below, *sorted(above, key=lambda place: (-len(place.path), place.header))]


def _setting(lines: Sequence[str], fix: SetKey) -> str | None:
    """The assignment that is to be changed or taken out."""
    key = fix.path[-1]
    new = f"{key} = {as_toml(fix.value)}"
    for place in _nearest_first(lines, fix.path):
        line = lines[place.line - 1]
        if place.path == fix.path and place.header:
            return f"{place.line}-{_end(lines, place.line)}: delete" if fix.value is None else None
        if place.path == fix.path and _is_whole(line.partition("=")[2].split(" #")[0].strip()):
            old = line.split(" #")[0].strip()
            return f"{place.line}: delete" if fix.value is None else f"{place.line}: {old} -> {new}"
        inline = re.search(
            rf"(?<![\w-]){re.escape(key)}\s*=\s*(\"[^\"]*\"|\[[^\]]*\]|[^,}}\s]+)(,\s*)?", line
        )
        if not place.header and place.path == fix.path[:-1] and inline:
            if fix.value is not None:
                return f"{place.line}: {inline[0].rstrip(', ')} -> {new}"
            return f"{place.line}: {inline[0].strip()} -> {_NOTHING}"
    return None


def _is_whole(value: str) -> bool:
    """Whether a value ends on its line."""
    return _error_line([f"value = {value}"]) is None


def _move(lines: Sequence[str], fix: MoveTable) -> str | None:
    headers = {place.path: place.line for place in reversed(_places(lines)) if place.header}
    if fix.path not in headers or fix.above not in headers:
        return None
    return f"{headers[fix.path]}-{_end(lines, headers[fix.path], fix.path)}: move above {headers[fix.above]}"


def _end(lines: Sequence[str], first: int, path: tuple[str, ...] | None = None) -> int:
    """The last line of a table; with its path, of its subtables too."""
    for place in _places(lines):
        below = path is not None and place.path[: len(path)] == path
        if place.header and place.line > first and not below:
            return place.line - 1
    return len(lines)


def _is_override(given: Sequence[str], number: int) -> bool:
    return given[number].startswith("--set=") or (number > 0 and given[number - 1] == "--set")


def _same_way(key: str, path: tuple[str, ...]) -> bool:
    """Whether an override leads to a place, or to something above or below it."""
    keys = tuple(part.strip() for part in key.split("."))
    return keys[: len(path)] == path[: len(keys)]


def _run_file(given: Sequence[str]) -> Path | None:
    """The run file that a command line names."""
    from distill_app_trainer.runfile.locate import examples_folder, find_run_file

    words = [
        word
        for number, word in enumerate(given)
        if not word.startswith("-") and not _is_override(given, number)
    ]
    if words[:1] == ["quickstart"]:
        return examples_folder() / "quickstart.toml"
    if len(words) < 2 or words[0] not in ("run", "plan", "cache", "resume"):
        return None
    return Path(words[1]) / "run.toml" if words[0] == "resume" else find_run_file(words[1])
