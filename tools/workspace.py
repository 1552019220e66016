"""The members of the workspace and what they declare, for the checks across packages."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Member:
    """One package or app of the workspace."""

    folder: Path
    project: dict[str, Any]

    @property
    def name(self) -> str:
        """The distribution's name."""
        return str(self.project["name"])

    @property
    def import_name(self) -> str:
        """The name that is imported."""
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        """The folder of the import package."""
        return self.folder / "src" / self.import_name

    def requirements(self, *, with_extras: bool = True) -> set[str]:
        """The names of the distributions that the package declares."""
        from packaging.requirements import Requirement

        declared = list(self.project["dependencies"])
        if with_extras:
            for extra in self.project.get("optional-dependencies", {}).values():
                declared += extra
        return {Requirement(text).name for text in declared}


def members() -> list[Member]:
    """All members, in the order of their folders."""
    return [
        Member(path.parent, tomllib.loads(path.read_text(encoding="utf-8"))["project"])
        for kind in ("packages", "apps")
        for path in sorted((ROOT / kind).glob("*/pyproject.toml"))
    ]


def imports(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every absolute import below ``folder``: the file and the top-level name."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield path, alias.name.partition(".")[0]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield path, node.module.partition(".")[0]
