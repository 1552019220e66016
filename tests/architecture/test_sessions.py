"""The noxfile says what each session does, and its default ones have a budget."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def test_every_session_has_a_docstring_of_one_line(root: Path) -> None:
    """It is what ``nox -l`` shows."""
    tree = ast.parse((root / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {
        node.name: ast.get_docstring(node)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("nox.session" in ast.unparse(one) for one in node.decorator_list)
    }
    assert len(sessions) >= 15
    assert [name for name, text in sessions.items() if not text or "\n" in text] == []


def test_nox_lists_the_default_sessions_in_their_order(root: Path) -> None:
    """Each with a budget; what takes long, needs an accelerator or writes is only run on request."""
    listed = subprocess.run(
        [sys.executable, "-m", "nox", "--list"],
        cwd=root,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    default = [line[2:].split(" -> ")[0] for line in listed if line.startswith("* ")]
    assert default == [
        "lint",
        "types",
        "architecture",
        *(f"tests({name})" for name in ("hwdetect", "metrics", "datakit", "adapters", "distill", "deploy")),
        *(f"tests({name})" for name in ("trainer", "evaluator", "edge")),
        "standalone(hwdetect)",
        "standalone(metrics)",
        *(f"hardware({kind})" for kind in ("cpu", "cuda", "rocm", "xpu", "mps")),
        "docs",
        "e2e",
    ]
