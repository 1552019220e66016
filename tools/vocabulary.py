"""Find private idioms in the project's prose; ``tools/vocabulary.toml`` names each with its replacement.

``python tools/vocabulary.py [PATH ...]`` prints ``file:line: found: say instead`` for each finding and exits
with 1 if there is any. Prose is the text of a page, a template or a TOML file outside code spans, and the
comments, docstrings and other strings of a Python file. Names in code are not looked at.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
VOCABULARY = Path(__file__).with_suffix(".toml")
READ = (".jinja", ".md", ".py", ".toml")
NEVER_READ = ("CHANGELOG.md", "test_vocabulary.py", "vocabulary.toml")  # they have to name idioms
CODE = re.compile(r"^ *```.*?^ *```|``.*?``|`[^`\n]*`", re.MULTILINE | re.DOTALL)
GAP = "\0"  # stands for code between two pieces of prose, so that no idiom spans it
FSTRING_PART = getattr(tokenize, "FSTRING_MIDDLE", None)  # from Python 3.12 on
QUOTES = re.compile(r"^[a-zA-Z]*(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')$")


class Finding(NamedTuple):
    """An idiom in a text: its line, its words, and what to say instead."""

    line: int
    found: str
    replacement: str


def vocabulary() -> dict[re.Pattern[str], str]:
    """Idioms as patterns over words with one blank between them, each with its replacement."""
    table: dict[str, str] = tomllib.loads(VOCABULARY.read_text(encoding="utf-8"))["idioms"]
    return {
        re.compile(rf"(?<![\w-])(?:{idiom})(?![\w-])", re.IGNORECASE): replacement
        for idiom, replacement in table.items()
    }


def without_code(text: str) -> str:
    """The text with fenced blocks and code spans blanked; the lines stay where they are."""
    return CODE.sub(lambda code: GAP + "\n" * code[0].count("\n"), text)


def _said(token: tokenize.TokenInfo) -> str:
    """The words of a string; an X stands for each value that an f-string puts in."""
    if token.type == FSTRING_PART:
        return token.string + " X"
    prefix = token.string.partition(token.string[-1])[0].lower()
    text = QUOTES.sub("", token.string)
    while "f" in prefix and (filled := re.sub(r"\{[^{}]*\}", "X", text)) != text:
        text = filled
    return text


def python_prose(source: str) -> str:
    """The comments and strings of a Python source, each on its own line; the rest is blanked."""
    lines = source.splitlines(keepends=True)
    prose = [re.sub(r"\S+", GAP, line) for line in lines]
    written: dict[int, list[str]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            written.setdefault(token.start[0], []).append(token.string.lstrip("#"))
        elif token.type in (tokenize.STRING, FSTRING_PART):
            for number, part in enumerate(_said(token).splitlines() or [""], token.start[0]):
                written.setdefault(number, []).append(part)
    for number, parts in written.items():
        prose[number - 1] = " ".join(parts) + "\n"
    return "".join(prose)


def findings(text: str, idioms: dict[re.Pattern[str], str]) -> Iterator[Finding]:
    """Each idiom in a text, also across the ends of lines."""
    words = [(word, number) for number, line in enumerate(text.split("\n"), 1) for word in line.split()]
    joined = " ".join(word for word, _ in words)
    starts = [0]
    for word, _ in words:
        starts.append(starts[-1] + len(word) + 1)
    for pattern, replacement in idioms.items():
        for match in pattern.finditer(joined):
            yield Finding(words[bisect_right(starts, match.start()) - 1][1], match[0], replacement)


def prose(path: Path) -> str:
    """The prose of a file."""
    text = path.read_text(encoding="utf-8")
    return without_code(python_prose(text) if path.suffix == ".py" else text)


def files(paths: Iterable[str]) -> list[Path]:
    """The files with prose below ``paths``, or in the whole project if there are none."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = (ROOT / name for name in listed.stdout.split("\0") if name.endswith(READ))
    return [path for path in found if path.name not in NEVER_READ and path.is_file()]


def main(arguments: list[str] | None = None) -> int:
    """Print the findings; 1 if there is any."""
    parser = argparse.ArgumentParser(description="Find private idioms in the project's prose.")
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="files or folders (default: the whole project)"
    )
    idioms = vocabulary()
    count = 0
    for path in files(parser.parse_args(arguments).paths):
        for finding in sorted(findings(prose(path), idioms)):
            count += 1
            name = path.relative_to(ROOT).as_posix()
            print(f"{name}:{finding.line}: {finding.found!r}: say {finding.replacement}")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
