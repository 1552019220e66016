"""Keep ``uv.lock`` portable: names, versions, markers, no address (docs/decisions/0001-portable-lock.md)."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = 'source = { registry = "." }'
EXPORT = ("--format", "requirements-txt", "--no-emit-workspace", "--no-dev", "--no-header", "--no-annotate")


def portable(text: str) -> str:
    """Reduce the lock ``text`` to what uv takes as preferences.

    Args:
        text: A complete or already portable ``uv.lock``.

    Returns:
        The header without the workspace's own metadata, then each package from an index with its name,
        version, source ``.`` and resolution markers. Workspace members are left out.
    """
    header, *blocks = text.split("[[package]]\n")
    header = re.split(r"^\[(?:manifest|options)", header, maxsplit=1, flags=re.MULTILINE)[0].strip()
    kept = [header]
    for block in blocks:
        package = tomllib.loads("[[package]]\n" + block)["package"][0]
        if "registry" not in package["source"]:
            continue
        lines = ["[[package]]", f'name = "{package["name"]}"', f'version = "{package["version"]}"', SOURCE]
        markers = package.get("resolution-markers", [])
        if markers:
            lines += ["resolution-markers = [", *(f'    "{marker}",' for marker in markers), "]"]
        kept.append("\n".join(lines))
    return "\n\n".join(kept) + "\n"


def committed(name: str) -> str:
    """The file as git has it staged, since any ``uv run`` rewrites the working copy."""
    shown = subprocess.run(
        ["git", "show", f":{name}"], cwd=ROOT, check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return shown.stdout


def resolved(lock: str, *options: str) -> tuple[str, str]:
    """Resolve the project, taking the versions in ``lock`` as preferences.

    Runs in a copy of the project's metadata, and so leaves the working copy as it is.

    Args:
        lock: A complete or portable lock, or nothing.
        options: Passed on to ``uv lock``.

    Returns:
        The complete lock, and the requirements of the apps with their hashes.

    Raises:
        subprocess.CalledProcessError: uv found no solution, or no index.
    """
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for project in (ROOT / "pyproject.toml", *ROOT.glob("*/*/pyproject.toml")):
            target = copy / project.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(project, target)
        if lock:
            (copy / "uv.lock").write_text(lock, encoding="utf-8")
        subprocess.run(["uv", "lock", "--quiet", *options], cwd=copy, check=True)
        exported = subprocess.run(
            ["uv", "export", "--quiet", *EXPORT], cwd=copy, check=True, capture_output=True, text=True
        )
        return (copy / "uv.lock").read_text(encoding="utf-8"), exported.stdout


def check() -> int:
    """Print which committed lock differs from a new resolution or from the working copy; 1 if one does."""
    lock = committed("uv.lock")
    complete, requirements = resolved(lock)
    differing = []
    if portable(complete) != lock or portable((ROOT / "uv.lock").read_text(encoding="utf-8")) != lock:
        differing.append("uv.lock")
    if requirements != committed("requirements.lock"):
        differing.append("requirements.lock")
    for name in differing:
        print(f"{name} is not what resolves now. Run: nox -s lock, and commit {name}.", file=sys.stderr)
    return 1 if differing else 0


def main() -> int:
    """Without options: make the working copy's ``uv.lock`` portable again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolve", action="store_true", help="resolve first; also write requirements.lock")
    parser.add_argument("--upgrade", action="store_true", help="with --resolve: take the newest versions")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if a lock would change")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    if arguments.resolve:
        lock, requirements = resolved(lock, *(["--upgrade"] if arguments.upgrade else []))
        (ROOT / "requirements.lock").write_text(requirements, encoding="utf-8")
    (ROOT / "uv.lock").write_text(portable(lock), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
