"""No two modules of a package import each other, not even inside a function or for types."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from workspace import Member


def module_of(path: Path, source: Path) -> str:
    """The dotted name of a module below the source folder of a package."""
    parts = path.relative_to(source.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph(source: Path) -> dict[str, set[str]]:
    """Each module of a package with those of its package that it imports, also in functions and for types."""
    names = {module_of(path, source): path for path in source.rglob("*.py")}
    found: dict[str, set[str]] = defaultdict(set)
    for name, path in names.items():
        found[name] |= set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                wanted = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                continue
            found[name] |= {one for one in wanted if one in names and one != name and one != source.name}
    return found


def test_no_module_needs_one_that_needs_it(member: Member) -> None:
    """A package's modules have an order, imports inside functions and for types included."""
    try:
        tuple(TopologicalSorter(graph(member.source)).static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise AssertionError(f"{member.name}: {circle}") from None
