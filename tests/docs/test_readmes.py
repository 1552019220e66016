"""The code blocks of the documentation run as a reader would run them.

The info string of a fenced block says what happens to it:

- ``python run``, ``bash run``: run, offline and in order, in an empty folder that the blocks of a page share.
- ``bash wheelhouse``: run in a fresh environment, where pip finds this project's packages as built wheels.
- ``python network`` and ``bash network``: only the syntax is checked.
- another language, or none: the block is ignored.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from readme_block import run_forked
from workspace import ROOT, members

FENCE = re.compile(r"^```(python|bash) (run|wheelhouse|network)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NO_NETWORK = {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "UV_OFFLINE": "1"}


@dataclass(frozen=True)
class Block:
    """One fenced block: its line in the page, its language, what is done with it, its text."""

    line: int
    language: str
    fate: str
    text: str


def pages() -> list[Path]:
    """The READMEs and the pages of docs/."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(one.folder / "README.md" for one in members())]
    return [*found, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page whose info string says what to do with them."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, match.start()) + 1, match[1], match[2], match[3])
        for match in FENCE.finditer(text)
    ]


def shown(*fates: str) -> list[Path]:
    """The pages with at least one block of these fates."""
    return [page for page in pages() if any(block.fate in fates for block in blocks(page))]


def named(page: Path) -> str:
    """A page as the project names it."""
    return page.relative_to(ROOT).as_posix()


def run(block: Block, page: Path, *, cwd: Path, programs: Path, **environment: str) -> None:
    """Run a block, and fail with what it printed."""
    command = (
        [str(programs / "python"), "-c", block.text]
        if block.language == "python"
        else ["bash", "-euo", "pipefail", "-c", block.text]
    )
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    place = f"{named(page)}:{block.line}"
    print(f"--- {place}\n{done.stdout}{done.stderr}")
    assert done.returncode == 0, (
        f"{place} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a program of a page nor the process that it is forked from reaches a network."""
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("page", shown("run"), ids=named)
@pytest.mark.usefixtures("offline")
def test_blocks_marked_run_do_run(page: Path, tmp_path: Path) -> None:
    """In the order of the page, without a network."""
    folder, printed = tmp_path / "reader", tmp_path / "printed.txt"
    folder.mkdir()
    for block in blocks(page):
        if block.fate == "run" and block.language == "python":
            place = f"{named(page)}:{block.line}"
            code = run_forked(block.text, place, folder, printed)
            said = printed.read_text(encoding="utf-8")
            print(f"--- {place}\n{said}")
            assert code == 0, f"{place} ended with {code}:\n{said[-4000:]}"
        elif block.fate == "run":
            run(block, page, cwd=folder, programs=Path(sys.executable).parent, **NO_NETWORK)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of the packages whose pages have such a block, and of what they need."""
    out = tmp_path_factory.mktemp("wheels")
    every = {one.name: one for one in members()}
    wanted = {one.name for one in every.values() if one.folder / "README.md" in shown("wheelhouse")}
    while more := {name for one in wanted for name in every[one].requirements() & set(every)} - wanted:
        wanted |= more
    for name in sorted(wanted):
        command = ["uv", "build", "--quiet", "--wheel", str(every[name].folder), "--out-dir", str(out)]
        subprocess.run(command, check=True)
    return out


@pytest.mark.parametrize("page", shown("wheelhouse"), ids=named)
def test_blocks_marked_wheelhouse_install_the_built_wheels(page: Path, tmp_path: Path, wheels: Path) -> None:
    """In a fresh environment, which the blocks of a page share."""
    subprocess.run(["uv", "venv", "--quiet", "--seed", str(tmp_path / "venv")], check=True)
    links = f"{os.environ.get('PIP_FIND_LINKS', '')} {wheels}".strip()
    for block in blocks(page):
        if block.fate == "wheelhouse":
            run(block, page, cwd=tmp_path, programs=tmp_path / "venv" / "bin", PIP_FIND_LINKS=links)


@pytest.mark.parametrize("page", shown("network"), ids=named)
def test_blocks_marked_network_are_well_formed(page: Path) -> None:
    """Python compiles and bash parses; nothing is run."""
    for block in blocks(page):
        if block.fate != "network":
            continue
        if block.language == "python":
            ast.parse(block.text, filename=f"{named(page)}:{block.line}")
        else:
            done = subprocess.run(
                ["bash", "-n", "-c", block.text], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{named(page)}:{block.line}: {done.stderr}"


def test_every_block_in_python_or_bash_says_its_fate() -> None:
    """No block is skipped by mistake; text blocks name another language, or none."""
    silent = [
        f"{named(page)}:{number}"
        for page in pages()
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if re.match(r"```(python|bash|sh|shell|console)\b", line)
        and not re.fullmatch(r"```(python|bash) (run|wheelhouse|network)", line)
    ]
    assert silent == []
