"""What every package contains, and what no file may name."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from workspace import Member

VERSION = re.compile(r"^## (\d+\.\d+\.\d+)$", re.MULTILINE)
# Put together here, so that this file does not name them itself.
FORBIDDEN = (
    "/".join(("", "work", "")),
    "/".join(("", "root", "")),
    "/".join(("", "home", "")),
    "/".join(("", "tmp", "")),
    "pypi" + ".org",
    "python" + "hosted",
    "download." + "pytorch",
    "registry." + "npmjs",
    "deb." + "debian",
    "index" + "-url",
)
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".lock",
    ".json",
    ".txt",
    ".yml",
    ".yaml",
    ".cfg",
    "",
    ".typed",
    ".html",
    ".j2",
}


def test_readme_says_how_to_install_and_shows_a_use(member: Member) -> None:
    """The name of the package or of its command as a heading, and a fenced block."""
    text = (member.folder / "README.md").read_text(encoding="utf-8")
    commands = list(member.project.get("scripts", {}))
    assert text.partition("\n")[0] in {f"# {name}" for name in (member.name, *commands)}
    assert "```" in text


def test_changelog_ends_at_the_version_that_is_declared(member: Member) -> None:
    """The newest version heading in CHANGELOG.md is the version in pyproject.toml."""
    versions = VERSION.findall((member.folder / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert versions[:1] == [member.project["version"]]


def test_licence_is_the_projects_and_reaches_the_wheel(member: Member, root: Path) -> None:
    """PEP 639 metadata, and the same text everywhere; tools/check_wheel.py looks into built wheels."""
    assert member.project["license"] == "Apache-2.0"
    assert member.project["license-files"] == ["LICENSE"]
    assert (member.folder / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()


def test_types_are_published(member: Member) -> None:
    """py.typed is in the import package."""
    assert (member.source / "py.typed").is_file()
    assert "Typing :: Typed" in member.project["classifiers"]


def test_python_floor_and_privacy(member: Member) -> None:
    """3.11 everywhere; apps are never uploaded, packages may be."""
    assert member.project["requires-python"] == ">=3.11"
    private = "Private :: Do Not Upload" in member.project["classifiers"]
    assert private == (member.folder.parent.name == "apps")


def test_sibling_bounds_are_ranges(member: Member) -> None:
    """A sibling is required from its minor version up to the next."""
    for text in member.project["dependencies"]:
        if text.startswith("distill-"):
            assert re.fullmatch(r"distill-[a-z]+(\[[a-z0-9,-]+\])?>=0\.\d+,<0\.\d+", text), text


def test_packages_md_lists_every_member_with_its_version(member: Member, root: Path) -> None:
    """One line each."""
    rows = (root / "PACKAGES.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in rows if line.startswith(f"| [{member.name}]")]
    assert f"| {member.project['version']} |" in row


def test_no_tracked_file_names_a_registry_or_a_place_on_a_machine(root: Path) -> None:
    """Neither an index's address nor a path of whoever wrote it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = root / name
        if path.suffix not in TEXT or name == "LICENSE" or not path.is_file() or name == "uv.lock":
            continue  # uv completes the working copy's uv.lock; test_lock.py reads the committed one
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{name}:{number}: {bad}" for bad in FORBIDDEN if bad in line]
    assert found == []
