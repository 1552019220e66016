"""Modules and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from workspace import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_LINES = 400
MOST_LINES_OF_APPS = 7652  # all apps together, as wc counts; the goal is 6,500, and the number only falls
MOST_ENTRIES_OF_AN_APP = 17  # files and folders at the top of its import package
MOST_LINES_OF_A_FUNCTION = 60
# What was longer when the limits came; entries may only go.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


def sources() -> Iterator[tuple[str, str]]:
    """Name and text of each source file of packages, apps, tools and the noxfile."""
    paths: list[Path] = [ROOT / "noxfile.py", *(ROOT / "tools").glob("*.py")]
    for kind in ("packages", "apps"):
        paths += [*(ROOT / kind).glob("*/src/**/*.py"), *(ROOT / kind).glob("*/tools/**/*.py")]
    for path in sorted(paths):
        yield str(path.relative_to(ROOT).as_posix()), path.read_text(encoding="utf-8")


def test_no_new_file_is_longer_than_four_hundred_lines() -> None:
    """A file that became shorter has to leave the list."""
    assert {name for name, text in sources() if len(text.splitlines()) > MOST_LINES} == LONG_FILES


def test_apps_stay_thin() -> None:
    """An app joins packages: what is more belongs into one of them, and its top level is read at a glance."""
    lines = sum(
        len(text.splitlines()) for name, text in sources() if name.startswith("apps/") and "/src/" in name
    )
    assert lines <= MOST_LINES_OF_APPS
    for app in (ROOT / "apps").glob("*/src/*"):
        entries = [path.name for path in app.iterdir() if path.name != "__pycache__"]
        assert len(entries) <= MOST_ENTRIES_OF_AN_APP, entries


def example_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the example in a docstring, which tests run."""
    _, _, example = (ast.get_docstring(node) or "").partition("\nExample:\n")
    section = example.partition("\n\nSource:")[0]
    return len(section.splitlines()) + 2 if section else 0


def test_no_new_function_is_longer_than_sixty_lines() -> None:
    """Decorators not counted, docstring counted but for its example."""
    long = {
        f"{name}::{node.name}"
        for name, text in sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 - example_lines(node) > MOST_LINES_OF_A_FUNCTION
    }
    assert long == LONG_FUNCTIONS
