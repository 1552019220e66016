"""Prepare a release of one package and tag it; nothing is pushed."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from lock import committed, portable

ROOT = Path(__file__).parents[1]
UNRELEASED = "## Unreleased"


class ReleaseError(Exception):
    """The release cannot go on; the message says what to do."""


def git(*arguments: str) -> str:
    """Run git in the project and return what it prints."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.rstrip()


def require_clean_tree() -> None:
    """Raise ReleaseError if a change is not committed; a ``uv.lock`` that uv completed counts as clean."""
    changed = [line[3:] for line in git("status", "--porcelain").splitlines()]
    lock = ROOT / "uv.lock"
    if "uv.lock" in changed and portable(lock.read_text(encoding="utf-8")) == committed("uv.lock"):
        changed.remove("uv.lock")
    if changed:
        raise ReleaseError(f"Commit or remove these first: {', '.join(changed)}")


def bumped(pyproject: str, version: str) -> str:
    """The ``pyproject`` text with another version.

    Raises:
        ReleaseError: ``version`` is not of the form 1.2.3, or not above the present one.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ReleaseError(f"The version is {version!r}; it must be three numbers, such as 0.2.0")
    present = tomllib.loads(pyproject)["project"]["version"]
    if [int(part) for part in version.split(".")] <= [int(part) for part in present.split(".")]:
        raise ReleaseError(f"The version asked for is {version}; it must be above the present one, {present}")
    return pyproject.replace(f'version = "{present}"', f'version = "{version}"', 1)


def dated(changelog: str, version: str) -> str:
    """Move the unreleased entries of the ``changelog`` text under ``version``.

    Raises:
        ReleaseError: Nothing stands under "## Unreleased".
    """
    head, found, rest = changelog.partition(UNRELEASED + "\n")
    if not found or not rest.split("\n## ", 1)[0].strip():
        raise ReleaseError(f'The changelog has nothing under "{UNRELEASED}"; say there what users get')
    return f"{head}## {version}\n{rest}"


def tag_name(folder: Path) -> str:
    """The tag of the version in ``folder``: distribution, ``-v``, version."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{project['name']}-v{project['version']}"


def prepare(folder: Path, version: str | None) -> None:
    """Write version and changelog; without a version, the present one is released unless it was before."""
    require_clean_tree()
    if version is None:
        if git("tag", "--list", tag_name(folder)):
            raise ReleaseError(f"{tag_name(folder)} exists already; name the new version")
        return
    pyproject, changelog = folder / "pyproject.toml", folder / "CHANGELOG.md"
    texts = (
        bumped(pyproject.read_text(encoding="utf-8"), version),
        dated(changelog.read_text(encoding="utf-8"), version),
    )
    pyproject.write_text(texts[0], encoding="utf-8")
    changelog.write_text(texts[1], encoding="utf-8")


def tag(folder: Path) -> None:
    """Commit what was prepared, tag it, and print what to push."""
    name = tag_name(folder)
    paths = [str(folder / "pyproject.toml"), str(folder / "CHANGELOG.md")]
    if git("status", "--porcelain", "--", *paths):
        git("commit", "-m", f"release: {name}", "--", *paths)
    git("tag", "-a", name, "-m", name)
    print(f"Tagged {name}. To publish: git push origin HEAD {name}")


def main() -> int:
    """``prepare PACKAGE [VERSION]`` or ``tag PACKAGE``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("prepare", "tag"))
    parser.add_argument("package")
    parser.add_argument("version", nargs="?")
    arguments = parser.parse_args()
    folder = ROOT / "packages" / arguments.package
    try:
        if arguments.step == "prepare":
            prepare(folder, arguments.version)
        else:
            tag(folder)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
